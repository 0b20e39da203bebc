"""Errors of estimated windows of grey values on slices of real volumes whose HU are known: a table.

Every slice is seen through a window at random, whole, cut to the lungs, as JPEG, and with its contrast enhanced place
by place (CLAHE). For the last, the error of the straight line that fits the known HU best is given too: what one window
can do.

    python -m benchmarks.grey_windows --data <folder>
"""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from benchmarks.grey_pictures import Grey, as_grey, draw_window, enhance
from ct.grey_values import estimate_window
from ct.grey_window import JUDGED_HU, GreyWindow

# Files of the data folder, and the slices (in the order of their axes from z on) that show lungs.
VOLUMES = {
    "covidctmd_dev/P002_2x2x4mm.nii.gz": slice(8, 63),
    "covidctmd_dev/normal002_2x2x4mm.nii.gz": slice(10, 69),
    "cip_ct64/ct-64.nrrd": slice(10, 70),
    "cip_ct64/crop_ct_2slices.nrrd": slice(None),
    "elastix_ct/3DCT_lung.mha": slice(20, 105),
    "ibsi_lung_ct/phantom.nii.gz": slice(5, 52),
}
Hu = NDArray[np.float64]
# Voxels within this of one of JUDGED_HU are what is judged of an enhanced slice; fewer are left alone.
NEAR_HU, LEAST_VOXELS = 40, 30


def real_slices(data: Path, every: int) -> Iterator[Hu]:
    """Yield slices of HU (Y, X), every so many of each volume."""
    for name, part in VOLUMES.items():
        path = data / name
        if path.name.endswith(".nii.gz"):
            volume = np.asarray(nibabel.nifti1.load(path).dataobj).transpose(2, 1, 0)
        else:
            volume = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))
        yield from (plane.astype(float) for plane in volume[part][::every])


def errors_hu(window: GreyWindow, low_hu: float, high_hu: float) -> list[float]:
    """Return what an estimate makes of each of `JUDGED_HU`, less what it is."""
    greys = [(hu - low_hu) / (high_hu - low_hu) for hu in JUDGED_HU]
    made = [window.low_hu + grey * (window.high_hu - window.low_hu) for grey in greys]
    return [value - hu for value, hu in zip(made, JUDGED_HU, strict=True)]


def cut_to_lungs(hu: Hu, margin: int) -> Hu:
    """Cut a slice to its lungs with a margin in pixels, as MedSeg's images are; not where there are none."""
    dark, count = ndimage.label(ndimage.binary_erosion(hu < -500, border_value=1))
    areas = np.bincount(dark.ravel(), minlength=count + 1)
    areas[[0, *dark[[0, 0, -1, -1], [0, -1, 0, -1]]]] = 0
    if areas.max() < 0.01 * hu.size:
        return hu
    rows, columns = np.nonzero(np.isin(dark, np.flatnonzero(areas >= 0.1 * areas.max())))
    top, left = max(0, rows.min() - margin), max(0, columns.min() - margin)
    return hu[top : rows.max() + margin + 1, left : columns.max() + margin + 1]


def as_jpeg(grey: Grey) -> Grey:
    """Store and read an image as JPEG of quality 75."""
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "JPEG", quality=75)
    return np.asarray(Image.open(stream))


def compare_windows(data: Path, every: int, kind: str) -> str:
    """Return a row of figures: whole slices, cut ones, or cut ones as JPEG."""
    rng = np.random.default_rng(0)
    errors, stated = [], []
    for hu in real_slices(data, every):
        window = draw_window(rng)
        shown = hu if kind == "whole" else cut_to_lungs(hu, int(rng.integers(1, 10)))
        grey = as_grey(shown, *window)
        estimate = estimate_window(as_jpeg(grey) if kind == "cut, JPEG" else grey)
        errors.append(np.abs(errors_hu(estimate, *window)))
        stated.append(estimate.error_hu)
    worse, said = np.max(errors, axis=1), np.array(stated, dtype=float)
    return f"{_row(kind, errors)}   within stated {(worse <= said).mean():.0%}, twice {(worse <= 2 * said).mean():.0%}"


def compare_enhanced(data: Path, every: int) -> list[str]:
    """Return a row of figures of the estimates and one of the best straight lines, on slices after `enhance`."""
    rng = np.random.default_rng(0)
    errors: dict[str, list[list[float]]] = {"CLAHE": [], "CLAHE, best line": []}
    for hu in real_slices(data, every):
        window = draw_window(rng)
        grey = enhance(as_grey(hu, *window))
        estimate = estimate_window(grey)
        tissue = (hu > -990) & (hu < 300)
        slope, offset = np.polyfit(grey[tissue].astype(float), hu[tissue], 1)
        lines = (estimate.low_hu, (estimate.high_hu - estimate.low_hu) / 255), (offset, slope)
        near = [np.abs(hu - at) < NEAR_HU for at in JUDGED_HU]
        for name, (low, step) in zip(errors, lines, strict=True):
            made = [np.median(low + step * grey[at]) - hu_at for at, hu_at in zip(near, JUDGED_HU, strict=True)]
            if all(at.sum() >= LEAST_VOXELS for at in near):
                errors[name].append([abs(float(value)) for value in made])
    return [_row(name, values) for name, values in errors.items()]


def _row(name: str, errors: list[list[float]] | list[NDArray[np.float64]]) -> str:
    (low_median, median), (low_most, most) = np.median(errors, axis=0), np.percentile(errors, 90, axis=0)
    return f"{name:18}{len(errors):4}   -600 HU: {low_median:4.0f} {low_most:4.0f}   0 HU: {median:4.0f} {most:4.0f}"


def main() -> None:
    """Print the table: number of slices, and median and 90th percentile of the errors in HU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grey_windows", description="Errors of grey windows.")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the real volumes")
    parser.add_argument("--every", type=int, default=6, help="of each volume, every so many slices")
    options = parser.parse_args()
    for kind in ("whole", "cut", "cut, JPEG"):
        print(compare_windows(options.data, options.every, kind), flush=True)
    for row in compare_enhanced(options.data, options.every):
        print(row, flush=True)


if __name__ == "__main__":
    main()
