"""Phantom examples: scans drawn on demand, and the test scans of the phantom cohorts at hand."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cohort.table import CohortRow, read_cohort
from ct.files.write import write_dicom_series, write_scan_nifti
from phantom.grid import Frame
from phantom.write_phantom import make_phantom

# Seed, consolidation and burden of patients that no cohort has.
DRAWN = {
    "healthy": (90_001, False, 0.0),
    "ground glass": (90_002, False, 1.0),
    "ground glass and consolidation": (90_003, True, 1.2),
}
PIXELS, SLICES, SITE = 160, 40, "B"


class Example(NamedTuple):
    """A scan with its truth, as files.

    Attributes:
        name: Its name in outputs.
        source: A file, or a DICOM folder.
        patterns: Mask of pattern codes, if there is one.
        infection: Mask of the infection, if there is one.
    """

    name: str
    source: Path
    patterns: Path | None
    infection: Path | None


def examples(cohorts: Path) -> dict[str, Callable[[Path], Example]]:
    """Return functions that write an example into a folder, by the label of the example.

    Args:
        cohorts: Folder of cohorts; those with a phantom.json are phantoms.
    """
    writers: dict[str, Callable[[Path], Example]] = {f"drawn: {name}": partial(draw_example, name) for name in DRAWN}
    for note in sorted(cohorts.glob("*/phantom.json")):
        rows = read_cohort(note.parent / "cohort.csv").rows
        # Models have been trained or tuned on the others.
        for row in (row for row in rows if row.split == "test"):
            writers[f"{note.parent.name}: {row.scan_id} (site {row.site})"] = partial(_stored_example, row)
    return writers


def _stored_example(row: CohortRow, _: Path) -> Example:
    return Example(row.scan_id, row.image, row.pattern_mask, row.infection_mask)


def draw_example(name: str, folder: Path) -> Example:
    """Draw a phantom patient and store the scan as a DICOM series, with one reader's masks.

    Args:
        name: One of DRAWN.
        folder: The folder to write; an example that is there already is reused.
    """
    seed, positive, burden = DRAWN[name]
    stem = f"phantom_{name.replace(' ', '_')}"
    image, patterns = folder / stem, folder / f"{stem}_patterns.nii.gz"
    if not patterns.is_file():
        phantom = make_phantom(seed, SITE, positive, burden, PIXELS, SLICES)
        affine = Frame(phantom.hu.shape, phantom.spacing_mm).affine
        write_dicom_series(phantom.hu, affine, image, stem, "phantom")
        write_scan_nifti(phantom.reader(seed)[0].astype(np.uint8), affine, patterns)
    return Example(stem, image, patterns, None)
