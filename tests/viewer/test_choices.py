"""What can be picked: models, phantoms; and how the viewer is started."""

from pathlib import Path

import numpy as np
import pytest

from cohort.table import read_cohort
from ct.files.read import read_pattern_mask, read_scan
from viewer import examples as module
from viewer import visit
from viewer.examples import draw_example, examples
from viewer.models import checkpoints, newest_runs, run_label
from viewer.options import read_options
from viewer.serve import SETTINGS


def finished(runs: Path, experiment: str, name: str, checkpoint: bool = True) -> Path:
    folder = runs / experiment / name
    folder.mkdir(parents=True)
    for file in ("config.yaml", "metrics.json", "scans.csv", *(["best.ckpt"] if checkpoint else [])):
        (folder / file).touch()
    (runs / experiment / "latest").symlink_to(name)
    return folder


def test_newer_runs_come_first_and_studies_last(tmp_path: Path) -> None:
    old = finished(tmp_path, "old", "2026-01-01")
    new = finished(tmp_path, "new", "2026-01-02")
    deep = finished(tmp_path, "study/seed0/deep", "2026-01-03")
    bare = finished(tmp_path, "bare", "2026-01-04", checkpoint=False)
    runs = {"bare": bare, "new": new, "old": old, "study/seed0/deep": deep}
    assert list(newest_runs(tmp_path).items()) == list(runs.items())
    assert list(checkpoints(tmp_path)) == ["new", "old", "study/seed0/deep", "default"]
    assert checkpoints(tmp_path)["old"] == old / "best.ckpt"


def test_phantoms_of_cohorts_are_test_scans_only(cohort: Path, tmp_path: Path) -> None:
    writers = examples(cohort.parent.parent)
    rows = {row.scan_id: row for row in read_cohort(cohort).rows}
    listed = [write(tmp_path) for name, write in writers.items() if name.startswith("tiny: ")]
    assert {example.name for example in listed} == {name for name, row in rows.items() if row.split == "test"}
    assert all(example.source == rows[example.name].image for example in listed)


def test_a_drawn_phantom_is_a_chest_that_a_reader_labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIXELS", 48)
    monkeypatch.setattr(module, "SLICES", 12)
    example = draw_example("ground glass and consolidation", tmp_path)
    scan = read_scan(example.source)
    assert example.patterns
    codes = read_pattern_mask(example.patterns, scan)
    assert scan.hu.shape == (12, 48, 48)
    assert np.isin(codes, (8, 9, 10)).any()
    before = example.patterns.stat().st_mtime_ns
    assert draw_example("ground glass and consolidation", tmp_path) == example
    assert example.patterns.stat().st_mtime_ns == before


def test_it_listens_here_only_and_tells_nobody() -> None:
    assert SETTINGS["server.address"] == "127.0.0.1"
    assert SETTINGS["browser.gatherUsageStats"] is False


def test_what_it_is_started_with() -> None:
    options = read_options(["--port", "1234", "--runs", "elsewhere"])
    assert options == (Path("elsewhere"), Path("cohorts"), 1234, ())
    assert list(read_options(["--modules", "my_networks", "my_priors"]).modules) == ["my_networks", "my_priors"]


@pytest.mark.parametrize(
    ("place", "folder", "label"),
    [
        ("unet_em", "2026-01-02_03-04-05-678", "unet_em, run of 2026-01-02 03:04"),
        ("study/seed0/unet_em", "2026-01-02_03-04-05", "unet_em (study, seed0), run of 2026-01-02 03:04"),
        ("mine", "renamed", "mine, run of renamed"),
    ],
)
def test_a_run_is_called_by_its_experiment_and_its_time(place: str, folder: str, label: str) -> None:
    assert run_label(place, Path("runs") / place / folder) == label


def test_a_name_cannot_become_a_picture_or_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit, "visit_folder", lambda: Path("/tmp/visit"))
    assert visit.plain("/tmp/visit/scan/![x](http://e.org)$a$ <b>: bad") == (
        r"scan/\!\[x\]\(http\://e\.org\)\$a\$ \<b\>\: bad"
    )
