import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cohort.prepare.prepare_cohort import prepare_row
from cohort.table import CohortRow
from ct.files.write import write_dicom_series, write_scan_nifti

SHAPE = (24, 384, 384)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chest of thin slices as DICOM and NIfTI, with a mask."""
    folder = tmp_path_factory.mktemp("files")
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    hu = np.where(((y - 192) / 150) ** 2 + ((x - 192) / 180) ** 2 < 1, 40, -1000).astype(np.int16)
    hu = np.broadcast_to(hu, SHAPE).copy()
    lung = np.zeros(SHAPE, dtype=np.uint8)
    for middle in (110, 274):
        lung |= ((y - 192) / 100) ** 2 + ((x - middle) / 65) ** 2 + ((z - 12) / 13) ** 2 < 1
    hu[lung > 0] = -850
    hu += np.random.default_rng(0).integers(-20, 20, SHAPE).astype(np.int16)
    affine = np.diag([-0.8, -0.8, 10.0, 1.0])
    write_dicom_series(hu, affine, folder / "dicom")
    write_scan_nifti(hu, affine, folder / "hu.nii.gz", "RAS")
    write_scan_nifti(lung, affine, folder / "lung.nii.gz")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("image", ["dicom", "hu.nii.gz"])
@pytest.mark.parametrize("with_masks", [False, True])
def test_a_worker_holds_at_most_four_times_its_scan(files: Path, tmp_path: Path, image: str, with_masks: bool) -> None:
    mask = files / "lung.nii.gz" if with_masks else None
    row = CohortRow("s", "p", "X", files / image, lung_mask=mask, infection_mask=mask)
    tracemalloc.start()
    try:
        prepare_row(row, tmp_path, 256)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 4 * 2 * np.prod(SHAPE)
