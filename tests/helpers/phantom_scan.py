"""One phantom scan in a NIfTI file, for tests that need lungs and no cohort."""

from pathlib import Path

import nibabel
import numpy as np

from phantom.patient import make_phantom


def save_phantom(path: Path, seed: int = 3, size: int = 64, slices: int | None = None) -> Path:
    """Write a patient of site A with consolidation; folders are made."""
    phantom = make_phantom(seed, "A", positive=True, size=size, slices=slices)
    z_mm, y_mm, x_mm = phantom.spacing_mm
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(phantom.hu.transpose(2, 1, 0), np.diag([-x_mm, -y_mm, z_mm, 1.0]))
    image.to_filename(path)
    return path
