"""Class sets: the papers' own, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ct.classes import EM, FOLDER, L3, class_set, read_class_set

CODES = np.arange(-1, 11)


def test_the_codes_of_paper_l3_are_its_groups() -> None:
    assert L3.leaves_of(CODES).tolist() == [-1, 0, 1, 1, 0, 0, 2, 3, 3, 4, 4, 4]
    assert [leaf.key for leaf in L3.leaves] == ["background", "lungs", "group_2", "group_3", "group_4"]
    assert L3.opacities == L3.foreground == (2, 3, 4)
    assert [finding.key for finding in L3.multiclass_findings] == ["infection", "group_2", "group_3", "group_4"]


def test_infection_and_consolidation_are_the_same_codes_in_both_papers() -> None:
    for classes in (EM, L3):
        assert classes.mask_of("infection", CODES).tolist() == [-1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
        assert classes.mask_of("consolidation", CODES).tolist() == [-1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]
    assert EM.reading == L3.reading, "scans prepared for one paper serve the other"
    assert read_class_set("ild").reading != L3.reading


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_a_set_survives_as_plain_values(name: str) -> None:
    classes = read_class_set(name)
    stored = yaml.safe_load(yaml.safe_dump(classes.plain()))
    assert class_set(stored) == classes
    assert class_set(stored).plain() == classes.plain(), "report terms are stored too"
    before = {**stored, "leaves": [without_report_terms(leaf) for leaf in stored["leaves"]]}
    assert class_set(before) == classes, "stored before there were report terms"


def without_report_terms(leaf: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in leaf.items() if key != "reported_as"}


def test_shapes_and_types_are_kept() -> None:
    codes = np.array([[[0, 5], [10, -1]]], np.int16)
    assert L3.leaves_of(codes).shape == codes.shape
    assert L3.leaves_of(codes).dtype == np.int8
    assert L3.leaves_of(np.zeros((0, 3), np.int8)).shape == (0, 3)


@pytest.mark.parametrize("code", [-2, 11, 127, 300])
def test_a_code_of_no_leaf_is_refused(code: int) -> None:
    with pytest.raises(ValueError, match=rf"from 0 to {code}|from {code} to 0") as caught:
        L3.leaves_of(np.array([0, code]))
    assert "the class set l3" in str(caught.value)


def own_term(content: dict[str, Any], **attributes: object) -> None:
    content["leaves"][2]["reported_as"] = [{"name": "haze", **attributes}]


GOOD = yaml.safe_load((FOLDER / "em.yaml").read_text())


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda content: content.pop("findings"), "no class set ('findings')"),
        (lambda content: content["leaves"].reverse(), "the first leaf is not background or the second not lungs"),
        (lambda content: content["leaves"][2].update(key="lungs"), "two leaves or findings have one key"),
        (lambda content: content["leaves"][2]["codes"].update({10: "twice"}), "two leaves have one code"),
        (lambda content: content["leaves"][2]["codes"].update({128: "large"}), "a code is not within 0..127"),
        (lambda content: content["findings"][0]["leaves"].append("nodule"), "a leaf that is not listed"),
        (lambda content: content["findings"].clear(), "there is no finding"),
        (lambda content: content["leaves"][2].update(colour="red"), "red is no colour of the palette"),
        (lambda content: content["leaves"][2].update(reported_as=["haze"]), "haze is no term of ct/report_terms.py"),
        (lambda content: content["leaves"][2].update(reported_as=[{"name": "haze"}]), "no class set ("),
        (lambda content: own_term(content, patterns="haze"), "patterns of a report term is haze"),
        (lambda content: own_term(content, patterns=["(a", "b)"]), "patterns of a report term is ['(a', 'b)']"),
        (lambda content: content["leaves"][2].update(reported_as="ground_glass"), "reported_as is ground_glass"),
        (lambda content: own_term(content, patterns=["haz(e"]), "patterns of a report term is ['haz(e']"),
        (lambda content: own_term(content, patterns=["haze"], unless=[]), "unless of a report term is []"),
    ],
)
def test_a_file_that_is_no_class_set_is_refused(change: object, fragment: str, tmp_path: Path) -> None:
    content = yaml.safe_load(yaml.safe_dump(GOOD))
    change(content)  # type: ignore[operator]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=r"^\S*mine\.yaml: ") as caught:
        read_class_set(path)
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"no such class set; expected em, ild, l3, medseg, or the path"):
        read_class_set("medsegg")
