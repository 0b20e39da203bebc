"""Pairs of bit strings that differ in few bits: exactly all of them, without comparing all with all.

By the pigeonhole principle: two strings that differ in at most r bits, cut into m parts, differ in at most t bits in at
least one part wherever m (t + 1) > r. So only pairs that nearly agree in a part are compared, and those are looked up
(multi-index hashing: Norouzi, Punjani and Fleet, 2014). Where strings are so alike that parts tell little, all are
compared with all instead; the pairs are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]  # (strings, words)
Pairs = npt.NDArray[np.int64]  # (pairs, 2): a row of the one, a row of the other

# A table of what occurs in a part has 2 ** bits bytes.
MOST_BITS = 26
MOST_TOLERANCE = 2
THREADS = 2
SAMPLE, SAMPLED_PARTS = 256, 8
# Nanoseconds, measured on one core: a pair in `_all_with_all`, a key that is looked up, a pair that is then compared.
PER_PAIR, PER_PROBE, PER_CANDIDATE = 15.0, 10.0, 250.0
_BLOCK = 32
_FIRST_WORDS = 6
_AT_ONCE = 1 << 17


def near_pairs(a: Words, b: Words, limit: int) -> tuple[Pairs, npt.NDArray[np.int64]]:
    """Find all pairs of a string of `a` and one of `b` that differ in at most `limit` bits.

    Args:
        a: uint64 (A, words).
        b: uint64 (B, words).
        limit: r, fewer than the bits of a string.

    Returns:
        int64 (pairs, 2), rows of a and of b, in order, and int64 (pairs,), the bits in which they differ.
    """
    if len(a) < len(b):  # what is looked up is the shorter list
        pairs, distances = near_pairs(b, a, limit)
        order = np.lexsort((pairs[:, 0], pairs[:, 1]))
        return pairs[order, ::-1], distances[order]
    plan = _cheapest_plan(a, b, limit)
    found = _all_with_all(a, b, limit) if plan is None else _by_parts(a, b, limit, plan)
    blocks = [block for block in found if len(block)] or [np.empty((0, 2), np.int64)]
    pairs = np.unique(np.concatenate(blocks), axis=0)
    return pairs, _distances(a, b, pairs)


@dataclass(frozen=True)
class _Plan:
    """How strings are cut.

    Attributes:
        parts: The bits of each part; neighbours, which are alike, lie in different parts.
        tolerance: t, bits in which pairs may differ in a part.
    """

    parts: tuple[npt.NDArray[np.int64], ...]
    tolerance: int

    @property
    def probes(self) -> int:
        """The number of keys that are looked up for a string, over all parts."""
        return sum(math.comb(len(bits), errors) for bits in self.parts for errors in range(self.tolerance + 1))


def _cheapest_plan(a: Words, b: Words, limit: int) -> _Plan | None:
    """Return the plan that is likely to be fastest, or None where comparing all with all is."""
    best, cheapest = None, PER_PAIR * len(a) * len(b)
    bits = a.shape[1] * 64
    for tolerance in range(MOST_TOLERANCE + 1):
        count = limit // (tolerance + 1) + 1
        plan = _Plan(tuple(np.arange(part, bits, count) for part in range(count)), tolerance)
        if count > bits or max(map(len, plan.parts)) > MOST_BITS:
            continue
        cost = PER_PROBE * plan.probes * len(b)
        if cost < cheapest:
            cost += PER_CANDIDATE * _expected_candidates(a, b, plan)
        if cost < cheapest:
            best, cheapest = plan, cost
    return best


def _expected_candidates(a: Words, b: Words, plan: _Plan) -> float:
    """Estimate from a sample how many pairs nearly agree in a part."""
    generator = np.random.default_rng(0)
    rows, columns = (generator.integers(len(each), size=SAMPLE) for each in (a, b))
    total = 0
    parts = plan.parts[:: max(1, len(plan.parts) // SAMPLED_PARTS)]
    for bits in parts:
        apart = _keys(a[rows], bits)[:, None] ^ _keys(b[columns], bits)[None]
        total += int(np.count_nonzero(np.bitwise_count(apart) <= plan.tolerance))
    return total / SAMPLE**2 * len(plan.parts) / len(parts) * len(a) * len(b)


def _by_parts(a: Words, b: Words, limit: int, plan: _Plan) -> Iterator[Pairs]:
    # The same word of all strings together, as keys are made of it.
    columns = np.asfortranarray(a), np.asfortranarray(b)
    rows = _with_first_words(a), _with_first_words(b)

    def search(bits: npt.NDArray[np.int64]) -> list[Pairs]:
        keys = _keys(columns[0], bits), _keys(columns[1], bits)
        return [_that_differ_little(*rows, pairs, limit) for pairs in _candidates(*keys, len(bits), plan.tolerance)]

    with ThreadPoolExecutor(THREADS) as pool:
        for near in pool.map(search, plan.parts):
            yield from near


def _keys(words: Words, bits: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """Put some bits of every string together: uint32 (strings,)."""
    keys = np.zeros(len(words), np.uint32)
    for place, bit in enumerate(bits):
        keys |= ((words[:, bit // 64] >> np.uint64(bit % 64)) & np.uint64(1)).astype(np.uint32) << np.uint32(place)
    return keys


def _candidates(a: npt.NDArray[np.uint32], b: npt.NDArray[np.uint32], bits: int, tolerance: int) -> Iterator[Pairs]:
    """Yield the pairs whose keys differ in at most `tolerance` bits, each once, in blocks."""
    # Both in order, so that what is looked up in turn lies close together.
    order, order_b = np.argsort(a, kind="stable"), np.argsort(b, kind="stable")
    keys, b = a[order], b[order_b]
    occurs = np.zeros(1 << bits, bool)
    occurs[a] = True
    waiting: list[Pairs] = []
    for flips in _flips(bits, tolerance):
        wanted = b ^ flips
        rows = np.flatnonzero(occurs[wanted])
        first = np.searchsorted(keys, wanted[rows], "left")
        counts = np.searchsorted(keys, wanted[rows], "right") - first
        places = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        waiting.append(np.stack([order[places], np.repeat(order_b[rows], counts)], axis=1))
        if sum(map(len, waiting)) > _AT_ONCE:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _flips(bits: int, tolerance: int) -> Iterator[np.uint32]:
    """Yield every number of so many bits of which at most `tolerance` are set."""
    for errors in range(tolerance + 1):
        for chosen in combinations(range(bits), errors):
            yield np.uint32(sum(1 << place for place in chosen))


def _that_differ_little(a: tuple[Words, Words], b: tuple[Words, Words], pairs: Pairs, limit: int) -> Pairs:
    """Return the pairs that differ in at most `limit` bits; as a rule the first words of strings tell, given first."""
    for words_a, words_b in zip(a, b, strict=True):
        pairs = pairs[_distances(words_a, words_b, pairs) <= limit]
    return pairs


def _with_first_words(words: Words) -> tuple[Words, Words]:
    return np.ascontiguousarray(words[:, :_FIRST_WORDS]), np.ascontiguousarray(words)


def _distances(a: Words, b: Words, pairs: Pairs) -> npt.NDArray[np.int64]:
    distances = np.empty(len(pairs), np.int64)
    for start in range(0, len(pairs), _AT_ONCE):
        block = pairs[start : start + _AT_ONCE]
        apart = np.bitwise_count(a.take(block[:, 0], 0) ^ b.take(block[:, 1], 0))
        distances[start : start + _AT_ONCE] = np.einsum("ij->i", apart, dtype=np.int64)
    return distances


def _all_with_all(a: Words, b: Words, limit: int) -> Iterator[Pairs]:
    columns, strings = np.asfortranarray(a), (_with_first_words(a), _with_first_words(b))

    def search(start: int) -> Pairs:
        block = b[start : start + _BLOCK]
        first, rest = np.split(np.arange(a.shape[1]), [_FIRST_WORDS])
        apart = _bits_apart(block, columns, first)
        rows, places = np.divmod(np.flatnonzero(apart <= limit), max(1, len(a)))
        if len(rows) > apart.size // 20:
            rows, places = np.nonzero(apart + _bits_apart(block, columns, rest) <= limit)
        pairs = np.stack([places, rows + start], axis=1)
        return _that_differ_little(*strings, pairs, limit)

    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(search, range(0, len(b), _BLOCK))


def _bits_apart(a: Words, b: Words, words: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    """Count the differing bits of some words: uint16 (len(a), len(b))."""
    distance = np.zeros((len(a), len(b)), dtype=np.uint16)
    for word in words:
        distance += np.bitwise_count(a[:, None, word] ^ b[None, :, word])
    return distance
