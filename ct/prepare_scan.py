"""One scan of a cohort -> its prepared folder, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ct.cohort import CohortRow
from ct.lungs import classical_lungs
from ct.patterns import infection_of
from ct.read import read_mask, read_pattern_mask, read_scan, read_slice_images
from ct.resample import Transform, plan_transform
from ct.scan import Scan

FORMAT_VERSION = 1


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
    given = {"lung": lung != 0, **(masks or {})}
    for name, mask in given.items():
        if mask.shape != scan.hu.shape:
            raise ValueError(f"the {name} mask has shape {mask.shape}; expected the scan's {scan.hu.shape}")
    transform = plan_transform(scan.hu.shape, scan.spacing_mm, size, scan.spacing_known)
    arrays = {name: transform.apply_mask(mask) for name, mask in given.items()}
    return PreparedScan(transform.apply_hu(scan.hu), arrays.pop("lung"), arrays, transform)


def prepare_row(row: CohortRow, out_dir: Path, size: int) -> bool:
    """Prepare one scan of a cohort into `out_dir/<scan_id>` unless it is there already.

    Args:
        row: The cohort's row.
        out_dir: The folder of all prepared scans.
        size: Pixels along each side in plane.

    Returns:
        True when the folder was written, False when it was up to date.

    Raises:
        ValueError: The scan or a mask cannot be used.
    """
    folder = out_dir / row.scan_id
    key = source_key(row, size)
    if _key_of(folder) == key:
        return False
    scan, lung, lung_source = _read_row(row)
    masks = _read_masks(row, scan)
    prepared = prepare_scan(scan, lung, masks, size)
    with tempfile.TemporaryDirectory(dir=out_dir, prefix=".tmp-", ignore_cleanup_errors=True) as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        arrays: dict[str, npt.NDArray[Any]] = {"hu": prepared.hu, "lung": prepared.lung, **prepared.masks}
        for name, array in arrays.items():
            np.save(new / f"{name}.npy", array)
        record = _record(scan, prepared, key, lung_source)
        (new / "scan.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            os.replace(folder, Path(temporary) / "old")
        os.replace(new, folder)
    return True


def source_key(row: CohortRow, size: int) -> str:
    """Hash the bytes of everything the prepared arrays come from, the parameters and the format's version."""
    digest = hashlib.sha256()
    parameters = [FORMAT_VERSION, size, row.scan_id, row.grey_low_hu, row.grey_high_hu]
    digest.update(json.dumps(parameters).encode())
    sources = (row.image, row.lung_mask, row.infection_mask, row.pattern_mask)
    for role, path in enumerate(sources):
        for file in _files_of(path):
            # Names matter too: a folder of slice images pairs with its masks by name.
            digest.update(f"\0{role}\0{file.name}\0".encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _files_of(path: Path | None) -> list[Path]:
    if path is None:
        return []
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def _read_row(row: CohortRow) -> tuple[Scan, npt.NDArray[np.bool_], str]:
    """Read a row's scan and its lungs, and say where the lungs come from."""
    if row.grey_low_hu is not None and row.grey_high_hu is not None:
        scan = read_slice_images(row.image, row.grey_low_hu, row.grey_high_hu, row.scan_id, row.site)
    else:
        scan = read_scan(row.image, row.scan_id, row.site)
    if row.lung_mask is not None:
        lung, source = read_mask(row.lung_mask, scan) != 0, "file"
    else:
        lung, source = classical_lungs(scan.hu, scan.spacing_mm if scan.spacing_known else None), "classical"
    if not lung.any():
        where = row.lung_mask or row.image
        raise ValueError(f"{where}: no lung voxels ({source} mask); expected a chest CT; give another lung_mask")
    return scan, lung, source


def _read_masks(row: CohortRow, scan: Scan) -> dict[str, npt.NDArray[np.int8]]:
    masks: dict[str, npt.NDArray[np.int8]] = {}
    if row.pattern_mask is not None:
        masks["patterns"] = read_pattern_mask(row.pattern_mask, scan)
        masks["infection"] = infection_of(masks["patterns"])
    if row.infection_mask is not None:
        masks["infection"] = (read_mask(row.infection_mask, scan) != 0).astype(np.int8)
    return masks


def _record(scan: Scan, prepared: PreparedScan, key: str, lung_source: str) -> dict[str, Any]:
    """Collect what scan.json tells about a prepared scan."""
    voxel_ml = math.prod(prepared.transform.spacing_mm) / 1000
    return {
        "format_version": FORMAT_VERSION,
        "key": key,
        "scan_id": scan.scan_id,
        "source_shape": list(scan.source.shape),
        "source_affine": np.asarray(scan.source.affine).tolist(),
        "shape": list(scan.hu.shape),
        "spacing_mm": list(scan.spacing_mm),
        "spacing_known": scan.spacing_known,
        "slice_names": list(scan.slice_names),
        "grey_hu": list(scan.grey_hu) if scan.grey_hu else None,
        "prepared_shape": list(prepared.hu.shape),
        "prepared_spacing_mm": list(prepared.transform.spacing_mm),
        "transform": prepared.transform.to_dict(),
        "repairs": list(scan.repairs),
        "lung_source": lung_source,
        "lung_pixels": prepared.lung.sum(axis=(1, 2), dtype=int).tolist(),
        "lung_ml": float(prepared.lung.sum()) * voxel_ml if scan.spacing_known else None,
        "masks": sorted(prepared.masks),
    }


def _key_of(folder: Path) -> str | None:
    try:
        return json.loads((folder / "scan.json").read_text(encoding="utf-8")).get("key")
    except (OSError, ValueError):
        return None
