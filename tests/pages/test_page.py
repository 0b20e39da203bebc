import base64
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup
from PIL import Image

from evaluation.report.report_folder import ReportFolder
from pages.page import Alarm, Drawing, Item, Note, Picture, Section, Table, cell, page


def test_text_is_escaped_and_pictures_are_inside(tmp_path: Path) -> None:
    Image.new("RGB", (300, 20)).save(tmp_path / "a.png")
    items: list[Item] = [Picture(tmp_path / "a.png", 'a "b" <c>', "1 < 2 & 3"), Note("<script>alert(1)</script>")]
    html = page("<t>", "s", {"k<": "v>"}, [Section("one & two", items), Section("empty", [])], "end")
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert 'alt="a &#34;b&#34; &lt;c&gt;"' in html
    assert base64.b64encode((tmp_path / "a.png").read_bytes()).decode() in html
    assert 'width="216"' in html  # 300 dots at 150 per inch are two inches
    assert '<a href="#s1">one &amp; two</a>' in html
    assert "empty" not in html
    assert "<dt>k&lt;</dt><dd>v&gt;</dd>" in html


def test_a_table_links_what_it_is_told_and_folds_when_long() -> None:
    frame = pd.DataFrame({"run": ["x", "y"], "dice": [0.12345, np.nan]})
    html = page("t", "", {}, [Section("s", [Table(frame, "T", "c", {"x": "../x.html"})])], "")
    assert '<td class="text"><a href="../x.html">x</a></td><td>0.123</td>' in html
    assert '<td class="text">y</td><td>-</td>' in html
    assert "<details>" not in html
    long = page("t", "", {}, [Section("s", [Table(pd.concat([frame] * 9), "T", "c")])], "")
    assert "<summary><b>T.</b> 18 rows</summary>" in long


def test_the_policy_names_the_scripts_of_the_page_and_no_others() -> None:
    plain = page("t", "", {}, [Section("s", [Note("n")])], "")
    assert "script" not in plain
    moving = page("t", "", {}, [Section("s", [Note("n")])], "", scripts=["let a = '<b>';"])
    digest = base64.b64encode(hashlib.sha256(b"let a = '<b>';").digest()).decode()
    assert f"script-src 'sha256-{digest}'\">" in moving
    assert "<script>let a = '<b>';</script>" in moving


def test_a_sortable_table_keeps_all_digits_and_brings_its_script() -> None:
    frame = pd.DataFrame({"run": ["x"] * 17, "dice": [1 / 3, *[np.nan] * 16]})
    html = page("t", "", {}, [Section("s", [Table(frame, "T", "c", sortable=True)])], "")
    assert f'<td data-value="{1 / 3}">0.333</td>' in html
    assert '<td data-value="">-</td>' in html
    assert "<details>" not in html
    assert '<th class="text"><button type="button">run</button></th>' in html
    assert html.count("<script>") == html.count("sha256-") == 1


def test_what_is_on_top_stands_before_the_contents() -> None:
    top: list[Item] = [Alarm("Look <here>", ["a < b"]), Drawing(Markup("<svg></svg>"), "A <title>", "c & d")]
    html = page("t", "", {}, [Section("s", [Note("n")])], "", top)
    assert (
        html.index("Look &lt;here&gt;</b><ul><li>a &lt; b</li></ul>") < html.index("<svg></svg>") < html.index("<nav>")
    )
    assert "<figcaption><b>A &lt;title&gt;.</b> c &amp; d</figcaption>" in html


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, "-"), (pd.NA, "-"), (np.nan, "-"), (3, "3"), (3.0, "3"), (0.5, "0.500"), (0.00123, "0.0012")),
        *((-12.34, "-12.3"), (1234.5, "1,234.5"), ("a b", "a b")),
    ],
)
def test_cell(value: object, text: str) -> None:
    assert cell(value) == text


def test_a_report_folder_writes_tables_with_all_digits_and_as_they_are_shown(tmp_path: Path) -> None:
    report = ReportFolder(tmp_path / "report")
    report.section("s")
    report.table("t", pd.DataFrame({"a": ["x"], "b": [1 / 3]}), "T", "c")
    assert pd.read_csv(tmp_path / "report" / "tables" / "t.csv")["b"].item() == 1 / 3
    assert (tmp_path / "report" / "tables" / "t.md").read_text().splitlines()[2] == "| x | 0.333 |"
    written = report.write("Title", "", {})
    assert written == tmp_path / "report" / "index.html"
    assert "<td>0.333</td>" in written.read_text()
