"""Table 3 of paper L3 for finished runs of the multi-class task, beside the paper's own figures.

    python -m evaluation.report.opacity_table runs/opacity_study

The folder holds seed<k>/<experiment>/latest (make opacity-study); figures are means over the seeds.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.run_data import read_run
from evaluation.tables import Study, defined_mean, markdown, read_study, text
from machine.command_line import run_command

# Column -> key of metrics.json.
COLUMNS = {
    "loss": "test/loss",
    "RV": "opacity/relative_volume",
    "opacity IOU": "opacity/iou_pooled",
    "IOU 2": "group_2/iou_pooled",
    "IOU 3": "group_3/iou_pooled",
    "IOU 4": "group_4/iou_pooled",
    "WAL r": "wal/pearson_r",
    "ECE": "groups/ece",
    "opacity ECE": "opacity/ece",
    "KL to truth": "fuzzy/kl",
    "ECE to truth": "fuzzy/ece",
    "opacity ECE to truth": "fuzzy/opacity_ece",
}
# Paper L3, Table 3: real scans, so not to be compared with a phantom's figures but shown beside them.
PAPER: Mapping[str, Sequence[float]] = {
    "DeepLabV3+ (paper L3, real scans)": (0.396, 0.967, 0.706, 0.423, 0.375, 0.428),
    "PSPNet (paper L3, real scans)": (0.377, 1.044, 0.735, 0.414, 0.390, 0.391),
    "UNet (paper L3, real scans)": (0.389, 1.017, 0.758, 0.370, 0.317, 0.432),
}


def opacity_table(study: Study) -> str:
    """Return Markdown: a row per experiment with the mean of each figure over its seeds, the paper's rows below.

    Args:
        study: (experiment, seed, metrics) of runs of the multi-class task; others are left out.

    Raises:
        ValueError: None of the runs is of the multi-class task.
    """
    runs: dict[str, list[Mapping[str, float | int | None]]] = {}
    for experiment, _, metrics in study:
        if COLUMNS["opacity IOU"] in metrics:
            runs.setdefault(experiment, []).append(metrics)
    if not runs:
        raise ValueError(
            "none of these runs is of the multi-class task; expected some of opacity_*: make opacity-study"
        )
    rows = [
        [name, str(len(seeds))]
        + [text(column, defined_mean(run.get(key) for run in seeds)) for column, key in COLUMNS.items()]
        for name, seeds in runs.items()
    ]
    missing = ["-"] * (len(COLUMNS) - 6)
    rows += [[name, "", *(f"{value:.3f}" for value in values), *missing] for name, values in PAPER.items()]
    return markdown(["experiment", "seeds", *COLUMNS], rows)


def seed_table(study: Study) -> str:
    """Return Markdown: the figures that soft and hard labels are compared by, seed by seed."""
    keys = {
        name: COLUMNS[name]
        for name in ("KL to truth", "ECE to truth", "opacity ECE to truth", "ECE", "opacity ECE", "opacity IOU", "RV")
    }
    rows = [
        [experiment, str(seed), *(text(column, metrics.get(key)) for column, key in keys.items())]
        for experiment, seed, metrics in sorted(study, key=lambda run: (run[1], run[0]))
        if COLUMNS["opacity IOU"] in metrics
    ]
    return markdown(["experiment", "seed", *keys], rows)


def mark_phantoms(folder: Path, study: Study) -> Study:
    """Put "(phantom)" behind the names of experiments that were tested on synthetic scans.

    Args:
        folder: The folder of the study.
        study: Its runs.
    """
    phantom = {
        name
        for name, seed, metrics in study
        if COLUMNS["opacity IOU"] in metrics and read_run(folder / f"seed{seed}" / name / "latest").is_phantom
    }
    return [(f"{name} (phantom)" if name in phantom else name, seed, metrics) for name, seed, metrics in study]


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.report.opacity_table", description=__doc__)
    parser.add_argument("study", type=Path, help="folder with seed<k>/<experiment>/latest")
    options = parser.parse_args(args)
    try:
        study = mark_phantoms(options.study, read_study(options.study))
        tables = f"{opacity_table(study)}\n{seed_table(study)}"
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    (options.study / "opacity.md").write_text(tables, encoding="utf-8")
    print(tables)
    return 0


if __name__ == "__main__":
    run_command(main)
