import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from pages.line_chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, axes_of, line_chart


def drawing(lines: list[Line], **options: bool) -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{line_chart(lines, 'x <mm>', 'y', **options)}</div>")


def ticks(root: ElementTree.Element) -> tuple[list[str], list[str]]:
    texts = [text for text in root.iter("text") if re.fullmatch(r"-?[\d.e+]+", text.text or "")]
    upright = [text.text or "" for text in texts if text.get("text-anchor") == "end"]
    return [text.text or "" for text in texts if text.get("text-anchor") == "middle"], upright


def test_points_stand_where_their_values_are() -> None:
    line = Line("a & b", "#ff0000", [0, 5, 10], [0, 40, np.nan])
    root = drawing([line], points=True, here=True)
    circles = [(float(point.attrib["cx"]), float(point.attrib["cy"])) for point in root.iter("circle")]
    assert circles == [(LEFT, HEIGHT - BOTTOM), (pytest.approx((LEFT + WIDTH - RIGHT) / 2, abs=0.1), TOP)]
    assert ticks(root) == (["0", "5", "10"], ["0", "10", "20", "30", "40"])
    assert "a & b" in "".join(root.itertext())
    assert len([stroke for stroke in root.iter("line") if stroke.get("class") == "here"]) == 1


def test_a_line_breaks_where_nothing_is_known() -> None:
    root = drawing([Line("a", "#000000", range(5), [1, 2, np.nan, 3, 4])])
    (path,) = root.iter("path")
    assert re.sub(r"[^ML]", "", path.attrib["d"]) == "MLML"


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 44), (-90, 330), (-1e-4, 3e-4), (0, 1e6), (-5, -1), (0, 0), (0.2, 0.21)]
)
def test_every_point_and_zero_is_inside_the_axes(low: float, high: float) -> None:
    axes = axes_of([Line("a", "#000000", [1, 2], [low, high])])
    assert axes.y[0] <= min(low, 0)
    assert axes.y[1] >= max(high, 0)
    assert axes.y[0] < axes.y[1]
    marks = ticks(drawing([Line("a", "#000000", [1, 2], [low, high])]))[1]
    assert 2 <= len(marks) <= 8
    assert "0" in marks
    assert float(marks[0]) == pytest.approx(axes.y[0])
    assert float(marks[-1]) == pytest.approx(axes.y[1])


def test_whole_numbers_have_whole_ticks_and_one_point_a_place() -> None:
    assert ticks(drawing([Line("a", "#000000", [1, 2], [0, 1])]))[0] == ["1", "2"]
    assert all("." not in mark for mark in ticks(drawing([Line("a", "#000000", [1, 12], [0, 1])]))[0])
    alone = axes_of([Line("a", "#000000", [3], [1])])
    assert alone.across(3) == pytest.approx((LEFT + WIDTH - RIGHT) / 2)
