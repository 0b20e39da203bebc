"""Small scans of noise with two lungs: of differing content, one of them broken, one repaired."""

from pathlib import Path

import numpy as np

from ct.files.write import write_scan_nifti

AFFINE = np.diag([-1.5, -1.5, 2.0, 1.0])
REPAIRED, BROKEN = 2, 3


def write_noise_scans(folder: Path, scans: int, shape: tuple[int, int, int], half_masked: int = -1) -> Path:
    """Write the scans s0, s1 and so on (four at least) and their cohort.csv; the masks of one may be of half of it."""
    lines = ["scan_id,patient_id,site,image,lung_mask,infection_mask,split"]
    sixth = shape[1] // 6
    for number in range(scans):
        hu = np.random.default_rng(number).integers(-900, 60, shape).astype(np.int16)
        hu[:, :4] = -3024 if number == REPAIRED else -1000
        lung = np.zeros(shape, dtype=np.uint8)
        lung[:, sixth : 5 * sixth, sixth : 5 * sixth // 2] = 1
        lung[:, sixth : 5 * sixth, 7 * sixth // 2 : 5 * sixth] = 1
        write_scan_nifti(hu, AFFINE, folder / f"{number}.nii.gz")
        masked = lung[: shape[0] // 2 if number == half_masked else None]
        write_scan_nifti(masked, AFFINE, folder / f"{number}_lung.nii.gz")
        lines.append(f"s{number},p{number},X,{number}.nii.gz,{number}_lung.nii.gz,{number}_lung.nii.gz,train")
    broken = folder / f"{BROKEN}.nii.gz"
    broken.write_bytes(broken.read_bytes()[:5000])
    path = folder / "cohort.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
