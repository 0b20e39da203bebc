import numpy as np
import pytest
from numpy.typing import NDArray

import cohort.near_pairs as module
from cohort.leakage import NEARLY_SAME, LeakRecord, find_leaks
from cohort.near_pairs import near_pairs


def brute_force(a: NDArray[np.uint64], b: NDArray[np.uint64], limit: int) -> dict[tuple[int, int], int]:
    """Compare all with all, bit by bit: the dot product of signs tells how many agree."""
    signs = [1 - 2 * np.unpackbits(words.view(np.uint8), axis=1).astype(np.float32) for words in (a, b)]
    bits = signs[0].shape[1]
    near: dict[tuple[int, int], int] = {}
    for start in range(0, len(a), 256):
        apart = (bits - signs[0][start : start + 256] @ signs[1].T) / 2
        near |= {(start + int(r), int(c)): int(apart[r, c]) for r, c in zip(*np.nonzero(apart <= limit), strict=True)}
    return near


def strings(count: int, bits: int, seed: int, likely: float = 0.5) -> NDArray[np.uint64]:
    """Bits that are set as likely as that."""
    drawn = np.random.default_rng(seed).random((count, bits)) < likely
    return np.packbits(drawn, axis=1).view(np.uint64)


def flipped(words: NDArray[np.uint64], errors: int, seed: int) -> NDArray[np.uint64]:
    """One string with exactly so many bits turned."""
    bits = np.unpackbits(words.view(np.uint8))
    bits[np.random.default_rng(seed).choice(len(bits), errors, replace=False)] ^= 1
    return np.packbits(bits).view(np.uint64)


def with_planted(
    a: NDArray[np.uint64], b: NDArray[np.uint64], limit: int
) -> tuple[NDArray[np.uint64], set[tuple[int, int]]]:
    """Make some of `b` near copies of `a`, with as many differing bits as are allowed and one more; return the near."""
    b, near = b.copy(), set()
    for number, errors in enumerate([0, 1, limit // 2, limit - 1, limit, limit, limit + 1, limit + 2]):
        row, column = (number * 37) % len(a), (number * 61) % len(b)
        b[column] = flipped(a[row], errors, number)
        if errors <= limit:
            near.add((row, column))
    return b, near


@pytest.mark.parametrize("bits", [256, 1280])
@pytest.mark.parametrize("likely", [0.5, 0.2])
@pytest.mark.parametrize(("count_a", "count_b"), [(700, 300), (90, 400), (1, 1), (1, 50)])
@pytest.mark.parametrize("way", ["chosen", "parts 0", "parts 1", "parts 2", "all"])
def test_the_pairs_of_every_way_are_those_of_brute_force(
    bits: int, likely: float, count_a: int, count_b: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = int(NEARLY_SAME * bits)
    a, b = strings(count_a, bits, 0, likely), strings(count_b, bits, 1, likely)
    if min(count_a, count_b) > 1:
        b, planted = with_planted(a, b, limit)
        assert planted <= set(brute_force(a, b, limit))
    if way != "chosen":
        tolerance = int(way[-1]) if way != "all" else None
        monkeypatch.setattr(module, "_cheapest_plan", lambda a, b, limit: plan_of(bits, limit, tolerance))
    pairs, distances = near_pairs(a, b, limit)
    found = {(int(row), int(column)): int(n) for (row, column), n in zip(pairs, distances, strict=True)}
    assert found == brute_force(a, b, limit)
    assert len(found) == len(pairs)
    assert [tuple(pair) for pair in pairs] == sorted(tuple(pair) for pair in pairs)


def plan_of(bits: int, limit: int, tolerance: int | None) -> object:
    if tolerance is None:
        return None
    count = limit // (tolerance + 1) + 1
    return module._Plan(tuple(np.arange(part, bits, count) for part in range(count)), tolerance)


def test_no_strings_have_no_pairs() -> None:
    none = np.empty((0, 20), np.uint64)
    for a, b in ((none, none), (none, strings(3, 1280, 0)), (strings(3, 1280, 0), none)):
        pairs, distances = near_pairs(a, b, 153)
        assert pairs.shape == (0, 2)
        assert distances.shape == (0,)


def test_strings_of_chance_are_looked_up_and_those_that_are_alike_compared() -> None:
    chance = strings(20_000, 1280, 0), strings(4_000, 1280, 1)
    plan = module._cheapest_plan(*chance, 153)
    assert plan is not None
    assert len(plan.parts) * (plan.tolerance + 1) > 153
    np.testing.assert_array_equal(np.sort(np.concatenate(plan.parts)), np.arange(1280))
    assert module._cheapest_plan(strings(20_000, 1280, 0, 0.1), strings(4_000, 1280, 1, 0.1), 153) is None


@pytest.mark.slow
def test_twenty_thousand_signatures_with_planted_leaks() -> None:
    limit = int(NEARLY_SAME * 1280)
    words = strings(20_000, 1280, 0)
    split = np.array(["train", "val", "test"])[np.random.default_rng(1).choice(3, len(words), p=[0.8, 0.1, 0.1])]
    for number in range(300):
        words[19_000 + number] = flipped(words[number], number % (limit + 20), number)
    records = [LeakRecord(f"s{n}", f"p{n}", split[n], f"h{n}", row.tobytes().hex()) for n, row in enumerate(words)]
    near = {
        f"scan s{number} ({split[number]}) and scan s{19_000 + number} ({split[19_000 + number]}): nearly the same "
        f"image (distance {number % (limit + 20)} of 1280)"
        for number in range(300)
        if number % (limit + 20) <= limit and split[number] != split[19_000 + number]
    }
    assert len(near) > 50
    assert set(find_leaks(records)) == near
    parts = {name: np.flatnonzero(split == name) for name in ("train", "val", "test")}
    exact = brute_force(words[parts["train"]], words[parts["val"]], limit)
    pairs, _ = near_pairs(words[parts["train"]], words[parts["val"]], limit)
    assert {tuple(map(int, pair)) for pair in pairs} == set(exact)
