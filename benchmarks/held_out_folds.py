"""Folds by patient of a set of 8-bit slices, prepared for every method alike, and Dice on the patients held out."""

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

import launch
from batch import SliceBatch
from cohort.splits import patient_folds
from cohort.table import CohortRow, read_cohort, write_cohort
from ct.refusal import Refusal
from ct.resample import AxisMap, Transform
from datamodules.infection_data import InfectionData
from lightning_modules.base import network_units
from metrics.overlap import dice, table_of_counts

FOLDS, SEED = 3, 0
HELD_OUT = ("val", "test")  # nothing is chosen by validation here, so both splits are held out
BATCH_SIZE = 16  # of what is read to evaluate


@dataclass(frozen=True, eq=False)
class HeldOutScan:
    """Slices of a held-out patient on their own grid, (n, Y, X) each.

    Attributes:
        patient: Its patient_id.
        split: Its split in the fold's cohort.
        rows: int64 (n,), the slices in the table of that split.
        hu: int16.
        lung: bool.
        truth: bool, infection inside the lungs.
        transform: The way to the prepared grid, of these n slices.
    """

    patient: str
    split: str
    rows: NDArray[np.int64]
    hu: NDArray[np.int16]
    lung: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    transform: Transform


Predict = Callable[[HeldOutScan], NDArray[np.bool_]]  # infection (n, Y, X), which is cut to the lungs afterwards


def split_by_patient(rows: tuple[CohortRow, ...], fold: int) -> tuple[CohortRow, ...]:
    """Return the rows of a fold: its patients are val and test in turn, all others are train.

    Args:
        rows: All rows; the splits they state are not used.
        fold: 0 .. FOLDS - 1, of `cohort.splits.patient_folds` as `make cross-validate` draws it.

    Raises:
        Refusal: The fold has one patient only.
    """
    patients = list(
        dict.fromkeys(row.patient_id for row in patient_folds(rows, FOLDS, SEED)[fold] if row.split == "test")
    )
    if len(patients) < len(HELD_OUT):
        raise Refusal(
            "fold {fold} holds out {patients}; expected at least two patients: give a set of at least {number}",
            fold=fold,
            patients=patients,
            number=len(HELD_OUT) * FOLDS,
        )
    split_of = {patient: HELD_OUT[number % 2] for number, patient in enumerate(patients)}
    return tuple(replace(row, split=split_of.get(row.patient_id, "train")) for row in rows)


def write_folds(source: Path, out: Path) -> list[Path]:
    """Import the slices of a folder as `make import FROM=covid20` does, unless that is done, and write every fold.

    Args:
        source: Holds ct/, lungs/, covid/ and cases.csv.
        out: Where cohort/ and fold-<n>/cohort.csv go.

    Returns:
        The cohort.csv of every fold.
    """
    whole = out / "cohort" / "cohort.csv"
    if not whole.is_file():
        importer, *words = launch.COHORTS["covid20"]
        words = [str(source) if word == "$COVID20" else word for word in words]
        if code := importlib.import_module(importer).main([*words, "--out", str(whole.parent)]):
            raise SystemExit(code)
    rows = read_cohort(whole).rows
    return [write_cohort(split_by_patient(rows, fold), out / f"fold-{fold}" / "cohort.csv") for fold in range(FOLDS)]


def network_input(batch: SliceBatch) -> Tensor:
    """Return what networks without a plan of their own see: network units, 0 outside the lungs, (B, context, H, W)."""
    return network_units(batch["image"]) * batch["lung"]


class Fold:
    """A fold: its data as the experiment prepares them, and on the slices' own grid.

    Args:
        data: The experiment's datamodule, of the fold's cohort.
        every: Every how many-th slice of a held-out patient is evaluated; neighbours look alike.

    Raises:
        Refusal: The slices are not squares of one size.
    """

    def __init__(self, data: InfectionData, every: int = 1) -> None:
        self.data = data
        data.prepare_data()
        index = data.slice_table("train").read_index(data.prepared)
        self.records = {
            scan: json.loads((Path(folder) / "scan.json").read_text())
            for scan, folder in zip(index["scan_id"], index["folder"], strict=True)
        }
        sides = {side for record in self.records.values() for side in record["shape"][1:]}
        if len(sides) > 1:
            raise Refusal("{path} has slices with sides of {sides} pixels; expected squares of one size",
                          path=data.cohort, sides=sorted(sides))  # fmt: skip
        self.own = InfectionData(
            str(data.cohort), str(data.prepared.parent), size=sides.pop(), context=1, prepare_jobs=1
        )
        self.own.prepare_data()
        self.scans = [scan for split in HELD_OUT for scan in self._held_out(split, every)]

    def _held_out(self, split: str, every: int) -> Iterator[HeldOutScan]:
        table = self.own.slice_table(split)
        assert table.described.equals(self.data.slice_table(split).described)
        for number, scan_id in enumerate(table.scans["scan_id"]):
            rows = np.flatnonzero(table.scan == number)[::every]
            (batch,) = self.own.batches(split, rows, len(rows))
            lung = batch["lung"][:, 0].numpy()
            plane = Transform.from_dict(self.records[scan_id]["transform"])
            slices = AxisMap(len(rows), 1.0, len(rows), 1.0)
            yield HeldOutScan(
                patient=str(table.scans["patient_id"][number]),
                split=split,
                rows=rows,
                hu=batch["image"][:, 0].numpy(),
                lung=lung,
                truth=(batch["target"][:, 0].numpy() > 0) & lung,
                transform=replace(plane, z=slices),
            )

    def on_own_grid(self, probability: Callable[[Tensor], Tensor]) -> Predict:
        """Return the predictions of a network on the prepared grid, brought back to the slices' own.

        Args:
            probability: Of infection, (B, 1, size, size) for an input as `network_input` makes it.
        """

        def predict(scan: HeldOutScan) -> NDArray[np.bool_]:
            batches = self.data.batches(scan.split, scan.rows, BATCH_SIZE)
            maps = [probability(network_input(batch))[:, 0].float().numpy() for batch in batches]
            return scan.transform.restore(np.concatenate(maps)) > 0.5

        return predict

    def evaluate(self, predict: Predict) -> dict[str, Any]:
        """Return Dice on the patients held out: `dice_by_patient`, their mean, and `dice_pooled` over all voxels."""
        counts: dict[str, NDArray[np.int64]] = {}
        for scan in self.scans:
            predicted = predict(scan) & scan.lung
            tp, positive, true = (predicted & scan.truth).sum(), predicted.sum(), scan.truth.sum()
            four = np.array([tp, positive - tp, true - tp, scan.lung.sum() - positive - true + tp], np.int64)
            counts[scan.patient] = counts.get(scan.patient, np.zeros(4, np.int64)) + four
        by_patient = {patient: float(dice(table_of_counts(four))) for patient, four in counts.items()}
        return {
            "dice_mean": float(np.nanmean(list(by_patient.values()))),
            "dice_pooled": float(dice(table_of_counts(np.sum(list(counts.values()), 0)))),
            "dice_by_patient": by_patient,
        }
