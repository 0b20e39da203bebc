"""A chest of a few voxels, for tests that need a volume that the gate takes and no anatomy."""

from pathlib import Path

import nibabel
import numpy as np

SHAPE = (14, 18, 3)
# The file's axes run from front to back, from right to left and from head to foot.
AFFINE = np.array([[0, -1.5, 0, 9], [-2.0, 0, 0, 40], [0, 0, -4.0, 7], [0, 0, 0, 1]])


def chest() -> tuple[np.ndarray, np.ndarray]:
    """HU (int16) and lung mask (uint8, 1 right, 2 left), both of `SHAPE` in file order."""
    hu = np.full(SHAPE, -1000, dtype=np.int16)
    hu[1:13, 1:17] = 40
    lungs = np.zeros(SHAPE, dtype=np.uint8)
    lungs[3:11, 3:8], lungs[3:11, 10:15] = 1, 2
    hu[lungs > 0] = -850
    return hu, lungs


def save(array: np.ndarray, path: Path) -> None:
    """Write an array as NIfTI with `AFFINE`; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(array, AFFINE).to_filename(path)
