"""The memory and disk that preparing a cohort will need, estimated from the headers of its files."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

from cohort.prepare.sources import files_of
from cohort.table import CohortRow
from ct.files.formats import is_volume_file, volume_layout
from ct.files.images import is_slice_image
from ct.resample import plan_transform

# A worker holds at most this many times the bytes of the scan it reads.
SCANS_IN_MEMORY = 4


@dataclass(frozen=True)
class Needs:
    """The bytes that some scans will need.

    Attributes:
        scans: Number of scans.
        sources: Their files.
        largest: The largest scan as it is in memory, 16 bit or as stored if that is more.
        disk: The prepared arrays.
    """

    scans: int
    sources: int
    largest: int
    disk: int

    def text(self, out_dir: Path, jobs: int | None) -> str:
        """Say what is needed, and warn in further lines where that is more than there is.

        Args:
            out_dir: Where the prepared scans go.
            jobs: Processes of this machine that work at the same time; None where they are those of others.
        """
        a_job = SCANS_IN_MEMORY * self.largest
        memory = (jobs or 0) * a_job
        each = f"{SCANS_IN_MEMORY} x {_size(self.largest)}, the largest scan"
        of_memory = f"{_size(memory)} of memory ({jobs} jobs x {each})" if jobs else f"{_size(a_job)} a job ({each})"
        lines = [
            f"{self.scans} scans are new, may have changed or were refused ({_size(self.sources)} of files); preparing "
            f"them takes up to {of_memory} and {_size(self.disk)} of disk in {out_dir}"
        ]
        free_memory, free_disk = available_memory(), shutil.disk_usage(out_dir).free
        if memory > free_memory:
            lines.append(f"warning: only {_size(free_memory)} of memory are available; use fewer jobs")
        if self.disk > free_disk:
            lines.append(f"warning: only {_size(free_disk)} of disk are free in {out_dir}; make room or use another")
        return "\n".join(lines)


def estimate(rows: Sequence[CohortRow], size: int) -> Needs:
    """Add up what rows will need, without reading a voxel.

    Args:
        rows: The rows that are to be prepared.
        size: Pixels along each side in plane.

    Returns:
        The estimate. A scan whose header cannot be read counts with the bytes of its files.
    """
    sources = largest = disk = 0
    for row in rows:
        paths = (row.image, row.lung_mask, row.infection_mask, row.pattern_mask)
        stored = [_bytes(path) for path in paths if path is not None]
        sources += sum(stored)
        slices, slice_mm, volume = _look_at(row.image, stored[0])
        largest = max(largest, volume)
        planes = plan_transform((slices, 1, 1), (slice_mm, 1.0, 1.0), size).shape[0]
        masks = 1 + (row.pattern_mask is not None) + (row.infection_mask is not None or row.pattern_mask is not None)
        disk += planes * size**2 * (2 + masks)
    return Needs(len(rows), sources, largest, disk)


def available_memory() -> int:
    """Return the bytes of memory that can be had without swapping, or all of it where the system does not tell."""
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _look_at(path: Path, stored: int) -> tuple[int, float, int]:
    """Return the number of slices, their thickness in mm and the bytes of a scan, as its header tells."""
    try:
        if is_slice_image(path):
            return _slice_images(path)
        return _volume(path) if is_volume_file(path) else _dicom(path)
    except Exception:  # this only estimates; what is wrong with the file is told when it is read
        return 1, 1.0, stored


def _volume(path: Path) -> tuple[int, float, int]:
    layout = volume_layout(path)
    along_z = int(np.argmax(np.abs(layout.affine[2, :3])))
    slice_mm = float(np.linalg.norm(layout.affine[:3, along_z]))
    return layout.shape[along_z], slice_mm, math.prod(layout.shape) * max(2, layout.voxel_bytes)


def _dicom(path: Path) -> tuple[int, float, int]:
    # The largest file is an image of the main series in almost any folder.
    files = [file for _, file in files_of(path)]
    largest = max(files, key=lambda file: file.stat().st_size)
    tags = ["Rows", "Columns", "NumberOfFrames", "SliceThickness"]
    header = pydicom.dcmread(largest, stop_before_pixels=True, specific_tags=tags, force=True)
    slices = len(files) * int(header.get("NumberOfFrames") or 1)
    return slices, float(header.get("SliceThickness") or 1.0), 2 * slices * header.Rows * header.Columns


def _slice_images(path: Path) -> tuple[int, float, int]:
    files = [file for _, file in files_of(path)]
    with Image.open(files[0]) as image:
        return len(files), 5.0, 2 * len(files) * image.width * image.height


def _bytes(path: Path) -> int:
    try:
        return sum(file.stat().st_size for _, file in files_of(path))
    except OSError:  # told when it is read
        return 0


def _size(count: int) -> str:
    """Return a number of bytes as people say it."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
