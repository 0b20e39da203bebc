"""Claim: DICOM becomes prepared arrays at twice the speed of the usual libraries, in no more memory.

A series of 512 x 512 slices of 1.25 mm, written as DICOM, becomes int16 on a grid of 256 x 256 and about 5 mm, in one
thread. The peers: SimpleITK with the steps of paper EM's authors (ImageSeriesReader, a Gaussian along z with sigma = a
quarter of the new spacing, linear resampling), and MONAI (LoadImaged, Spacingd, Resized by area). They do less: ours
also checks every header, position and rescaling before it trusts the voxels. Memory is the largest resident size of a
fresh process less what it has after importing the library.

    python -m benchmarks.prepare
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import line, median, peak_mb

SIZE, SLICES, SLICE_MM, TARGET_MM, SOURCE = 256, 200, 1.25, 5.0, 512
REPEATS = 3


def write_series(folder: Path) -> None:
    """Write a series of random voxels: their content does not change the time."""
    from ct.files.dicom.export import write_dicom_series

    rng = np.random.default_rng(0)
    plane = rng.integers(-1000, 400, (SOURCE, SOURCE), dtype=np.int16)
    hu = np.stack([np.roll(plane, z, axis=0) for z in range(SLICES)])
    affine = np.diag([0.7, 0.7, SLICE_MM, 1.0])
    write_dicom_series(hu, affine, folder)


def ours() -> Callable[[Path], Any]:
    """Return a run of `ct.files.read` and the transform of `ct.resample`."""
    from ct.files.read import read_scan
    from ct.resample import plan_transform

    def run(folder: Path) -> Any:
        scan = read_scan(folder, "S1", "A")
        return plan_transform(scan.hu.shape, scan.spacing_mm, SIZE).apply_hu(scan.hu)

    return run


def sitk() -> Callable[[Path], Any]:
    """Return a run of SimpleITK with the authors' steps."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)

    def run(folder: Path) -> Any:
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        image = SimpleITK.Cast(reader.Execute(), SimpleITK.sitkFloat32)
        smooth = SimpleITK.RecursiveGaussian(
            image,
            sigma=TARGET_MM / 4,
            normalizeAcrossScale=False,
            order=SimpleITK.RecursiveGaussianImageFilter.ZeroOrder,
            direction=2,
        )
        size, spacing = image.GetSize(), image.GetSpacing()
        target = (SIZE, SIZE, round(size[2] * spacing[2] / TARGET_MM))
        new = [n * mm / count for n, mm, count in zip(size, spacing, target, strict=True)]
        moved = SimpleITK.Resample(
            smooth,
            target,
            SimpleITK.Transform(),
            SimpleITK.sitkLinear,
            image.GetOrigin(),
            new,
            image.GetDirection(),
            -1024.0,
        )
        return SimpleITK.GetArrayFromImage(SimpleITK.Cast(moved, SimpleITK.sitkInt16))

    return run


def monai() -> Callable[[Path], Any]:
    """Return a run of MONAI's LoadImaged, Spacingd, Resized."""
    import torch
    from monai.transforms import Compose, LoadImaged, Resized, Spacingd

    torch.set_num_threads(1)
    steps = Compose(
        [
            LoadImaged("image", reader="PydicomReader", ensure_channel_first=True),
            Spacingd("image", (-1, -1, TARGET_MM), mode="bilinear"),
            Resized("image", (SIZE, SIZE, -1), mode="area"),
        ]
    )
    return lambda folder: steps({"image": str(folder)})["image"].numpy().astype(np.int16)


WAYS = {"ours": ours, "simpleitk": sitk, "monai": monai}


def measure(way: str, folder: Path) -> None:
    """Print seconds of a second run, and MB that the first one took."""
    run = WAYS[way]()
    before = peak_mb()
    run(folder)
    memory = peak_mb() - before
    started = time.process_time()
    run(folder)
    print(json.dumps([time.process_time() - started, memory]))


def main() -> None:
    """Print MB/s of DICOM per core of each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=WAYS, help="only this, of --folder")
    parser.add_argument("--folder", type=Path, help="a DICOM series")
    options = parser.parse_args()
    if options.way:
        return measure(options.way, options.folder)
    figures: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        write_series(Path(name))
        read_mb = sum(path.stat().st_size for path in Path(name).iterdir()) / 1e6
        for _ in range(REPEATS):
            for way, results in figures.items():
                command = [sys.executable, "-m", "benchmarks.prepare", "--way", way, "--folder", name]
                process = subprocess.run(command, check=True, capture_output=True, text=True)
                results.append(json.loads(process.stdout.splitlines()[-1]))
    speeds = {way: read_mb / median([seconds for seconds, _ in results]) for way, results in figures.items()}
    memory = {way: round(median([mb for _, mb in results])) for way, results in figures.items()}
    best = max((way for way in WAYS if way != "ours"), key=speeds.__getitem__)
    line(
        "prepare", speeds["ours"], speeds[best], "MB/s per core", REPEATS,
        best_other=best, others={way: round(speed, 1) for way, speed in speeds.items()}, peak_mb=memory,
    )  # fmt: skip


if __name__ == "__main__":
    main()
