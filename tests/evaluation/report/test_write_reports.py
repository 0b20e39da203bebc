"""Reports of finished runs, from the command line to the page in a browser."""

import base64
import re
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from chromium import CHROMIUM, visit
from matplotlib import pyplot as plt
from matplotlib.text import Text
from report_harness import SCANS, make_run

from evaluation.report import report_folder
from evaluation.report.__main__ import main
from evaluation.report.em_sections import results_table
from evaluation.run_data import read_run

pytestmark = pytest.mark.slow

EVERY_RUN = {"sites", "per_site", "human_ceiling", "volumes", "surface", "surface_scans", "calibration", "by_spacing"}
EVERY_RUN |= {"by_lesion_size", "worst_scans", "composition", "labels", "key_figures"}
GENERAL = {"curves", "per_site", "bland_altman", "calibration", "by_spacing", "by_lesion_size", "worst_scans"}
EM = {"severity", "tpr_fpr", "overlays", "fpr_by_dilation", "scores"}
UNDEFINED = re.compile(r"\b(nan|None|inf)\b|\b1 (scans|slices|patients|points|runs)\b")
L3 = {"groups", "group_confusion", "wal", "agreement_matrix", "agreement_maps"}


def save_small(figure: Any, path: Path) -> None:
    """Do as `evaluation.report.drawing.save`, without what takes its time; what is undefined fails."""
    figure.draw_without_rendering()
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert not [text for text in texts if UNDEFINED.search(text)], path
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.set_layout_engine("none")
    figure.savefig(path.with_suffix(".png"), dpi=25)
    plt.close(figure)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of both papers, of which all were reported, and one that was killed."""
    runs = tmp_path_factory.mktemp("report") / "runs"
    make_run(runs, "unet_em", "consolidation")
    make_run(runs, "opacity_unet", "opacity")
    (runs / "killed" / "2026-01-01").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_folder, "save", save_small)
        patch.setenv("WANDB_MODE", "offline")
        assert main(["--runs", str(runs)]) == 0
    return runs


def report_of(runs: Path, experiment: str) -> Path:
    return runs / experiment / "2026-01-01" / "report"


@pytest.mark.parametrize(("experiment", "own"), [("unet_em", EM), ("opacity_unet", L3)])
def test_every_figure_and_table_is_there(runs: Path, experiment: str, own: set[str]) -> None:
    report = report_of(runs, experiment)
    assert {path.stem for path in (report / "figures").glob("*.png")} == GENERAL | own
    tables = {path.stem for path in (report / "tables").glob("*.csv")}
    assert tables >= EVERY_RUN
    assert {path.stem for path in (report / "tables").glob("*.md")} == tables
    for path in (report / "figures").glob("*.png"):
        assert len(np.unique(matplotlib.image.imread(path))) > 10, f"{path.name} is empty"


def test_the_page_shows_the_files_and_the_figures_of_the_run(runs: Path) -> None:
    report = report_of(runs, "unet_em")
    page = (report / "index.html").read_text()
    shown = re.findall(r'src="data:image/png;base64,([^"]*)"', page)
    assert {base64.b64decode(picture) for picture in shown} == {
        path.read_bytes() for path in (report / "figures").glob("*.png")
    }
    metrics = read_run(runs / "unet_em" / "latest").metrics
    for key in ("infection/dice_mean", "consolidation/iou_pooled", "threshold/tpr"):
        assert f">{metrics[key]:.3f}</td>" in page
    assert "4 of 3 patients, 16 slices" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert str(runs) not in page, "a page that is passed on says nothing of this machine"


def test_tables_have_the_figures_of_the_run(runs: Path) -> None:
    run, tables = read_run(runs / "unet_em" / "latest"), report_of(runs, "unet_em") / "tables"
    sites = pd.read_csv(tables / "per_site.csv").set_index(["site", "finding", "figure"])["value"]
    assert sites["all", "infection", "iou_pooled"] == pytest.approx(run.metrics["infection/iou_pooled"])
    assert sites["B", "consolidation", "dice_mean"] == pytest.approx(run.metrics["site/B/consolidation/dice_mean"])
    volumes = pd.read_csv(tables / "volumes.csv").set_index(["finding", "scan_id"])
    truth, prediction = run.pair("c", "consolidation")
    assert volumes.loc[("consolidation", "c"), "truth_ml"] == pytest.approx((truth == 1).sum() * 0.02)
    assert volumes.loc[("consolidation", "c"), "predicted_ml"] == pytest.approx(
        (prediction & (truth >= 0)).sum() * 0.02
    )
    methods = pd.read_csv(tables / "consolidation.csv").set_index("method")
    assert methods.loc["phi2 (unet_em)", "TPR in infection"] == run.metrics["consolidation/tpr_in_infection"]
    assert methods.loc["phi2 (paper EM, real scans)", "Dice"] == 0.628
    readers = pd.read_csv(report_of(runs, "opacity_unet") / "tables" / "readers.csv")
    assert readers["reader"].tolist() == ["1", "2", "3", "model"]
    assert readers["scans"].tolist() == [2, 2, 2, 2]


def test_the_index_has_all_runs_side_by_side(runs: Path) -> None:
    report = runs / "report"
    page = (report / "index.html").read_text()
    for experiment in ("unet_em", "opacity_unet"):
        address = f"../{experiment}/2026-01-01/report/index.html"
        assert f'<a href="{address}">{experiment}</a>' in page
        assert (report / address).is_file()
    assert {path.stem for path in (report / "figures").glob("*.png")} == {
        "1_intervals",
        "2_intervals",
        "2_tpr_fpr",
        "2_overlays",
    }
    assert "killed" not in page


def test_wandb_gets_the_figures_and_no_path(runs: Path) -> None:
    [log] = (report_of(runs, "unet_em") / "wandb").glob("offline-run-*/run-*.wandb")
    content = log.read_bytes()
    assert b"unet_em/2026-01-01/report" in content
    assert b"tpr_fpr" in content
    for path in (runs, Path.cwd(), Path(__file__).parent):
        assert str(path).encode() not in content
    pictures = {path.name.split("_0_")[0] for path in log.parent.glob("files/media/images/report/*.png")}
    assert pictures == GENERAL | EM


def shown_text(page: Path) -> str:
    """What a page says, without its pictures and its style."""
    return re.sub(r"<style>.*?</style>|<[^>]*>", " ", page.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize(
    ("experiment", "task", "scan", "own"),
    [
        ("unet_em", "consolidation", "a", EM),
        ("unet_em", "consolidation", "b", EM),
        ("unet_infection", "infection", "d", {"severity"}),
        ("opacity_unet", "opacity", "c", L3),
    ],
)
def test_a_run_of_one_scan_claims_nothing_that_one_scan_cannot_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str, task: str, scan: str, own: set[str]
) -> None:
    monkeypatch.setattr(report_folder, "save", save_small)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    runs = tmp_path / "runs"
    make_run(runs, experiment, task, scans=[scan])
    assert main(["--runs", str(runs)]) == 0
    report = report_of(runs, experiment)
    drawn = {path.stem for path in (report / "figures").glob("*.png")}
    healthy = scan == "b"  # no consolidation: neither a worst scan by its Dice nor a slice to show of it
    assert drawn >= own | {"curves", "per_site", "bland_altman", "calibration"}
    assert "by_spacing" not in drawn, "one stratum has nothing to compare"
    text = shown_text(report / "index.html")
    assert not UNDEFINED.findall(text)
    assert ("The worst scan." in text) is not healthy
    assert "1 of 1 patient, 4 slices" in text
    assert not UNDEFINED.findall(shown_text(runs / "report" / "index.html"))


def test_rows_of_a_phantom_are_marked_beside_the_paper_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = make_run(tmp_path / "runs", "unet_em", "consolidation")
    assert results_table({"mine": made})["scans"].tolist() == ["own cohort", "own cohort", *["real scans"] * 3]
    cohort, phantom = Path("cohorts/four"), Path("cohorts/phantom")
    for folder in (cohort, phantom):
        folder.mkdir(parents=True)
    (cohort / "cohort.csv").write_text("scan_id,image\na,../phantom/images/a.nii.gz\n")  # such as a fold
    assert not made.is_phantom
    (phantom / "phantom.json").write_text("{}")
    assert made.is_phantom
    assert results_table({"mine": made})["scans"].tolist() == ["phantoms", "phantoms", *["real scans"] * 3]


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine (Debian: apt-get install chromium)")
def test_a_browser_shows_every_picture_without_network_or_complaint(runs: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text('<img src="data:image/png;base64,AAAA"><img src="gone.png"><script>console.error("no")</script>')
    reports = [report_of(runs, "unet_em"), report_of(runs, "opacity_unet"), runs / "report"]
    *visits, noticed = visit([*(report / "index.html" for report in reports), bad])
    for report, seen in zip(reports, visits, strict=True):
        assert len(seen.widths) == len(list((report / "figures").glob("*.png"))) > 0
        assert all(seen.widths)
        assert (seen.messages, seen.requests) == ([], [])
    assert noticed.widths == [0, 0]
    assert any("no" in message for message in noticed.messages)
    assert noticed.requests == [(tmp_path / "gone.png").as_uri()]


def test_a_run_without_masks_gets_a_short_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run = make_run(tmp_path / "runs", "unet_infection", "infection")
    arguments = ["--runs", str(tmp_path / "runs"), "unet_infection"]
    (run.folder / "masks" / "a.npz").unlink()
    assert main(arguments) == 0
    page = (run.folder / "report" / "index.html").read_text()
    assert "masks of this run&#39;s test scans are missing" in page
    assert [path.name for path in (run.folder / "report" / "figures").glob("*.png")] == ["curves.png"]
    assert f"{len(SCANS)}, 16 slices" in page


def test_what_cannot_be_reported_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs", str(tmp_path), "unet_em"]) == 2
    assert capsys.readouterr().err.startswith("error: 'unet_em' is neither a run folder nor an experiment with")
    assert main(["--runs", str(tmp_path)]) == 2
    assert "none of 0 finished runs could be reported" in capsys.readouterr().err
    assert main(["--runs", str(tmp_path), "--sweep", "gone"]) == 2
    assert "run the sweep first: make sweep-offline SWEEP=gone" in capsys.readouterr().err
