"""Reader noise model of a cohort, from its scans that several readers labelled, as a file and a picture.

    python -m evaluation.readers.noise_model --cohort cohorts/opacity/cohort.csv --size 128 --out noise_model.npz

Test scans take no part.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from cohort.prepare.prepare_cohort import prepare_cohort, prepared_folder
from cohort.prepare.prepared_index import pixel_size_mm
from ct.borders import nearest_border
from ct.classes import L3, UNLABELLED, ClassSet, read_class_set
from losses.noise import (
    HALF_MM_BINS,
    NoiseModel,
    correlation_length_mm,
    count_pairs,
    fit_noise_model,
    residual_correlation,
)
from machine.command_line import run_command

matplotlib.use("Agg")
from matplotlib import pyplot as plt

LAGS_PX = 12


def study_slices(prepared: Path, classes: ClassSet) -> Iterator[tuple[NDArray[np.int8], NDArray[np.uint8], float]]:
    """Yield the slices of the train and val scans that several readers labelled.

    Yields:
        Groups int8 (R, H, W), borders uint8 (2, R, H, W) of each reader's map (see `ct.borders`), pixel size in mm.

    Raises:
        ValueError: There is no such scan.
    """
    index = pd.read_csv(prepared / "index.csv", dtype={"scan_id": str})
    study = index[(index["split"] != "test") & (index["readers"] >= 2)]
    if study.empty:
        raise ValueError(
            f"{prepared / 'index.csv'}: no train or val scan was labelled by several readers; "
            "name their masks in the column 'readers' of cohort.csv"
        )
    for scan in tqdm(study.itertuples(), "reader study", len(study), unit="scan", leave=False, disable=None):
        readers = classes.leaves_of(np.load(prepared / str(scan.folder) / "readers.npy"))
        spacing = pixel_size_mm(float(scan.spacing_y_mm), float(scan.spacing_x_mm), readers.shape[-1])
        for plane in readers.transpose(1, 0, 2, 3):
            if (plane >= 0).any():
                yield plane, np.stack([nearest_border(reader, spacing) for reader in plane], 1), spacing[0]


def estimate(prepared: Path, classes: ClassSet = L3) -> NoiseModel:
    """Fit the noise model of a prepared cohort: first its curves, then the correlation of their residuals.

    Raises:
        ValueError: There are too few readers' labels (see `losses.noise.fit_noise_model`).
    """
    number = len(classes.leaves)
    slices = list(study_slices(prepared, classes))
    counts = np.zeros((number, number, HALF_MM_BINS, number), np.int64)
    for labels, borders, _ in slices:
        counts += count_pairs(labels, borders[0], borders[1], number)
    model = fit_noise_model(counts)
    products, pairs, covariance = np.zeros(LAGS_PX), np.zeros(LAGS_PX), np.zeros((number, number))
    for labels, borders, _ in slices:
        for reader, other in [(0, 1), (len(labels) - 1, 0)]:
            mean = model.mean[labels[reader].clip(min=0), borders[0, reader], borders[1, reader]]
            compared = np.where(labels[reader] >= 0, labels[other], UNLABELLED)
            part = residual_correlation(compared, mean.transpose(2, 0, 1), LAGS_PX)
            products, pairs, covariance = products + part[0], pairs + part[1], covariance + part[2]
    scale = np.sqrt(np.diag(covariance).clip(min=1e-12))
    correlation = covariance / np.outer(scale, scale)
    np.fill_diagonal(correlation, 1)
    length_mm = correlation_length_mm(products, pairs, float(np.mean([pixel for _, _, pixel in slices])))
    return fit_noise_model(counts, length_mm, correlation)


def draw(model: NoiseModel, path: Path, classes: ClassSet = L3) -> None:
    """Draw the curves: for each class that one reader names, what another says by the distance to the border."""
    shown = [c for c in classes.indices if model.count[c].sum()]
    figure, axes = plt.subplots(1, len(shown), figsize=(3.0 * len(shown), 3.0), sharey=True, squeeze=False)
    distance_mm = np.arange(HALF_MM_BINS) / 2 + 0.25
    near = distance_mm <= 30
    for axis, c in zip(axes[0], shown, strict=True):
        others = [k for k in classes.indices if k != c and model.count[c, k] > 0]
        weights = model.count[c, others].astype(float)
        mean = np.average(model.mean[c, others], axis=0, weights=weights) if others else model.mean[c, c]
        for j, style in zip(classes.indices, cycle(("-", "--", "-.", ":")), strict=False):
            label = f"{j} {classes.leaves[j].name}"
            axis.plot(distance_mm[near], mean[near, j], style, color=classes.leaves[j].colour, label=label)
        axis.set(
            title=f"one reader says {c}\n{classes.leaves[c].name}", xlabel="distance to the border (mm)", ylim=(0, 1)
        )
        axis.title.set_fontsize(9)
    axes[0, 0].set_ylabel("another reader says")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    pairs = f"{model.count.sum():,} pairs of pixels; residuals correlate over {model.correlation_mm:.1f} mm"
    figure.legend(
        handles, labels, loc="lower center", ncols=len(classes.indices), frameon=False, title=pairs, fontsize=8
    )
    figure.tight_layout(rect=(0, 0.2, 1, 1))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.readers.noise_model", description=__doc__)
    parser.add_argument("--cohort", required=True, type=Path, help="cohort.csv with a column 'readers'")
    parser.add_argument("--size", type=int, default=256, help="pixels along each side in plane")
    parser.add_argument("--classes", default="l3", help="class set of the masks, of experiments/classes (l3)")
    parser.add_argument("--jobs", type=int, default=2, help="processes that prepare scans")
    parser.add_argument("--out", type=Path, help="the .npz file (noise_model.npz beside the cohort), with a .png")
    options = parser.parse_args(args)
    try:
        classes = read_class_set(options.classes)
        folder = prepared_folder(options.cohort, options.size, classes=classes)
        prepare_cohort(options.cohort, folder, options.size, options.jobs, classes)
        model = estimate(folder, classes)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    out = options.out or options.cohort.with_name("noise_model.npz")
    model.save(out)
    draw(model, out.with_suffix(".png"), classes)
    print(f"{out}: {model.count.sum():,} pairs of pixels, correlation over {model.correlation_mm:.1f} mm")
    return 0


if __name__ == "__main__":
    run_command(main)
