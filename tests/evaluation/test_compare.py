import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from report_harness import make_run
from scipy import stats

from evaluation.compare import comparison_table, main, paired_scans, scan_values
from evaluation.find_run import find_run
from evaluation.report import report_folder
from evaluation.run_data import read_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    make_run(tmp_path / "runs", "unet_em", "consolidation", seed=7)
    make_run(tmp_path / "runs", "unet_em_phi1", "consolidation", seed=5)
    return tmp_path / "runs"


def test_differences_and_p_are_scipys(runs: Path) -> None:
    a, b = (read_run(runs / name / "latest") for name in ("unet_em", "unet_em_phi1"))
    pairs = paired_scans(a, b)
    table = comparison_table(pairs, "A", "B").set_index(["finding", "figure"])
    first, second = a.scans["infection_dice"], b.scans["infection_dice"]
    row = table.xs(("infection", "Dice"))
    assert row["A"] == pytest.approx(first.mean())
    assert row["difference"] == pytest.approx((first - second).mean())
    assert row["p (Wilcoxon)"] == pytest.approx(stats.wilcoxon(first, second).pvalue)
    assert row["n"] == 4
    assert table.loc[("consolidation", "Dice"), "left out"] == 1, "scan b has no consolidation"
    assert table.loc[("consolidation", "false positives (ml), scans without the finding"), "n"] == 1


def test_values_of_a_scan_are_counted_from_its_voxels(runs: Path) -> None:
    run = read_run(runs / "unet_em" / "latest")
    values = scan_values(run, "consolidation")
    truth, prediction = run.pair("a", "consolidation")
    error = abs(int((prediction & (truth >= 0)).sum()) - int((truth == 1).sum())) * 0.02
    assert values.loc["a", "volume_error_ml"] == pytest.approx(error)
    assert np.isnan(values["false_positive_ml"]["a"])
    truth, prediction = run.pair("b", "consolidation")
    assert values.loc["b", "false_positive_ml"] == pytest.approx((prediction & (truth == 0)).sum() * 0.02)


def test_the_command_writes_tables_figure_and_page(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(report_folder, "save", lambda figure, path: _write(drawn, figure, path))
    assert main(["--runs", str(runs), "unet_em", str(runs / "unet_em_phi1")]) == 0
    folder = runs / "compare" / "unet_em-unet_em_phi1"
    assert "| infection | Dice |" in capsys.readouterr().out
    assert (folder / "index.html").is_file()
    scans = pd.read_csv(folder / "tables" / "scans.csv")
    assert len(scans) == 3 * 4
    [figure] = drawn
    infection = figure.axes[0]
    offsets = [np.asarray(part.get_offsets()) for part in infection.collections]
    points = np.concatenate([points[:, 0] for points in offsets if len(points) > 1])
    rows = scans[scans["finding"] == "infection"]
    assert sorted(points) == pytest.approx(sorted(rows["dice_a"] - rows["dice_b"]))
    assert "n = 4 scans" in infection.get_title()


def _write(drawn: list[Figure], figure: Figure, path: Path) -> None:
    drawn.append(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".png").write_bytes(b"\0" * 24)


def refused(runs: Path, capsys: pytest.CaptureFixture[str], other: str = "unet_em_phi1") -> str:
    assert main(["--runs", str(runs), "unet_em", other]) == 2
    return capsys.readouterr().err


def test_runs_that_cannot_be_compared_are_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(runs, "opacity_unet", "opacity")
    assert "expected two runs of the same task" in refused(runs, capsys, "opacity_unet")
    folder = runs / "unet_em_phi1" / "2026-01-01"
    path = folder / "masks" / "c.npz"
    arrays = dict(np.load(path))
    changed = arrays["truth_infection"].copy()
    z, y, x = np.argwhere((changed == 1) & (arrays["lung"] > 0))[0]
    changed[z, y, x] = 0
    np.savez(path, **(arrays | {"truth_infection": changed}))
    assert "scan c: the truth of infection differs" in refused(runs, capsys)
    scans = pd.read_csv(folder / "scans.csv")
    for name in (folder / "scans.csv", folder / "masks" / "scans.csv"):
        table = pd.read_csv(name)
        table.assign(scan_id=[f"x{scan}" for scan in table["scan_id"]]).to_csv(name, index=False)
    for scan_id in scans["scan_id"]:
        (folder / "masks" / f"{scan_id}.npz").rename(folder / "masks" / f"x{scan_id}.npz")
    assert "tested on no scan in common" in refused(runs, capsys)
    shutil.rmtree(folder / "masks")
    assert "no masks of its test scans" in refused(runs, capsys)


def test_a_run_is_found_by_experiment_and_by_folder(runs: Path) -> None:
    folder = runs / "unet_em" / "2026-01-01"
    for name in ("unet_em", str(folder), str(folder.parent)):
        assert find_run(name, runs).resolve() == folder
    with pytest.raises(ValueError, match=r"'unet_x' is neither .* one of: unet_em, unet_em_phi1$"):
        find_run("unet_x", runs)
