"""A finished run as reports read it: its files, the masks of its test scans, and truth beside prediction."""

import json
import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from cohort.csv_table import read_csv_table
from cohort.prepare.places import scan_folder
from cohort.prepare.prepare_cohort import prepared_folder
from cohort.table import REQUIRED_COLUMNS
from ct.classes import EM, L3, ClassSet, class_set
from evaluation.tables import read_metrics
from machine.latest import LATEST, latest_run, through_latest
from metrics.summary import Metrics

Arrays = dict[str, NDArray[Any]]

FILES = ("config.yaml", "metrics.json", "scans.csv")
CLASSES = "classes.json"
FINDINGS_OF_TASK = {"infection": ("infection",), "consolidation": ("infection", "consolidation", "threshold")}
REAL_SCANS = "real scans"
PHANTOM = "phantom.json"  # stands in the folder of a cohort that `phantom.write_phantom` made
THRESHOLD_HU = -200  # paper EM, section III-B
SPACING = ["spacing_z_mm", "spacing_y_mm", "spacing_x_mm"]
MASK_COLUMNS = ["scan_id", "patient", "weak_label", "readers", *SPACING, "source_spacing_z_mm", "folder", "split"]
TEXT = {"scan_id": str, "site": str, "patient": str, "folder": str}


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        folder: The run folder, resolved.
        experiment: Its experiment's name.
        config: config.yaml.
        metrics: metrics.json; None where a figure is undefined.
        scans: scans.csv, a row per test scan, with the columns of masks/scans.csv (missing values where there are no
            masks) and voxel_ml, millilitres of a voxel of the prepared grid (NaN where the spacing is unknown).
    """

    folder: Path
    experiment: str
    config: dict[str, Any]
    metrics: Metrics
    scans: pd.DataFrame

    @property
    def task(self) -> str:
        """`infection` (stage 1 of paper EM), `consolidation` (stage 2) or `opacity` (paper L3)."""
        if "wal_truth" in self.scans or "opacity_tp" in self.scans:
            return "opacity"
        return "consolidation" if "consolidation_tp" in self.scans else "infection"

    @property
    def findings(self) -> tuple[str, ...]:
        """The findings that scans.csv judges the run by."""
        if self.task != "opacity":
            return FINDINGS_OF_TASK[self.task]
        leaves = (self.classes.leaves[index].key for index in self.classes.foreground)
        return (self.classes.findings[0].figures, *leaves)

    @cached_property
    def classes(self) -> ClassSet:
        """The class set of the run; a run older than class sets has that of its paper."""
        return _stored_classes(self.folder) or (L3 if self.task == "opacity" else EM)

    @property
    def judged_by(self) -> str:
        """The run's main finding, as scans.csv and metrics.json call it."""
        return self.findings[0] if self.task == "opacity" else self.task

    @property
    def is_phantom(self) -> bool:
        """Whether its scans are synthetic; False where its cohort is gone."""
        cohort = Path(self.config["data"]["init_args"]["cohort"])
        return cohort.is_file() and lists_phantoms(cohort)

    @property
    def cohort(self) -> str:
        """The name of the cohort's folder, which the user chose; only local pages show it."""
        return Path(self.config["data"]["init_args"]["cohort"]).parent.name

    @property
    def tested_on(self) -> str:
        """The kind of its scans, shown beside `REAL_SCANS` of the papers; no folder's name, since tables go to W&B."""
        return "phantoms" if self.is_phantom else "own cohort"

    @property
    def has_masks(self) -> bool:
        """Whether the masks of every test scan exist."""
        written = (self.folder / "masks" / "scans.csv").is_file()
        return written and all(self._masks(scan_id).is_file() for scan_id in self.scans["scan_id"])

    @property
    def patients(self) -> NDArray[np.str_]:
        """(scans,): the pseudonym of each scan's patient.

        Raises:
            ValueError: The run has no masks, whose table holds the pseudonyms.
        """
        patients = self.scans["patient"]
        if patients.isna().any():
            raise ValueError(
                f"{self.folder / 'masks' / 'scans.csv'}: does not say whose {patients.isna().sum()} of "
                f"{len(patients)} scans are; save the masks of this run first (make evaluate SAVE_MASKS=1)"
            )
        return patients.to_numpy(str)

    def _masks(self, scan_id: str) -> Path:
        return self.folder / "masks" / f"{scan_id}.npz"

    def arrays(self, scan_id: str) -> Arrays:
        """Return the arrays of masks/<scan_id>.npz (see `callbacks.save_masks`), and `hu`, int16 (Z, H, W); read-only.

        Raises:
            ValueError: The run has no masks of that scan, or the scan was prepared differently since.
        """
        path = self._masks(scan_id)
        if not path.is_file():
            raise ValueError(f"{path}: not found; save the masks of this run first (make evaluate SAVE_MASKS=1)")
        folder = self.scans.set_index("scan_id")["folder"].get(scan_id)
        if not isinstance(folder, str):
            raise ValueError(
                f"{path.parent / 'scans.csv'}: says nothing of scan {scan_id} of {self.folder / 'scans.csv'}; "
                "save the masks of this run again (make evaluate SAVE_MASKS=1)"
            )
        # The time of change is part of the key, so that a file that was written again is read again.
        return dict(_read_arrays(path, Path(folder) / "hu.npy", path.stat().st_mtime_ns))

    def pair(self, scan_id: str, finding: str) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
        """Return truth and prediction of a scan for one of `findings`.

        Returns:
            truth int8 (Z, H, W), 1, 0 or -1 (unknown, or outside the lungs), and prediction bool (Z, H, W), False
            outside the lungs. `threshold` is the published baseline of paper EM: above -200 HU inside the predicted
            infection; its truth is consolidation.

        Raises:
            ValueError: The run has no such finding, or as in `arrays`.
        """
        if finding not in self.findings:
            raise ValueError(f"{self.folder}: has no finding '{finding}'; expected one of {', '.join(self.findings)}")
        arrays = self.arrays(scan_id)
        truth, prediction = _truth(arrays, finding, self.classes), _prediction(arrays, finding, self.classes)
        outside = finding != "threshold" and {*self.classes.indices_of(finding)} <= {*self.classes.outside}
        inside = (arrays["lung"] > 0) | outside
        return np.where(inside, truth, -1).astype(np.int8), prediction & inside


def _stored_classes(folder: Path) -> ClassSet | None:
    path = folder / CLASSES
    return class_set(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def _truth(arrays: Arrays, finding: str, classes: ClassSet) -> NDArray[np.int8]:
    if "truth_groups" not in arrays:
        return arrays["truth_infection" if finding == "infection" else "truth_consolidation"]
    groups = arrays["truth_groups"]
    return np.where(groups < 0, -1, np.isin(groups, classes.indices_of(finding))).astype(np.int8)


def _prediction(arrays: Arrays, finding: str, classes: ClassSet) -> NDArray[np.bool_]:
    if finding == "threshold":
        return (arrays["hu"] > THRESHOLD_HU) & (arrays["infection"] > 0)
    if finding in arrays:
        return np.asarray(arrays[finding] > 0)
    return np.isin(arrays["groups"], classes.indices_of(finding))


@lru_cache(maxsize=1)  # reports ask for the findings of a scan one after the other
def _read_arrays(masks: Path, hu: Path, changed_ns: int) -> Arrays:
    with np.load(masks) as file:
        arrays = dict(file)
    if not hu.is_file():
        raise ValueError(f"{hu}: not found; the masks {masks} belong to it; test the run again to have it prepared")
    volume = np.load(hu, mmap_mode="r")
    if volume.shape[1:] != arrays["lung"].shape[1:] or len(volume) <= arrays["z"].max():
        raise ValueError(
            f"{hu}: has shape {volume.shape}, the masks {masks} have {arrays['lung'].shape}; the scan was prepared "
            "differently since: save the masks again (make evaluate SAVE_MASKS=1)"
        )
    arrays["hu"] = np.asarray(volume[arrays["z"]])
    for array in arrays.values():
        array.setflags(write=False)  # they are shared
    return arrays


def lists_phantoms(cohort: Path) -> bool:
    """Return whether the first scan of a cohort.csv lies in a phantom cohort, or is a fold of one."""
    records = read_csv_table(cohort, REQUIRED_COLUMNS).records()
    image = records[0][1].get("image", "") if records else ""
    return bool(image) and any((folder / PHANTOM).is_file() for folder in (cohort.parent / image).parents)


def read_run(folder: Path) -> Run:
    """Read a run folder; its masks, if there are any, are read when they are asked for.

    Raises:
        ValueError: The run is not finished.
    """
    folder = through_latest(folder).resolve()
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder}: no {' and no '.join(missing)}; expected the folder of a finished run, such as "
            "runs/unet_em/latest: train it, or let it finish"
        )
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    return Run(folder, config["experiment"], config, read_metrics(folder), _read_scans(folder, config))


def _read_scans(folder: Path, config: dict[str, Any]) -> pd.DataFrame:
    scans = _read_table(folder / "scans.csv")
    masks = pd.DataFrame(columns=MASK_COLUMNS)
    if (folder / "masks" / "scans.csv").is_file():
        data = config["data"]["init_args"]
        classes = _stored_classes(folder) or L3
        prepared = prepared_folder(data["cohort"], data["size"], data["prepared"], classes)
        masks = _read_table(folder / "masks" / "scans.csv")[MASK_COLUMNS]
        masks["folder"] = [str(scan_folder(prepared, scan_id)) for scan_id in masks["scan_id"]]
    joined = scans.merge(masks, on="scan_id", how="left", validate="one_to_one")
    return joined.assign(voxel_ml=joined[SPACING].astype(float).prod(axis=1, skipna=False) / 1000)


def _read_table(path: Path) -> pd.DataFrame:
    # Only a blank is missing: a scan or a site may be called NA, and a pseudonym may look like a number.
    return pd.read_csv(path, dtype=TEXT, keep_default_na=False, na_values=[""])


def finished_runs(runs: Path) -> list[Path]:
    """Return the folder of the newest finished run of every experiment anywhere below `runs`, sorted, each once.

    `latest` names it: a run that was killed never becomes it.
    """
    newest_runs = set()
    for folder, subfolders, files in os.walk(runs):
        if LATEST in subfolders or LATEST in files:
            subfolders.clear()  # an experiment's folder: what is below are its runs
            newest = latest_run(Path(folder))
            newest_runs |= {newest.resolve()} if newest else set()
    return sorted(run for run in newest_runs if all((run / name).is_file() for name in FILES))
