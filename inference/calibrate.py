"""Calibration of a model's volumes on the validation scans of a cohort: calibration.json beside the checkpoint.

python -m inference.calibrate --ckpt runs/unet_em/latest/best.ckpt --cohort cohorts/phantom/cohort.csv
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cohort.prepare.prepare_cohort import SPLIT_SEED
from cohort.splits import assign_splits
from cohort.table import CohortRow, read_cohort
from ct.classes import ClassSet
from ct.files.read import read_mask, read_pattern_mask
from ct.lungs.find import METHODS
from ct.refusal import Refusal
from ct.scan import Scan
from inference.model_names import CHECKPOINTS, OWN_MODULES, checkpoints_in, folder_of, place_of
from inference.scan_list import source_of
from inference.segmenter import Segmenter
from inference.volume_intervals import LUNG_SHARE, NAME, Calibration, conformal_quantile, unit_ml, write_calibration
from machine.command_line import run_command
from training.class_paths import OPTION
from training.model_folder import is_model_folder, write_calibration_of


def calibrate(segmenter: Segmenter, cohort: Path, coverage: float) -> Calibration:
    """Segment the validation scans of a cohort as new scans and compare their volumes with the readers'.

    The lungs are segmented as those of a new scan will be, not taken from the cohort. Of a patient with several scans
    the largest error counts, since patients are what must be exchangeable.

    Args:
        segmenter: The model, with the settings of its later use.
        cohort: cohort.csv of the training; its validation split is used.
        coverage: Share of new patients whose interval shall hold the true volume.

    Raises:
        ValueError: The cohort cannot be used, or has too few validation patients with a truth for this coverage.
    """
    if not 0 < coverage < 1:
        raise Refusal("the coverage is {coverage:g}; expected a share between 0 and 1, such as 0.8", coverage=coverage)
    rows = [row for row in assign_splits(read_cohort(cohort).rows, SPLIT_SEED) if row.split == "val"]
    scores: dict[str, dict[str, float]] = {}
    for row in tqdm(rows, "calibrate", unit="scan", disable=None):
        for finding, score in _scores(segmenter, row).items():
            by_patient = scores.setdefault(finding, {})
            by_patient[row.patient_id] = max(score, by_patient.get(row.patient_id, 0.0))
    if not scores:
        raise Refusal(
            "{cohort} has no validation scan with a truth for this model ({count} validation scans); fill "
            "infection_mask or pattern_mask, or set split=val for scans that have one",
            cohort=cohort,
            count=len(rows),
        )
    return Calibration(
        checkpoints_sha256=segmenter.card.checkpoints_sha256,
        flips=segmenter.card.flips,
        lung_source=segmenter.lung_method,
        coverage=coverage,
        patients=min(map(len, scores.values())),
        error={
            finding: conformal_quantile(list(by_patient.values()), coverage) for finding, by_patient in scores.items()
        },
    )


def _scores(segmenter: Segmenter, row: CohortRow) -> dict[str, float]:
    """Return the error of each volume of a scan in units of `unit_ml`; {} without a truth or a spacing."""
    if row.infection_mask is None and row.pattern_mask is None:
        return {}
    result = segmenter.segment(replace(source_of(row), lung_mask=None))
    if not result.scan.spacing_known:
        return {}
    scores = {}
    for finding, truth_ml in true_volumes(row, result.scan, result.classes).items():
        ml, lung_ml = result.measurements.get(f"{finding}_ml"), result.measurements["lung_ml"]
        if ml is not None and lung_ml is not None:
            scores[finding] = abs(truth_ml - ml) / unit_ml(ml, lung_ml)
    return scores


def true_volumes(row: CohortRow, scan: Scan, classes: ClassSet) -> dict[str, float]:
    """Return the reader's volumes in ml by finding, inside the lung mask where the cohort has one.

    A pattern mask with unlabelled voxels in the lungs has no known volumes and is left out.
    """
    lung = np.ones(scan.hu.shape, np.bool_) if row.lung_mask is None else read_mask(row.lung_mask, scan) != 0
    masks = {}
    if row.pattern_mask is not None:
        codes = read_pattern_mask(row.pattern_mask, scan, classes=classes)
        if not (codes[lung] < 0).any():
            findings = (*classes.multiclass_findings, *classes.findings)
            masks = {finding.key: classes.mask_of(finding.key, codes) > 0 for finding in findings}
    if row.infection_mask is not None:
        masks["infection"] = read_mask(row.infection_mask, scan) != 0
    return {finding: float((mask & lung).sum()) * scan.voxel_ml for finding, mask in masks.items()}


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line of `make calibrate`."""
    parser = argparse.ArgumentParser(prog="python -m inference.calibrate", description="Calibrate volumes.")
    parser.add_argument("--ckpt", required=True, nargs="+", help=CHECKPOINTS)
    parser.add_argument("--cohort", required=True, type=Path, help="cohort.csv on which it was trained")
    parser.add_argument("--coverage", type=float, default=0.8, help="share of intervals that hold the truth (0.8)")
    parser.add_argument("--flips", action="store_true", help="calibrate for predictions with --flips")
    parser.add_argument("--lungs", choices=METHODS, default="classical", help="how lungs are found (classical)")
    parser.add_argument(OPTION, nargs="+", default=(), help=OWN_MODULES)
    options = parser.parse_args(args)
    checkpoints = checkpoints_in(options.ckpt)
    if not checkpoints or options.cohort == Path():
        parser.exit(2, "error: name a model and the cohort of its training: CKPT=<best.ckpt> COHORT=<cohort.csv>\n")
    place = place_of(checkpoints[0])
    path = folder_of(place) / NAME
    try:
        segmenter = Segmenter(checkpoints, options.flips, options.lungs, options.modules, intervals=False)
        calibration = calibrate(segmenter, options.cohort, options.coverage)
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    if is_model_folder(place):
        write_calibration_of(path.parent, asdict(calibration))
    else:
        write_calibration(calibration, path)
    errors = ", ".join(f"{finding} {error:.2f}" for finding, error in calibration.error.items())
    print(
        f"written to {path}: from {calibration.patients} patients, intervals that hold {calibration.coverage:.0%} of "
        f"true volumes; errors allowed for, in units of the volume and {LUNG_SHARE:.0%} of the lungs: {errors}"
    )


if __name__ == "__main__":
    run_command(main)
