import csv
import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from evaluation.tables import CAPTION, finding_rows, main, results_table, study_table, text

Metrics = dict[str, float | int | None]


def metrics(dice: float = 0.7) -> Metrics:
    figures: Metrics = {"severity/pearson_r": 0.8, "severity/pearson_r_n": 12, "scans": 12}
    for i, finding in enumerate(("infection", "consolidation", "threshold", "threshold_best")):
        figures |= {f"{finding}/dice_mean": dice - i / 10, f"{finding}/dice_mean_n": 9, f"{finding}/iou_pooled": 0.5}
        figures |= {f"{finding}/relative_volume": 1.25, f"{finding}/tpr": 0.625, f"{finding}/fpr": 0.01234}
    return figures | {"threshold_best/hu": -350.0, "threshold_best/tpr": None}


def write(folder: Path, figures: Metrics) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(figures))
    return folder


def test_a_run_has_a_row_for_each_finding() -> None:
    rows = [[row.label, *(text(*figure) for figure in row.figures.items())] for row in finding_rows(metrics())]
    assert rows == [
        ["infection", "0.700", "0.500", "1.250", "0.625", "0.0123", "9"],
        ["consolidation", "0.600", "0.500", "1.250", "0.625", "0.0123", "9"],
        ["threshold", "0.500", "0.500", "1.250", "0.625", "0.0123", "9"],
        ["best threshold (-350 HU)", "0.400", "0.500", "1.250", "-", "0.0123", "9"],
    ]


@pytest.mark.parametrize("undefined", [None, math.nan, math.inf])
def test_what_is_undefined_is_a_dash_in_every_table(undefined: float | None) -> None:
    assert [text(column, undefined) for column in ("Dice", "FPR", "n", "dice")] == ["-"] * 4
    healthy = metrics() | {"consolidation/dice_mean": None, "consolidation/dice_mean_n": 0}
    (row,) = [row for row in finding_rows(healthy) if row.label == "consolidation"]
    assert [text(*figure) for figure in row.figures.items()] == ["-", "0.500", "1.250", "0.625", "0.0123", "0"]
    assert "A dash: undefined" in CAPTION


def test_results_table_shows_the_same_figures() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(results_table(metrics()))
    shown = console.export_text()
    assert "Dice: mean over the n scans" in shown
    row = next(line for line in shown.splitlines() if "best threshold (-350 HU)" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")][1:] == ["0.400", "0.500", "1.250", "-", "0.0123", "9"]


def test_study_table_has_every_seed_and_the_mean() -> None:
    other = {"infection/dice_mean": None, "infection/dice_mean_n": 0}
    lines = study_table([("unet_em", 0, metrics(0.7)), ("unet_em", 2, metrics(0.8)), ("base", 0, other)]).splitlines()
    assert lines[0] == "| experiment | finding | Dice, seed 0 | Dice, seed 2 | Dice, mean | IOU | RV | TPR | FPR |"
    assert lines[3] == "| unet_em | consolidation | 0.600 | 0.700 | 0.650 | 0.500 | 1.250 | 0.625 | 0.0123 |"
    assert lines[6] == "| unet_em | severity (Pearson's r) | 0.800 | 0.800 | 0.800 | - | - | - | - |"
    assert lines[7] == "| base | infection | - | - | - | - | - | - | - |"
    assert len(lines) == 8


def test_cli_prints_every_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(write(tmp_path / "one", metrics())), str(write(tmp_path / "two", metrics(0.9)))])
    shown = capsys.readouterr().out
    assert "0.700" in shown
    assert "0.900" in shown


def test_cli_writes_and_prints_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1, 10):
        write(tmp_path / f"seed{seed}" / "unet_em" / "latest", metrics(0.7 + seed / 100))
        write(tmp_path / f"seed{seed}" / "unet_em_phi1" / "latest", metrics(0.5))
    main(["--study", str(tmp_path)])
    shown = capsys.readouterr().out
    assert shown == (tmp_path / "study.md").read_text()
    assert "| unet_em | infection | 0.700 | 0.710 | 0.800 | 0.737 |" in shown
    with (tmp_path / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 2 * 5
    assert rows[-1] == {"experiment": "unet_em_phi1", "seed": "10", "finding": "severity", "r": "0.8", "n": "12"} | {
        column: "" for column in ("Dice", "IOU", "RV", "TPR", "FPR")
    }


@pytest.mark.parametrize("study", [True, False])
def test_a_missing_metrics_json_is_one_clear_line(
    tmp_path: Path, study: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "seed0" / "unet_em"
    run.mkdir(parents=True)
    with pytest.raises(SystemExit) as stop:
        main(["--study", str(tmp_path)] if study else [str(run)])
    assert stop.value.code == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert "metrics.json: not found" in message
    assert message.startswith("error: ")
    assert not (tmp_path / "study.md").exists()


def test_an_empty_study_and_no_arguments_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--study", str(tmp_path)])
    assert "no runs found" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([])
