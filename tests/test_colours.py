"""One colour for one thing: what the outputs draw is read back, and seen as people with other colour vision see it."""

import re
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text
from places import ROOT

from callbacks.log_slices import draw_panels, draw_slices, shown_in
from ct.classes import COLOUR_OF, EM, FOLDER, L3, read_class_set
from ct.colours import BESIDE_CLASSES, name_of, rgb_of
from evaluation.report.drawing import LINE_COLOURS
from evaluation.report.general_figures import forest
from evaluation.report.worst_scans import Failure, draw_failures
from inference.outputs.scan_page import legend
from inference.overlays import findings_in, findings_of

# Linear RGB as seen without one kind of cone (Machado, Oliveira and Fernandes 2009, severity 1).
VISION = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]])
SHOWN_TOGETHER = (
    ("lungs", "infection", "consolidation"),
    ("lungs", "group_2", "group_3", "group_4"),
    ("infection", "consolidation", "threshold"),
    ("opacity", "group_2", "group_3", "group_4"),
    ("reader", "model", "lungs"),
)


def lab(colour: str, vision: str) -> np.ndarray:
    """CIELab (D65) of a colour as somebody sees it."""
    channels = np.array(rgb_of(colour)) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = (np.array(VISION[vision]) @ linear).clip(0, 1)
    x, y, z = np.cbrt(np.maximum(XYZ @ seen / XYZ.sum(1), 216 / 24389))  # black is not told from all but black
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("things", SHOWN_TOGETHER, ids="-".join)
def test_things_that_are_shown_together_can_be_told_apart(things: tuple[str, ...], vision: str) -> None:
    for one, other in combinations(things, 2):
        distance = np.linalg.norm(lab(COLOUR_OF[one], vision) - lab(COLOUR_OF[other], vision))
        assert distance > 15, f"{one} and {other}"  # 2.3 is just noticeable


def test_red_beside_green_would_fail() -> None:
    assert np.linalg.norm(lab("#a05000", "deuteranopia") - lab("#607000", "deuteranopia")) < 15


def test_what_stands_for_a_thing_stands_for_no_other() -> None:
    same = {"opacity": "infection", "group_4": "consolidation", "background": "threshold"}
    same |= {"infection_without_consolidation": "infection"}
    things = {leaf.key for classes in (EM, L3) for leaf in classes.leaves} | {"infection", "opacity", *BESIDE_CLASSES}
    colours = [COLOUR_OF[thing] for thing in things - set(same)]
    assert len(set(colours)) == len(colours)
    assert all(COLOUR_OF[thing] == COLOUR_OF[other] for thing, other in same.items())
    assert not {colour.upper() for colour in LINE_COLOURS} & set(COLOUR_OF.values())


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_a_leaf_has_a_colour_of_its_own_and_the_same_in_every_class_set(name: str) -> None:
    leaves = read_class_set(name).leaves
    assert len({leaf.colour for leaf in leaves}) == len(leaves)
    assert {leaf.key: leaf.colour for leaf in leaves} == {leaf.key: COLOUR_OF[leaf.key] for leaf in leaves}


def test_the_docs_name_the_colours_that_are_drawn() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", (ROOT / "docs" / "predict.md").read_text(), re.MULTILINE)
    said = dict(rows)
    of_groups = ", ".join(name_of(COLOUR_OF[f"group_{group}"]) for group in (2, 3, 4))
    marked = f"{name_of(COLOUR_OF['reader'])}; {name_of(COLOUR_OF['model'])}"
    for thing in ("lungs", "consolidation", "threshold"):
        assert said[thing] == name_of(COLOUR_OF[thing])
    assert [colour for text, colour in rows if text.startswith("infection (")] == [name_of(COLOUR_OF["infection"])]
    assert [colour for text, colour in rows if text.startswith("pure ground glass,")] == [of_groups]
    assert [colour for text, colour in rows if text.startswith("what a reader marked")] == [marked]


def test_no_other_file_names_a_colour_of_a_thing() -> None:
    allowed = {"ct/colours.py", "pages/page.css"}  # the second: a page's own ink and paper
    pattern = re.compile(r"\"tab:\w+\"|\"(red|green|blue|orange|purple|brown|yellow|cyan)\"|#[0-9a-fA-F]{6}\b")
    named: dict[str, list[str]] = {}
    for room in ("callbacks", "ct", "evaluation", "inference", "pages", "viewer"):
        files = [path for kind in ("py", "js", "css", "html") for path in (ROOT / room).rglob(f"*.{kind}")]
        for path in sorted(files):
            place = str(path.relative_to(ROOT))
            found = [hit.group() for hit in pattern.finditer(path.read_text())]
            named |= {place: found} if found and place not in allowed else {}
    assert named == {"evaluation/report/drawing.py": list(LINE_COLOURS)}


def masks() -> dict[str, np.ndarray]:
    infection, consolidation = np.zeros((1, 128, 128), bool), np.zeros((1, 128, 128), bool)
    infection[0, 20:100, 20:100] = consolidation[0, 40:80, 40:80] = True
    return {"infection": infection, "consolidation": consolidation}


def test_pictures_for_wandb_are_outlined_in_the_colours() -> None:
    hu = np.full((1, 128, 128), -800, np.int16)
    nothing = {name: np.zeros_like(mask) for name, mask in masks().items()}
    (picture,) = draw_panels(hu, masks(), nothing, shown_in(masks(), EM))
    assert picture.shape == (256, 3 * 256, 3)
    ct, reader, model = np.split(picture, 3, axis=1)
    grey = round((-800 + 1000) / 1350 * 255 - 0.5)
    assert (ct == grey).all()
    assert (model == ct).all()
    for name, side in (("infection", 160), ("consolidation", 80)):
        edge = (reader == rgb_of(COLOUR_OF[name])).all(-1)
        assert edge.sum() == 4 * (side - 1)
    assert tuple(reader[40, 100]) == rgb_of(COLOUR_OF["infection"])
    assert tuple(reader[80, 100]) == rgb_of(COLOUR_OF["consolidation"])


def test_figures_draw_and_label_in_the_colours() -> None:
    hu = np.full((1, 128, 128), -800, np.int16)
    figure = draw_slices(hu, masks(), masks(), ["a"], shown_in(masks(), EM))
    (legend,) = figure.legends
    assert {text.get_text(): to_hex(line.get_color()).upper() for text, line in _entries(legend)} == {
        name: COLOUR_OF[name] for name in ("infection", "consolidation")
    }
    drawn = [to_hex(part.get_edgecolor()[0]).upper() for part in figure.axes[1].collections]
    assert drawn == [COLOUR_OF["infection"], COLOUR_OF["consolidation"]]


def test_intervals_have_the_colour_of_their_finding() -> None:
    findings = ("opacity", "group_2", "group_3", "group_4", "infection", "consolidation", "threshold")
    rows = [
        {"finding": name, "site": "all", "figure": figure, "value": 0.5, "low": 0.4, "high": 0.6, "scans": 3}
        for name in findings
        for figure in ("dice_mean", "iou_pooled")
    ]
    (legend,) = forest(pd.DataFrame(rows).assign(patients=3)).legends
    colours = {text.get_text().replace(" ", "_"): to_hex(line.get_color()).upper() for text, line in _entries(legend)}
    assert colours == {name: COLOUR_OF[name] for name in findings}


def test_what_was_missed_is_the_reader_s_and_what_is_false_is_the_model_s() -> None:
    truth, prediction = np.zeros((20, 20), np.int8), np.zeros((20, 20), bool)
    truth[2:8, 2:8], prediction[12:18, 12:18] = 1, True
    figure = draw_failures([Failure("a", np.full((20, 20), -800, np.int16), truth, prediction)])
    (legend,) = figure.legends
    missed, false = (to_hex(patch.get_facecolor()).upper() for patch in legend.get_patches())
    assert (missed, false) == (COLOUR_OF["reader"], COLOUR_OF["model"])
    assert to_hex(legend.get_lines()[0].get_color()).upper() == COLOUR_OF["reader"]


def test_numbers_and_curves_of_pages_have_the_colour_of_their_finding() -> None:
    empty = np.zeros((1, 2, 2), bool)
    nested = {"lungs": empty, "infection": empty, "consolidation": empty}
    grouped = findings_of(nested | {"groups": empty}, L3)
    for found in (findings_of(nested, EM), grouped, findings_in(["infection_ml"], EM)):
        assert all(finding.colour == COLOUR_OF[finding.key] for finding in found)


def test_pages_explain_the_colours_that_they_draw() -> None:
    empty = np.zeros((1, 2, 2), bool)
    nested = {"lungs": empty, "infection": empty, "consolidation": empty}
    for masks_of, classes, things in (
        (nested, EM, ("lungs", "infection", "consolidation")),
        (nested | {"groups": empty}, L3, ("lungs", "group_2", "group_3", "group_4")),
    ):
        assert re.findall(r"background: (#\w+)", legend(masks_of, classes)) == [COLOUR_OF[thing] for thing in things]


def _entries(legend: Legend) -> Iterator[tuple[Text, Line2D]]:
    return zip(legend.get_texts(), legend.get_lines(), strict=True)
