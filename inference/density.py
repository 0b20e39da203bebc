"""Density of lungs, lobes and halves, with and without their vessels, and what makes it mean little."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct.densitometry import BINS, MEASURES, density_of, histograms
from ct.files.dicom.acquisitions import FUNCTIONAL_GROUPS
from ct.files.dicom.tags import Tags, read_dataset
from ct.lungs.fissure_shapes import LOBES
from ct.lungs.lobes import sides_of_lobes
from ct.lungs.sides import LEFT, sides_of_slices
from ct.lungs.vessels import vessel_mask
from ct.refusal import Refusal, Sentence, Word
from ct.scan import Scan
from inference.measure import SIDES
from inference.result import Measurements

BoolArray = NDArray[np.bool_]

# In front of and behind the coronal plane half way through both lungs, in the order of their numbers in `_numbers`.
HALVES = ("ventral", "dorsal")
WITHOUT_VESSELS = "without_vessels"

# Histograms change little from 1 to 3 mm (2 % of well-aerated lung: Berta et al., Phys Med 82:28, 2021) and strongly
# from 1 to 10 mm (Kemerink et al., J Comput Assist Tomogr 21:948, 1997).
MOST_SLICE_MM = 3.0
# The emphysema index is stable down to 30 mAs, and sizes of its holes to 50 (Zaporozhan et al., J Comput Assist Tomogr
# 30:460, 2006).
LEAST_MAS = 30.0
# Sharp kernels raise the share below -950 HU by 7 points (Gallardo-Estrella et al., Eur Radiol 26:478, 2016). By maker:
# Siemens counts sharpness from 10 to 99 after its letters, and advises 50 and more for high sharpness; GE; Canon's lung
# and high-resolution kernels; Philips.
SHARP_KERNELS = {
    "SIEMENS": r"[A-Z]{1,2}[5-9]\d[A-Z]?",
    "GE": r"(HD ?)?(LUNG|EDGE|BONE(PLUS|\+)?)",
    "CANON": r"FC[58]\d[A-Z]?",
    "TOSHIBA": r"FC[58]\d[A-Z]?",
    "PHILIPS": r"Y[A-D]|[DEL]",
}
# What is written where no agent was given, or where it was drunk.
NO_AGENT = ("", "NONE", "NO", "N", "NO CONTRAST", "NON-CONTRAST", "WITHOUT", "NATIVE", "ORAL")

UNKNOWN_SPACING = Sentence(
    "the spacing of the scan is unknown, so the lungs' density has no mass, and no vessels were left out"
)
ESTIMATED = Sentence("HU are estimated from grey values, so every density of the lungs is a rough estimate")
DECLARED = Sentence("HU are declared greys, cut off at both ends, so every density of the lungs is a rough estimate")


def measure_density(
    scan: Scan, lung: BoolArray, lobes: NDArray[np.int8] | None = None, opacity: BoolArray | None = None
) -> Measurements:
    """Measure the density of the lungs and their parts.

    The ventral and the dorsal half lie in front of and behind the coronal plane half way between the front and the back
    of both lungs together; a row of voxels in the plane itself is dorsal. The scan is canonical and the plane hangs on
    the lungs: it does not matter how the patient lay, how the file is oriented, or what the field of view shows beside
    the lungs. Right and left are those of `inference.measure`.

    Args:
        scan: The scan.
        lung: bool (Z, Y, X), the lungs on its canonical grid.
        lobes: int8 (Z, Y, X), 0 outside, 1 to 5 in the order of `LOBES`; None where the lobes are unknown.
        opacity: bool (Z, Y, X), opacities, which are no vessels; None where there are none or nobody looked.

    Returns:
        `<region>_<measure>` of all voxels, then `<region>_<measure>_without_vessels`, for the regions `lung`, `right`,
        `left`, the five lobes, `ventral` and `dorsal`, and the measures of `ct.densitometry.density_of`. None where a
        region is empty or unknown, or a measure undefined; without a known spacing there are no masses, and as vessels
        cannot be told then, nothing without them.
    """
    vessels = vessel_mask(scan.hu, lung, scan.spacing_mm, opacity) if scan.spacing_known else None
    shape = (len(SIDES), len(LOBES) + 1, len(HALVES), 2)
    numbers = _numbers(scan, lung, lobes, vessels, shape)
    table = histograms(scan.hu, numbers, int(np.prod(shape))).reshape(*shape, BINS)
    voxel_ml = scan.voxel_ml if scan.spacing_known else None
    measured: Measurements = {}
    for region, part in _regions().items():
        with_vessels, bare = table[part].reshape(-1, 2, BINS).sum((0, 1)), table[part][..., 0, :].reshape(-1, BINS)
        without = dict.fromkeys(MEASURES) if vessels is None else density_of(bare.sum(0), voxel_ml)
        measured |= {f"{region}_{name}": value for name, value in density_of(with_vessels, voxel_ml).items()}
        measured |= {f"{region}_{name}_{WITHOUT_VESSELS}": value for name, value in without.items()}
    return measured


def _regions() -> dict[str, tuple[Any, ...]]:
    """Return the part of the table (side, lobe, half, vessel, bin) that belongs to each region."""
    every = slice(None)
    sides = {side: (row,) for row, side in enumerate(SIDES)}
    lobes = {lobe: (every, number) for number, lobe in enumerate(LOBES, 1)}
    halves = {half: (every, every, number) for number, half in enumerate(HALVES)}
    return {"lung": (every,)} | sides | lobes | halves


def _numbers(
    scan: Scan, lung: BoolArray, lobes: NDArray[np.int8] | None, vessels: BoolArray | None, shape: tuple[int, ...]
) -> Iterator[NDArray[np.int8]]:
    """Yield for each slice the number of every voxel's cell (side, lobe, half, vessel) of `shape`, -1 outside."""
    rows = np.flatnonzero(lung.any((0, 2)))
    dorsal = 2 * np.arange(lung.shape[1]) >= (rows[0] + rows[-1] if rows.size else 0)
    half = np.repeat(dorsal.astype(np.int8), lung.shape[2])
    all_sides = sides_of_slices(lung, scan.spacing_mm) if lobes is None else sides_of_lobes(lobes)
    for z, (inside, sides) in enumerate(zip(lung, all_sides, strict=True)):
        voxels = np.flatnonzero(inside)
        side = (sides.take(voxels) == LEFT).astype(np.int8)  # in the order of `SIDES`
        lobe = np.int8(0) if lobes is None else lobes[z].take(voxels)
        vessel = np.int8(0) if vessels is None else vessels[z].take(voxels).view(np.int8)
        plane = np.full(inside.shape, -1, dtype=np.int8)
        plane.flat[voxels] = ((side * shape[1] + lobe) * shape[2] + half.take(voxels)) * shape[3] + vessel
        yield plane


def density_warnings(scan: Scan) -> tuple[Sentence, ...]:
    """Say why the densities of a scan mean little, or cannot be compared with those of others.

    Kernel, tube current, contrast medium and thickness are those of the middle slice of a DICOM series. A file that
    cannot hold them, as NIfTI, is judged by the distance of its slices alone: that the rest is unknown is true of every
    such file, and not worth a sentence in each result.

    Args:
        scan: The scan.

    Returns:
        A sentence for each reason: greys instead of HU, unknown spacing, thick slices, a sharp kernel, contrast medium,
        a low dose.
    """
    header = _Header.of_middle(scan)
    reasons = (*_scale(scan), *_thick(scan, header))
    return reasons if header is None else (*reasons, *_sharp(header), *_enhanced(header), *_noisy(header))


@dataclass(frozen=True, eq=False)
class _Header:
    """The tags of one slice, plain or at the places where enhanced files keep them, the nearest first."""

    levels: tuple[Tags, ...]

    @classmethod
    def of_middle(cls, scan: Scan) -> "_Header | None":
        """Read the header of the middle slice; None without one, or where its file has gone."""
        if not scan.frames:
            return None
        frame = scan.frames[len(scan.frames) // 2]
        try:
            top = Tags(frame.file, read_dataset(frame.file))
            own = top.items("PerFrameFunctionalGroupsSequence")[frame.index : frame.index + 1]
            items = [*own, *top.items("SharedFunctionalGroupsSequence")]
            groups = [group for item in items for name in FUNCTIONAL_GROUPS for group in item.items(name)]
        except Refusal:
            return None
        return cls((*groups, top))

    def words(self, tag: str) -> tuple[str, ...]:
        """Return the text values of a tag in capitals; none where it is missing or damaged."""
        for level in self.levels:
            with suppress(Refusal):
                if words := level.words(tag):
                    return words
        return ()

    def number(self, tag: str) -> float | None:
        """Return a number above 0; None where it is missing, damaged or 0, which stands for missing."""
        for level in self.levels:
            with suppress(Refusal):
                if (number := float(level.numbers(tag, 1)[0])) > 0:
                    return number
        return None


def _scale(scan: Scan) -> Iterator[Sentence]:
    if scan.grey_windows:
        yield ESTIMATED if scan.estimated_windows else DECLARED
    if not scan.spacing_known:
        yield UNKNOWN_SPACING


def _thick(scan: Scan, header: _Header | None) -> Iterator[Sentence]:
    thickness_mm = header.number("SliceThickness") if header else None
    mm = thickness_mm or (scan.spacing_mm[0] if scan.spacing_known else 0.0)
    if mm > MOST_SLICE_MM:
        yield Sentence(
            "slices {are} {mm:.3g} mm {away}, more than {most:g} mm: they average holes with the lung around them, so "
            "emphysema, percentiles and spread cannot be compared with those of thin slices",
            are=Word("are" if thickness_mm else "lie"),
            mm=mm,
            away=Word("thick" if thickness_mm else "apart"),
            most=MOST_SLICE_MM,
        )


def _sharp(header: _Header) -> Iterator[Sentence]:
    maker = " ".join(header.words("Manufacturer"))
    patterns = [pattern for name, pattern in SHARP_KERNELS.items() if re.search(rf"\b{name}", maker)]
    for kernel in header.words("ConvolutionKernel"):
        if any(re.fullmatch(pattern, kernel) for pattern in patterns):
            yield Sentence(
                "the kernel is sharp: its noise raises emphysema and spread and lowers the percentile; give "
                "the reconstruction with a soft kernel where there is one",
            )
            return


def _enhanced(header: _Header) -> Iterator[Sentence]:
    agents = {word for tag in ("ContrastBolusAgent", "ContrastBolusRoute") for word in header.words(tag)}
    administered = header.words("ContrastBolusAgent") or "YES" in header.words("ContrastBolusAgentAdministered")
    if administered and not agents & set(NO_AGENT):
        yield Sentence(
            "contrast medium was given: it raises mean HU, mass and high attenuation areas and lowers emphysema"
        )


def _noisy(header: _Header) -> Iterator[Sentence]:
    mas = header.number("ExposureInmAs") or header.number("Exposure") or (header.number("ExposureInuAs") or 0) / 1000
    if 0 < mas < LEAST_MAS:
        yield Sentence(
            "the dose is low, {mas:.3g} mAs, less than {least:g}: noise raises emphysema and spread and lowers the "
            "percentile",
            mas=mas,
            least=LEAST_MAS,
        )
