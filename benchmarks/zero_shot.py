"""Infection found by a model in labelled scans that it never saw, as one JSON line; by scan and by slice as a table.

A cohort of slice images has one scan for each patient or each slice; the grey values are what its cohort.csv says, or
estimated. The truth counts wherever it lies, also outside the lungs that were found: what the lungs lose, the answer
loses.

    python -m benchmarks.zero_shot --ckpt models/default/best.ckpt --cohort cohorts/covid20/cohort.csv [--lungs given]
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr
from tqdm import tqdm

from cohort.table import CohortRow, read_cohort
from ct.classes import ClassSet
from ct.files.read import read_mask, read_pattern_mask, read_scan
from ct.lungs.find import find_lungs
from ct.scan import Scan
from inference.load import load_module
from inference.scan_masks import segment_scan
from lightning_modules.base import SegmentationModule
from metrics.overlap import dice, iou, relative_volume, table_of_counts

TALLY = ["tp", "fp", "fn", "tn"]


def truth_of(row: CohortRow, scan: Scan, classes: ClassSet) -> NDArray[np.bool_]:
    """Return the reader's infection (Z, Y, X) on the scan's canonical grid."""
    if row.infection_mask is not None:
        return read_mask(row.infection_mask, scan) != 0
    assert row.pattern_mask is not None
    codes = read_pattern_mask(row.pattern_mask, scan, classes=classes)
    return classes.mask_of("infection", codes) > 0


def slices_of(row: CohortRow, module: SegmentationModule, lungs_given: bool) -> pd.DataFrame:
    """Segment a scan; return a row for each slice: counts of voxels, and the Dice that the model expects there.

    Where nothing is found, the model expects 0. Slices thinner than 4 mm are prepared as fewer ones, and have none.
    """
    scan = read_scan(row.image, grey_hu=row.grey_hu)
    lung = find_lungs(scan, row.lung_mask if lungs_given else None).mask
    answer = segment_scan(scan, lung, [module], lungs_given=lungs_given)
    found, truth = answer.masks["infection"], truth_of(row, scan, module.classes)
    counts = {
        "tp": (found & truth).sum((1, 2)),
        "fp": (found & ~truth).sum((1, 2)),
        "fn": (~found & truth).sum((1, 2)),
        "tn": (~found & ~truth).sum((1, 2)),
    }
    promised = answer.expected_dice["infection"]
    expected = np.nan_to_num(promised) if len(promised) == len(truth) else np.full(len(truth), np.nan)
    about = {"patient": row.patient_id, "scan": row.scan_id, "slice": np.arange(len(truth)), "lung": lung.sum((1, 2))}
    return pd.DataFrame(about | counts | {"expected_dice": expected})


def figures(counts: pd.DataFrame) -> dict[str, float]:
    """Return the overlap of everything together and of patients, and how expected Dice ranks slices."""
    everything = table_of_counts(counts[TALLY].sum().to_numpy())
    by_patient = dice(table_of_counts(counts.groupby("patient")[TALLY].sum().to_numpy()))
    by_slice = dice(table_of_counts(counts[TALLY].to_numpy()))
    rank = spearmanr(counts["expected_dice"], by_slice, nan_policy="omit").statistic
    return {
        "slices": len(counts),
        "dice_pooled": float(dice(everything)),
        "iou_pooled": float(iou(everything)),
        "rv_pooled": float(relative_volume(everything)),
        "dice_by_patient": float(np.nanmean(by_patient)),
        "dice_by_slice": float(np.nanmean(by_slice)),
        "spearman_of_expected_dice": float(rank),
    }


def main() -> None:
    """Print the line, and write the table of slices where asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ckpt", required=True)
    parser.add_argument("--cohort", required=True, type=Path)
    parser.add_argument("--lungs", choices=("found", "given"), default="found", help="whose lungs (found)")
    parser.add_argument("--table", type=Path, help="where the counts of all slices go, as a CSV file")
    options = parser.parse_args()
    module = load_module(options.ckpt)
    rows = [row for row in read_cohort(options.cohort).rows if row.infection_mask or row.pattern_mask]
    bar = tqdm(rows, "zero-shot", unit="scan", file=sys.stderr, disable=None)
    counts = pd.concat([slices_of(row, module, options.lungs == "given") for row in bar], ignore_index=True)
    if options.table:
        counts.to_csv(options.table, index=False)
    print(json.dumps({"name": "zero_shot", "lungs": options.lungs, "scans": len(rows)} | figures(counts)))


if __name__ == "__main__":
    main()
