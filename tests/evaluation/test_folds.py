"""The figures of a cross-validation."""

import json
from pathlib import Path

import pandas as pd
import pytest

from evaluation.folds import main, pooled_metrics, read_folds

ROW = {"site": "A", "slices": 2, "infection_tp": 6, "infection_fp": 2, "infection_fn": 2, "infection_tn": 90}
EMPTY = ROW | {"infection_tp": 0, "infection_fn": 0, "infection_fp": 4, "infection_tn": 96}


def finish(folder: Path, experiment: str, rows: dict[str, dict[str, object]]) -> None:
    (folder / experiment / "latest").mkdir(parents=True)
    table = pd.DataFrame([{"scan_id": name, **row} for name, row in rows.items()])
    table.to_csv(folder / experiment / "latest" / "scans.csv", index=False)


def test_all_folds_count_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path / "fold-1", "unet", {"one": ROW, "none": EMPTY})
    finish(tmp_path / "fold-2", "unet", {"two": ROW | {"infection_tp": 2, "infection_fn": 6}})
    finish(tmp_path / "fold-1", "cut_short", {"one": ROW})
    assert main([str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "unet.json").read_text())
    assert figures["scans"] == 3
    assert figures["infection/dice_mean"] == pytest.approx((12 / 16 + 4 / 12) / 2)
    assert figures["infection/dice_mean_n"] == 2
    assert figures["infection/iou_pooled"] == pytest.approx(8 / (8 + 8 + 8))
    assert figures["infection/relative_volume"] == pytest.approx(16 / 16)
    shown = capsys.readouterr().out
    assert "cut_short is left out: not finished in fold-2" in shown
    assert "0.542" in shown
    assert "0.542" in (tmp_path / "folds.md").read_text()
    assert not (tmp_path / "cut_short.json").exists()


def test_nothing_finished_and_a_scan_tested_twice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no finished folds"):
        read_folds(tmp_path)
    finish(tmp_path / "fold-1", "unet", {"one": ROW})
    (tmp_path / "fold-2").mkdir()
    with pytest.raises(ValueError, match="unet is left out: not finished in fold-2"):
        read_folds(tmp_path)
    with pytest.raises(ValueError, match="'one' is in the test split of two folds"):
        pooled_metrics(pd.DataFrame([{"scan_id": "one", **ROW}] * 2))
