"""A training whose scans cannot teach what its model learns is refused before it starts, with how many can."""

import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from harness import experiment_args, refused
from offline_run import read_offline_run

from datamodules.infection_data import InfectionData
from datamodules.opacity_data import OpacityData
from datamodules.slice_data import SliceData
from lightning_modules.consolidation import ConsolidationModule
from lightning_modules.infection import InfectionModule
from lightning_modules.labels import require_labels
from lightning_modules.opacity import OpacityModule
from networks.unet import UNet

SMALL = partial(UNet, channels=4)
STAGE_1, EM = InfectionModule(SMALL), ConsolidationModule(network=SMALL)
SUPERVISED, OPACITY = ConsolidationModule(network=SMALL, supervision="masks"), OpacityModule(SMALL, labels="hard")


@pytest.fixture
def prepared(cohort: Path, work: Path, tmp_path: Path) -> Path:
    """A copy of the prepared tiny phantom, to be changed: four training scans, two of them with consolidation."""
    data = InfectionData(str(cohort), str(work / "prepared"), 32)
    data.prepare_data()
    return Path(shutil.copytree(data.prepared, tmp_path / "prepared"))


def data_of(prepared: Path, kind: type[SliceData] = InfectionData, **changed: Any) -> SliceData:
    """The data in a prepared folder, with other values in some columns of its training scans."""
    weakly = {"weakly_labelled": changed.pop("weakly_labelled")} if "weakly_labelled" in changed else {}
    data = kind("my/cohort.csv", size=32, **weakly)
    data.prepared = prepared
    for column, value in changed.items():
        data.slice_table("train").scans[column] = value
    return data


@pytest.mark.parametrize(
    ("module", "kind", "changed", "label"),
    [
        (STAGE_1, InfectionData, {"has_infection_mask": 0}, "an infection mask (infection_mask or pattern_mask)"),
        (EM, InfectionData, {"weak_label": -1}, "a weak label (has_consolidation or report)"),
        (EM, InfectionData, {"weak_label": [0, -1, -1, 0]}, "consolidation by their weak label"),
        (SUPERVISED, InfectionData, {"has_pattern_mask": 0}, "a pattern mask (pattern_mask)"),
        (OPACITY, OpacityData, {"has_pattern_mask": 0}, "a pattern mask (pattern_mask)"),
    ],
)
def test_no_label_at_all(
    prepared: Path, module: Any, kind: type[SliceData], changed: dict[str, Any], label: str
) -> None:
    count = re.escape(f"my/cohort.csv: 0 of 4 training scans have {label}, without which")
    with pytest.raises(ValueError, match=rf"^{count} .*learns nothing"):
        require_labels(module, data_of(prepared, kind, **changed))


@pytest.mark.parametrize(
    ("module", "kind", "array", "code", "finding"),
    [
        (STAGE_1, InfectionData, "infection", 0, "infection"),
        (STAGE_1, InfectionData, "infection", -1, "infection"),
        (SUPERVISED, InfectionData, "patterns", 5, "consolidation"),  # ground glass alone
        (OPACITY, OpacityData, "patterns", 1, "opacity"),  # lungs alone
    ],
)
def test_labels_that_never_show_the_finding(
    prepared: Path, module: Any, kind: type[SliceData], array: str, code: int, finding: str
) -> None:
    data = data_of(prepared, kind)
    require_labels(module, data)
    for path in prepared.glob(f"*/{array}.npy"):
        np.save(path, np.full_like(np.load(path), code))
    with pytest.raises(ValueError, match=f"4 of 4 training scans have .*, but none of these shows any {finding}"):
        require_labels(module, data)


def test_one_positive_slice_of_one_scan_is_enough(prepared: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = data_of(prepared)
    for path in prepared.glob("*/infection.npy"):
        np.save(path, np.zeros_like(np.load(path)))
    with pytest.raises(ValueError, match="none of these shows any infection"):
        require_labels(STAGE_1, data)
    last = Path(data.slice_table("train").scans["folder"].iloc[-1]) / "infection.npy"
    mask = np.load(last)
    mask[3, 16, 16] = 1
    np.save(last, mask)
    with caplog.at_level("INFO", "pytorch_lightning"):
        require_labels(STAGE_1, data)
    assert "train: 4 of 4 training scans have an infection mask" in caplog.text


def test_labels_of_slices_that_training_leaves_out(prepared: Path) -> None:
    masks: dict[str, Any] = {"has_pattern_mask": [1, 0, 1, 0], "weak_label": [-1, 1, -1, 0]}
    require_labels(SUPERVISED, data_of(prepared, **masks))
    with pytest.raises(
        ValueError, match=r"2 of 4 training scans have a pattern mask.*patients whose weak label is unkn"
    ):
        require_labels(SUPERVISED, data_of(prepared, weakly_labelled=True, **masks))


@pytest.mark.slow
def test_the_command_ends_before_training(
    cohort: Path, work: Path, infection_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.read_csv(cohort, dtype=str).drop(columns=["has_consolidation", "report"], errors="ignore")
    unknown = cohort.with_name("unknown.csv")
    rows.to_csv(unknown, index=False)
    weights = f"--model.init_weights={infection_run / 'best.ckpt'}"
    line = refused(capsys, ["fit", *experiment_args("smoke", unknown, work, weights, f"--runs={tmp_path}")])
    assert line.startswith(f"error: {unknown}: 0 of 4 training scans have a weak label (has_consolidation or report)")
    assert not list(tmp_path.glob("*/*/*.ckpt"))
    (run,) = (tmp_path / "smoke").iterdir()
    reason = read_offline_run(run).summary["error"]
    assert "0 of 4 training scans have a weak label" in reason, "the run in W&B says why there is nothing else in it"
    assert "unknown.csv" not in reason
