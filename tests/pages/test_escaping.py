"""Names and sentences that want to be markup, through every page that is written."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import report_harness
from drawn_result import make_result
from report_harness import SCANS

from ct.classes import EM
from evaluation.report import report_folder
from evaluation.report.write_reports import report_run
from inference.outputs.index_page import write_index
from inference.outputs.scan_page import write_scan_page

SCRIPT = "<script>alert(1)</script>"
PICTURE = "\"><img src=x onerror='alert(2)'>"
HOSTILE = f"{SCRIPT} {PICTURE} </style></figure> {{{{ 7 * 7 }}}} &amp;"

SITES = HOSTILE, HOSTILE, PICTURE, "C"


@dataclass
class Seen(HTMLParser):
    """What a browser would make of a page.

    Attributes:
        text: All that is written, scripts and styles left out.
        scripts: What would run.
        handlers: Attributes that would run something.
        tags: Names of all elements.
    """

    text: str = ""
    scripts: list[str] = field(default_factory=list)
    handlers: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self.lasttag in ("script", "style"):
            self.scripts.append(data)
        else:
            self.text += data


def seen(page: Path) -> Seen:
    html = page.read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    read = Seen()
    read.feed(html)
    assert read.handlers == []
    assert not [script for script in read.scripts if script.startswith("alert(")]
    return read


def test_a_scan_page_shows_hostile_texts_as_they_are(tmp_path: Path) -> None:
    write_scan_page(make_result(), tmp_path / "plain.html")
    write_scan_page(make_result(name=HOSTILE, lung_source=SCRIPT, flags=(HOSTILE,)), tmp_path / "report.html")
    read = seen(tmp_path / "report.html")
    assert f"Chest CT: {HOSTILE}" in read.text
    assert f"Flags: {HOSTILE}." in read.text
    assert read.text.count(HOSTILE) == 4  # title, heading, alarm and note
    added = sorted(read.tags)
    for tag in seen(tmp_path / "plain.html").tags:
        added.remove(tag)
    assert added == ["b", "div", "li", "ul"], "an alarm is all that a flag adds"


def test_an_index_shows_hostile_texts_as_they_are(tmp_path: Path) -> None:
    rows = pd.DataFrame({"name": [HOSTILE], "lung_ml": [1.0], "flags": [HOSTILE], "model": [SCRIPT]})
    scans = pd.DataFrame({"patient": [1, 1], "name": [HOSTILE] * 2, "days": [0.0, 1.0], "infection_ml": [1.0, 2.0]})
    failed = pd.DataFrame({"name": [PICTURE], "reason": [SCRIPT]})
    read = seen(write_index(tmp_path, rows, failed, EM, scans))
    assert read.text.count(HOSTILE) == 5  # among the scans, twice among the flagged, twice over time
    assert PICTURE in read.text.replace(HOSTILE, "")
    assert read.tags.count("img") == 0
    assert read.tags.count("script") == 1


@pytest.mark.slow
def test_a_report_shows_hostile_texts_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_small(figure: Any, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path.with_suffix(".png"), dpi=10)

    monkeypatch.setattr(report_folder, "save", write_small)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    scans = {scan: (site, *rest) for (scan, (_, *rest)), site in zip(SCANS.items(), SITES, strict=True)}
    monkeypatch.setattr(report_harness, "SCANS", scans)
    run = report_harness.make_run(tmp_path / "runs", "unet_infection", "infection")
    read = seen(report_run(run))
    assert f"Test sites{', '.join(sorted({*SITES}))}" in read.text
    assert read.text.count(HOSTILE) > 3
    assert read.tags.count("img") == len(list((tmp_path / "runs").rglob("figures/*.png")))
    assert "script" not in read.tags
