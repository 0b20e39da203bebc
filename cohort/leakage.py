"""Scans that must not be in two splits: the same patient, the same file, or nearly the same image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import fft

from cohort.near_pairs import near_pairs
from cohort.table import SPLITS

# Share of differing bits up to which two images count as nearly the same. Measured: the same scan with noise of 80 HU,
# 20 HU off, windowed to 8 bits, blurred, with half or twice the slices, or with 5 % of them cut off stays within 0.10;
# different patients differ by 0.41 (real volumes), 0.23 (real single slices) and 0.17 (phantoms) at least. False alarms
# stop a user's work, so a scan that was cut or turned more than that goes unnoticed instead.
NEARLY_SAME = 0.12
# Slices below which a scan has no coronal and sagittal view worth comparing.
FEW_SLICES = 8
_RANGE_HU = (-1000.0, 200.0)
_GRID = 32
# Height of each central slab, as a share of its axis: thick enough that a few slices more or less change little.
_SLAB = 0.12
_AXIAL_CENTRES = (0.35, 0.5, 0.65)
# Cosine terms along both axes of a view. Few along the body, where cropped slices stretch the picture.
_AXIAL_TERMS = (16, 16)
_UPRIGHT_TERMS = (8, 32)
# A term counts as structure above this many HU, and a view with fewer such terms than this is too plain to compare.
_LEAST_HU = 0.5
_LEAST_TERMS = 128


@dataclass(frozen=True)
class LeakRecord:
    """The features of a scan by which it is compared with others.

    Attributes:
        scan_id: The scan's name, shown to the user.
        patient_id: The patient, real or as a pseudonym; never shown.
        split: train, val or test.
        source_sha256: Hash of the image file's bytes.
        volume_hash: See `volume_hash`; empty where the image cannot be compared.
    """

    scan_id: str
    patient_id: str
    split: str
    source_sha256: str
    volume_hash: str


def volume_hash(hu: npt.NDArray[np.integer]) -> str:
    """Sum up how a scan looks in a few bits that hardly change with noise, brightness, resampling or cropped slices.

    The central axial, coronal and sagittal slabs, clipped to -1000..200 HU and averaged to 32 x 32 cells, go through a
    cosine transform; each bit is the sign of one of its 256 terms.

    Args:
        hu: (Z, Y, X) in HU, canonical; any size.

    Returns:
        320 hexadecimal digits for five views; 64, of the middle slice alone, for fewer than 8 slices; none where a view
        has too little structure to be told from another.
    """
    few = len(hu) < FEW_SLICES
    views = [(_view(hu, 0, centre), _AXIAL_TERMS) for centre in ((0.5,) if few else _AXIAL_CENTRES)]
    if not few:
        views += [(_view(hu, axis, 0.5), _UPRIGHT_TERMS) for axis in (1, 2)]
    terms = [fft.dctn(view, norm="ortho")[: shape[0], : shape[1]].ravel() for view, shape in views]
    if any(np.count_nonzero(np.abs(values[1:]) > _LEAST_HU) < _LEAST_TERMS for values in terms):
        return ""
    for values in terms:
        values[0] = 0.0  # the mean brightness says nothing
    return np.packbits(np.concatenate(terms) > 0).tobytes().hex()


def find_leaks(records: Sequence[LeakRecord]) -> list[str]:
    """Find the scans that are one patient, one file or nearly one image in two splits.

    Scans of the same split may resemble each other: follow-ups do.

    Args:
        records: The scans of a cohort.

    Returns:
        A sentence per pair of scans, in the records' order; none where all is well.
    """
    reasons: dict[tuple[int, int], list[str]] = {}
    for pair in _same([record.patient_id for record in records], records):
        reasons.setdefault(pair, []).append("the same patient_id")
    for pair in _same([record.source_sha256 for record in records], records):
        reasons.setdefault(pair, []).append("the same file")
    for pair, distance, bits in _similar(records):
        if "the same file" not in reasons.get(pair, []):
            reasons.setdefault(pair, []).append(f"nearly the same image (distance {distance} of {bits})")
    return [_sentence(records[a], records[b], of_pair) for (a, b), of_pair in sorted(reasons.items())]


def look_alikes(hashes: Sequence[str]) -> list[tuple[int, int]]:
    """Return the pairs of scans that show nearly the same image, by their `volume_hash`; few scans, all with all."""
    numbers = [int(text, 16) if text else None for text in hashes]
    return [
        (a, b)
        for (a, first), (b, second) in combinations(enumerate(numbers), 2)
        if first is not None and second is not None and len(hashes[a]) == len(hashes[b])
        if (first ^ second).bit_count() <= NEARLY_SAME * 4 * len(hashes[a])
    ]


def _sentence(a: LeakRecord, b: LeakRecord, reasons: Sequence[str]) -> str:
    return f"scan {a.scan_id} ({a.split}) and scan {b.scan_id} ({b.split}): {', '.join(reasons)}"


def _same(keys: Sequence[str], records: Sequence[LeakRecord]) -> Iterator[tuple[int, int]]:
    """Yield pairs of different splits that share a key."""
    members: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        if key:
            members.setdefault(key, []).append(index)
    for group in members.values():
        yield from ((a, b) for a, b in combinations(group, 2) if records[a].split != records[b].split)


def _similar(records: Sequence[LeakRecord]) -> Iterator[tuple[tuple[int, int], int, int]]:
    """Yield pairs of different splits whose hashes differ little, with the distance and the number of bits."""
    for length in sorted({len(record.volume_hash) for record in records} - {0}):
        chosen = [index for index, record in enumerate(records) if len(record.volume_hash) == length]
        joined = bytes.fromhex("".join(records[index].volume_hash for index in chosen))
        words = np.frombuffer(joined, dtype=np.uint64).reshape(len(chosen), -1)
        limit = int(NEARLY_SAME * 4 * length)
        of_split = {split: [n for n, index in enumerate(chosen) if records[index].split == split] for split in SPLITS}
        for split_a, split_b in combinations(SPLITS, 2):
            a, b = of_split[split_a], of_split[split_b]
            for (row, column), distance in zip(*near_pairs(words[a], words[b], limit), strict=True):
                first, second = sorted((chosen[a[row]], chosen[b[column]]))
                yield (first, second), int(distance), 4 * length


def _view(hu: npt.NDArray[np.integer], axis: int, centre: float) -> npt.NDArray[np.float64]:
    """Return the mean of a central slab along one axis, averaged to the grid: float64 (32, 32)."""
    length = hu.shape[axis]
    half = max(_SLAB * length, 1.0) / 2
    weights = _overlaps(length, np.array([centre * length - half]), np.array([centre * length + half]))[0]
    used = np.flatnonzero(weights)
    slab = np.moveaxis(hu, axis, 0)[used[0] : used[-1] + 1].astype(np.float32).clip(*_RANGE_HU)
    image = np.tensordot(weights[used[0] : used[-1] + 1], slab, axes=1)
    return _cells(image.shape[0]) @ image @ _cells(image.shape[1]).T


def _cells(length: int) -> npt.NDArray[np.float64]:
    """Return the weights that average an axis to 32 cells: float64 (32, length)."""
    edges = np.linspace(0, length, _GRID + 1)
    return _overlaps(length, edges[:-1], edges[1:])


def _overlaps(length: int, start: npt.NDArray[np.float64], end: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the share of each interval that lies in each pixel 0..length: float64 (intervals, length)."""
    pixel = np.arange(length)
    inside = np.minimum(end[:, None], pixel + 1) - np.maximum(start[:, None], pixel)
    return inside.clip(min=0) / inside.clip(min=0).sum(axis=1, keepdims=True)
