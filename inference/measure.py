"""Measurements of masks: volumes, shares by region, density, and the papers' scores."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct.classes import CONSOLIDATION, ClassSet
from ct.lungs.fissure_shapes import LOBES
from ct.lungs.lobes import sides_of_lobes
from ct.lungs.sides import LEFT, sides_of_slices
from ct.scan import Scan
from inference.result import Masks, Measurements

SIDES = ("right", "left")  # as a radiologist looks at a chest: the patient's right is on the left
THIRDS = ("lower", "middle", "upper")  # from the foot, as z runs
AIR_HU = -1000.0


def _codes_of_findings(masks: Masks, classes: ClassSet) -> dict[str, tuple[int, ...]]:
    """Return the findings inside the lungs that masks hold, each with its codes of `_codes`."""
    if "groups" in masks:
        leaves, unions = len(classes.leaves), _unions(masks, classes)
        codes = range(leaves << len(unions))
        of_union = {key: tuple(c for c in codes if c // leaves >> bit & 1) for bit, key in enumerate(unions)}
        inside = (index for index in classes.foreground if classes.leaves[index].in_lungs)
        return of_union | {classes.leaves[i].key: tuple(c for c in codes if c % leaves == i) for i in inside}
    names = [name for name in masks if name != "lungs"]
    return {name: tuple(range(number, len(names) + 1)) for number, name in enumerate(names, 1)}


def _unions(masks: Masks, classes: ClassSet) -> list[str]:
    return [finding.key for finding in classes.findings if finding.key in masks]


def measure(scan: Scan, masks: Masks, classes: ClassSet, lobes: NDArray[np.int8] | None = None) -> Measurements:
    """Measure a segmented scan on its own grid.

    Severity, the share of the outermost finding, and consolidation score are equations 14 and 15 of paper EM;
    `wal_percent` is the well-aerated share of the lungs (paper L3). Findings outside the lungs have a volume, a density
    and a mass, but no share of the lungs. Regions are each lung, the thirds of its own height, and the five lobes. Mass
    is that of tissue with the density of water at 0 HU and of nothing at -1000 HU and below: the sum over voxels of
    max(HU + 1000, 0) / 1000 g/ml.

    Args:
        scan: The scan.
        masks: Its masks, as in `inference.result.Result`; lungs are not empty.
        classes: The model's class set.
        lobes: int8 (Z, Y, X), 0 outside, 1 .. 5 in the order of `LOBES`; None where they are unknown.

    Returns:
        Values by name; those of unknown lobes are None. `_ml` and `_g` are None where the spacing is unknown, mean HU
        where the finding is empty, shares where a region has no lung.
    """
    voxels, hu_sum, mass_hu, of_lobes = _tables(scan, masks, classes, lobes)
    findings = _codes_of_findings(masks, classes)
    ml = scan.voxel_ml if scan.spacing_known else None
    total, lung = voxels.sum((0, 1)), voxels.sum()
    measured: Measurements = {"lung_ml": _times(lung, ml), "lung_mean_hu": float(hu_sum.sum() / lung)}
    for name, codes in findings.items():
        count = total[list(codes)].sum()
        density = mass_hu.sum((0, 1))[list(codes)].sum() / 1000
        measured[f"{name}_ml"] = _times(count, ml)
        measured[f"{name}_mean_hu"] = float(hu_sum.sum((0, 1))[list(codes)].sum() / count) if count else None
        measured[f"{name}_mass_g"] = _times(density, ml)
    measured |= _outside(scan, masks, classes, ml) | _scores(total, findings, classes, "groups" in masks)
    for region, (side, thirds) in _regions().items():
        measured |= _of_region(region, voxels[side, thirds].sum(0), findings, ml)
    for number, lobe in enumerate(LOBES):
        of_lobe = _of_region(lobe, of_lobes[number], findings, ml)
        measured |= of_lobe if lobes is not None else dict.fromkeys(of_lobe)
    return measured


def _times(count: Any, ml: float | None) -> float | None:
    return None if ml is None else float(count) * ml


def _outside(scan: Scan, masks: Masks, classes: ClassSet, ml: float | None) -> Measurements:
    """Return volume, mean HU and mass of each foreground leaf outside the lungs."""
    measured: Measurements = {}
    for index in classes.outside if "groups" in masks else ():
        hu = scan.hu[masks["groups"] == index].astype(np.float64)
        key = classes.leaves[index].key
        measured[f"{key}_ml"] = _times(hu.size, ml)
        measured[f"{key}_mean_hu"] = float(hu.mean()) if hu.size else None
        measured[f"{key}_mass_g"] = _times((np.maximum(hu, AIR_HU) - AIR_HU).sum() / 1000, ml)
    return measured


def _scores(
    total: NDArray[np.int64], findings: dict[str, tuple[int, ...]], classes: ClassSet, multi_class: bool
) -> Measurements:
    lung = int(total.sum())
    severity = float(total[list(findings[classes.findings[0].key])].sum() / lung)
    scores: Measurements = {"severity_score": severity}
    dense = consolidation_key(classes, multi_class)
    if dense in findings:
        scores["consolidation_score"] = float(total[list(findings[dense])].sum() / lung)
    if multi_class:
        scores["wal_percent"] = 100 * (1 - severity)
    return scores


def consolidation_key(classes: ClassSet, multi_class: bool) -> str:
    """Return the key under which consolidation is measured: its finding or leaf; "" where the set has none."""
    if not classes.has(CONSOLIDATION):
        return ""
    return classes.finding(CONSOLIDATION).leaves[0] if multi_class else CONSOLIDATION


def _regions() -> dict[str, tuple[int, list[int]]]:
    """Return the rows of the tables that belong to each region: (side, thirds)."""
    whole = {side: (row, [0, 1, 2]) for row, side in enumerate(SIDES)}
    parts = {
        f"{side}_{third}": (row, [column]) for row, side in enumerate(SIDES) for column, third in enumerate(THIRDS)
    }
    return whole | parts


def _of_region(
    region: str, counts: NDArray[np.int64], findings: dict[str, tuple[int, ...]], ml: float | None
) -> Measurements:
    lung = int(counts.sum())
    measured: Measurements = {f"{region}_lung_ml": _times(lung, ml)}
    for name, codes in findings.items():
        count = int(counts[list(codes)].sum())
        measured[f"{region}_{name}_ml"] = _times(count, ml)
        measured[f"{region}_{name}_share"] = count / lung if lung else None
    return measured


def _tables(
    scan: Scan, masks: Masks, classes: ClassSet, lobes: NDArray[np.int8] | None
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return voxels, sums of HU and of HU above air, each (2 sides, 3 thirds, codes), and voxels (5 lobes, codes)."""
    codes = max(max(of_finding) for of_finding in _codes_of_findings(masks, classes).values()) + 1
    lungs = masks["lungs"].astype(np.bool_, copy=False)
    of_lobes = np.zeros((len(LOBES) + 1, codes), dtype=np.int64)
    by_slice = np.zeros((3, len(lungs), len(SIDES), codes))  # slice by slice, to need no memory of a scan's size
    all_sides = sides_of_slices(lungs, scan.spacing_mm) if lobes is None else sides_of_lobes(lobes)
    for z, (inside, sides) in enumerate(zip(lungs, all_sides, strict=True)):
        pixels = np.flatnonzero(inside)  # `take` is faster than a mask as an index
        row = (sides.take(pixels) == LEFT).astype(np.intp)  # in the order of `SIDES`
        code = _codes(masks, classes, z, pixels)
        if lobes is not None:
            lobe = lobes[z].take(pixels).astype(np.intp)
            of_lobes += np.bincount(code + codes * lobe, minlength=of_lobes.size).reshape(of_lobes.shape)
        code = code + codes * row
        hu = scan.hu[z].take(pixels).astype(np.float64)
        for table, weight in zip(by_slice[:, z], (None, hu, np.maximum(hu, AIR_HU) - AIR_HU), strict=True):
            table.flat = np.bincount(code, weight, table.size)
    tables = np.zeros((3, len(SIDES), len(THIRDS), codes))
    for side in range(len(SIDES)):
        heights = np.flatnonzero(by_slice[0, :, side].any(1)).tolist()
        for z in heights:
            third = (z - heights[0]) * len(THIRDS) // (heights[-1] - heights[0] + 1)
            tables[:, side, third] += by_slice[:, z, side]
    return tables[0].astype(np.int64), tables[1], tables[2], of_lobes[1:]


def _codes(masks: Masks, classes: ClassSet, z: int, pixels: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Return the codes of pixels of a slice: the number of nested findings that hold a pixel, or its leaf and unions.

    Three leaves together can be likelier than normal lung, and each alone less likely: then a union has no leaf.
    """
    if "groups" in masks:
        unions = [(masks[key][z].take(pixels) > 0) << bit for bit, key in enumerate(_unions(masks, classes))]
        return (masks["groups"][z].take(pixels) + len(classes.leaves) * np.sum(unions, axis=0)).astype(np.uint8)
    nested = [mask[z].take(pixels) for name, mask in masks.items() if name != "lungs"]
    return np.sum(nested, axis=0, dtype=np.uint8)


def spread(shares: dict[str, list[float]], lung_ml: float | None) -> Measurements:
    """Return the standard deviation in ml over several answers as `<finding>_ml_spread`; {} for a single answer."""
    several = {name: values for name, values in shares.items() if len(values) > 1}
    return {
        f"{name}_ml_spread": None if lung_ml is None else float(np.std(values, ddof=1)) * lung_ml
        for name, values in several.items()
    }
