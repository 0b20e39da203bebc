"""Preparation of one scan of a cohort: its prepared folder, whole or not at all."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cohort.leakage import volume_hash
from cohort.prepare.checksums import write_record
from cohort.prepare.places import MAKING, scan_folder
from cohort.prepare.sources import FORMAT_VERSION, hash_content, prepared_key, remember, stamp_of
from cohort.table import CohortRow
from ct.classes import INFECTION, L3, ClassSet
from ct.files.read import read_mask, read_pattern_mask, read_scan
from ct.grey_window import unusual_windows
from ct.lungs.find import Lungs, find_lungs
from ct.refusal import Refusal, Sentence
from ct.resample import Transform, plan_transform
from ct.scan import Scan
from machine.whole_file import whole_folder


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """A scan on its prepared grid.

    Attributes:
        hu: int16 (Z', size, size).
        lung: int8 (Z', size, size), 1 inside the lungs.
        masks: int8 (Z', size, size) each, under the names they came with.
        transform: The way between the scan's canonical grid and this one.
    """

    hu: npt.NDArray[np.int16]
    lung: npt.NDArray[np.int8]
    masks: dict[str, npt.NDArray[np.int8]]
    transform: Transform


def prepare_scan(
    scan: Scan, lung: npt.NDArray[Any], masks: Mapping[str, npt.NDArray[Any]] | None = None, size: int = 256
) -> PreparedScan:
    """Resample a scan and its masks to the prepared grid (see `plan_transform`), in memory.

    Args:
        scan: The scan.
        lung: (Z, Y, X) on the scan's canonical grid, nonzero inside the lungs.
        masks: Further masks on that grid, integers -1..10, resampled by nearest neighbour.
        size: Pixels along each side in plane.

    Returns:
        The arrays and the transform, whose `restore` brings probabilities back.

    Raises:
        ValueError: A mask's shape is not the scan's.
    """
    source = {"lung": lung if lung.dtype == np.bool_ else lung != 0, **(masks or {})}
    for name, mask in source.items():
        if mask.shape != scan.hu.shape:
            raise Refusal(
                "the {name} mask has shape {shape}; expected the scan's {expected}",
                name=name,
                shape=mask.shape,
                expected=scan.hu.shape,
            )
    transform = plan_transform(scan.hu.shape, scan.spacing_mm, size, scan.spacing_known)
    arrays = {name: transform.apply_mask(mask) for name, mask in source.items()}
    return PreparedScan(transform.apply_hu(scan.hu), arrays.pop("lung"), arrays, transform)


@dataclass(frozen=True)
class Outcome:
    """The outcome of preparing a row.

    Attributes:
        fresh: Whether its folder was written, not found up to date.
        reason: Why the scan is refused; empty when it is usable.
        bug: The traceback, where it is refused because of a bug.
        stop: Why no other scan can be prepared either, for example a full disk.
    """

    fresh: bool = False
    reason: str = ""
    bug: str = ""
    stop: str = ""


class OutputError(OSError):
    """The prepared scan cannot be written; that says nothing about the scan."""


def try_row(row: CohortRow, out_dir: Path, size: int, classes: ClassSet = L3) -> Outcome:
    """Prepare one scan like `prepare_row`, with every error told in the outcome."""
    try:
        return Outcome(fresh=prepare_row(row, out_dir, size, classes))
    except OutputError as error:
        return Outcome(stop=str(error))
    except MemoryError:
        return Outcome(reason=f"{row.image}: needs more memory than there is; expected a chest CT; crop or thin it")
    except OSError as error:
        file, cause = error.filename or row.image, error.strerror or error
        return Outcome(
            reason=f"{file}: cannot be read ({cause}); expected a readable file; look at its rights and its disk"
        )
    except Exception as error:
        if isinstance(error, Refusal):
            return Outcome(reason=_with_file(str(error), row))
        sentence = f"(a bug: please report) {type(error).__name__}: {error}"
        return Outcome(reason=sentence, bug=traceback.format_exc())


def _with_file(sentence: str, row: CohortRow) -> str:
    """Make sure that a reason names a file: checks of a scan in memory know only the scan's name."""
    paths = (row.image, row.lung_mask, row.infection_mask, row.pattern_mask)
    if any(path is not None and str(path) in sentence for path in paths):
        return sentence
    return f"{row.image}: {sentence.removeprefix(f'{row.scan_id}: ')}"


def prepare_row(row: CohortRow, out_dir: Path, size: int, classes: ClassSet = L3) -> bool:
    """Prepare one scan of a cohort into `out_dir/<scan_id>` unless it is there already.

    Args:
        row: The cohort's row.
        out_dir: The folder of all prepared scans.
        size: Pixels along each side in plane.
        classes: Whose codes its pattern masks hold.

    Returns:
        True when the folder was written, False when it was up to date.

    Raises:
        ValueError: The scan or a mask cannot be used.
        OSError: A file cannot be read.
        OutputError: The folder cannot be written.
    """
    stamp = stamp_of(row, size, classes)
    content = hash_content(row, size, classes)
    fresh = prepared_key(scan_folder(out_dir, row.scan_id)) != content.key
    if fresh:
        arrays, record = _make(row, size, classes)
    try:
        if fresh:
            origin = {"format_version": FORMAT_VERSION, "key": content.key, "source_sha256": content.image_sha256}
            _write(arrays, {**origin, **record}, scan_folder(out_dir, row.scan_id), out_dir / MAKING)
        remember(row, out_dir, stamp, content.key)
    except OSError as error:
        raise OutputError(f"{out_dir}: prepared scans cannot be written ({error})") from error
    return fresh


def _make(row: CohortRow, size: int, classes: ClassSet) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Read a row's files and return the arrays and the content of scan.json."""
    scan = read_scan(row.image, row.scan_id, row.site, row.grey_hu)
    transform = plan_transform(scan.hu.shape, scan.spacing_mm, size, scan.spacing_known)
    # One mask after the other: on the scan's own grid each is as large as half the scan.
    repairs = list(scan.repairs)
    masks = {name: transform.apply_mask(mask) for name, mask in _read_masks(row, scan, repairs, classes)}
    lungs = find_lungs(scan, row.lung_mask)
    prepared = PreparedScan(transform.apply_hu(scan.hu), transform.apply_mask(lungs.mask), masks, transform)
    arrays: dict[str, npt.NDArray[Any]] = {"hu": prepared.hu, "lung": prepared.lung, **masks}
    if row.readers:
        role = "mask of a reader"
        readers = (read_pattern_mask(path, scan, repairs, role, classes) for path in row.readers)
        arrays["readers"] = np.stack([transform.apply_mask(codes) for codes in readers])
    return arrays, _record(replace(scan, repairs=(*repairs, *lungs.repairs)), prepared, lungs)


def _write(arrays: dict[str, npt.NDArray[Any]], record: dict[str, Any], folder: Path, making: Path) -> None:
    """Put a prepared folder in place, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    making.mkdir(exist_ok=True)
    with whole_folder(folder, replace=True, making=making) as temporary:
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        write_record(record, temporary)


def _read_masks(
    row: CohortRow, scan: Scan, repairs: list[Sentence], classes: ClassSet
) -> Iterator[tuple[str, npt.NDArray[np.int8]]]:
    if row.pattern_mask is not None:
        patterns = read_pattern_mask(row.pattern_mask, scan, repairs, classes=classes)
        yield "patterns", patterns
        if row.infection_mask is None and classes.has(INFECTION) and _draws_infection(row, classes):
            yield "infection", classes.mask_of(INFECTION, patterns)
    if row.infection_mask is not None:
        yield "infection", (read_mask(row.infection_mask, scan, repairs, "infection mask") != 0).astype(np.int8)


def _draws_infection(row: CohortRow, classes: ClassSet) -> bool:
    """Tell whether the pattern mask tells infection from the rest, which one that draws some classes only may not."""
    infection = set(classes.indices_of(INFECTION))
    return not row.labels or all(set(classes.atoms(row.labels)[index]) <= infection for index in infection)


def _record(scan: Scan, prepared: PreparedScan, lungs: Lungs) -> dict[str, Any]:
    """Collect the content of scan.json: the scan and how it was prepared."""
    voxel_ml = math.prod(prepared.transform.spacing_mm) / 1000
    return {
        "verdict": "repaired" if scan.repairs else "pass",
        "repairs": list(scan.repairs),
        "warnings": [*lungs.warnings, *unusual_windows(scan.grey_windows)],
        "volume_hash": volume_hash(prepared.hu),
        "scan_id": scan.scan_id,
        "source_shape": list(scan.source.shape),
        "source_affine": np.asarray(scan.source.affine).tolist(),
        "shape": list(scan.hu.shape),
        "spacing_mm": list(scan.spacing_mm),
        "spacing_known": scan.spacing_known,
        "slice_names": list(scan.slice_names),
        **_greys(scan),
        "prepared_shape": list(prepared.hu.shape),
        "prepared_spacing_mm": list(prepared.transform.spacing_mm),
        "transform": prepared.transform.to_dict(),
        "lung_source": lungs.source,
        "whole_image": bool(lungs.mask.all()),
        "lung_pixels": prepared.lung.sum(axis=(1, 2), dtype=int).tolist(),
        "lung_ml": float(prepared.lung.sum()) * voxel_ml if scan.spacing_known else None,
        "labelled_pixels": _labelled_pixels(prepared),
        "masks": sorted(prepared.masks),
    }


def _greys(scan: Scan) -> dict[str, Any]:
    """Return the declared window of grey values, or low, high and error of each slice where they were estimated."""
    windows = scan.grey_windows
    if scan.estimated_windows:
        return {"grey_hu": None, "grey_windows": [[each.low_hu, each.high_hu, each.error_hu] for each in windows]}
    return {"grey_hu": [windows[0].low_hu, windows[0].high_hu] if windows else None}


def _labelled_pixels(prepared: PreparedScan) -> list[int]:
    """Count the pixels of each slice that have a pattern code."""
    if "patterns" not in prepared.masks:
        return [0] * len(prepared.hu)
    return (prepared.masks["patterns"] >= 0).sum(axis=(1, 2), dtype=int).tolist()
