"""The comparison of hashes leaves off early; what it finds must be what comparing all bits finds."""

import numpy as np
import pytest

from cohort.leakage import _near_pairs


@pytest.mark.parametrize("words", [4, 20])
@pytest.mark.parametrize("share_of_ones", [0.5, 0.1])  # of 0.1, most pairs are near
def test_near_pairs_are_those_of_all_bits(words: int, share_of_ones: float) -> None:
    rng = np.random.default_rng(words)
    a = np.packbits(rng.random((70, words * 64)) < share_of_ones, axis=1).view(np.uint64)
    others = np.packbits(rng.random((30, words * 64)) < share_of_ones, axis=1).view(np.uint64)
    b = np.concatenate([a[:40] ^ np.uint64(5), others])
    most = int(0.12 * 64 * words)
    distance = np.array([[int(x).bit_count() for x in (row ^ b).ravel()] for row in a])
    distance = distance.reshape(len(a), len(b), words).sum(2)
    expected = [(r, c, distance[r, c]) for r, c in np.argwhere(distance <= most)]
    assert list(_near_pairs(a, b, most)) == expected
    assert len(expected) >= 40
