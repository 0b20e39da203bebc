"""Which scan and which model an answer is of, whatever is picked or uploaded next."""

import io
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from ct.classes import EM
from ct.files.read import read_scan
from ct.files.write import write_dicom_series, write_scan_nifti
from ground_glass.__main__ import main as export
from inference.measure import measure
from inference.result import NO_CARD, ModelCard, Result
from phantom.grid import Frame
from phantom.write_phantom import make_phantom
from viewer import segment_page as scan_page

SCRIPT = (
    "from pathlib import Path; from viewer.segment_page import show_scan_page; show_scan_page(Path({!r}), Path({!r}))"
)
TIMEOUT = 60
SEGMENT = scan_page.segment
File = tuple[str, bytes, str]


def answer(
    checkpoint: Path, flips: bool, scan: Path, out: Path, name: str, progress: Callable[..., None], modules: object
) -> Result:
    """What `segment` gives, of a scan that is really read, by a model that finds nothing."""
    read = read_scan(scan)
    lungs = np.zeros(read.hu.shape, bool)
    lungs[:, 10:20, 10:20] = True
    masks = {"lungs": lungs, "infection": np.zeros_like(lungs)}
    out.mkdir()
    card = ModelCard("infection", checkpoint.parent.parent.name, ("0" * 64,), 1, 32, "0")
    return Result(name, scan, read, masks, measure(read, masks, EM), "classical", (), (), card, EM)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """A visit to a viewer with two finished runs."""
    monkeypatch.setattr(scan_page, "segment", answer)
    for name in ("first", "second"):
        run = tmp_path / "runs" / name / "2026-01-02_03-04-05-678"
        run.mkdir(parents=True)
        for file in ("config.yaml", "metrics.json", "scans.csv", "best.ckpt"):
            (run / file).touch()
        (run.parent / "latest").symlink_to(run.name)
    script = SCRIPT.format(str(tmp_path / "runs"), str(tmp_path / "cohorts"))
    page = AppTest.from_string(script, default_timeout=TIMEOUT).run()
    page.selectbox[0].select("first").run()
    return page


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A zip of a DICOM series."""
    folder, content = tmp_path_factory.mktemp("series"), io.BytesIO()
    phantom = make_phantom(1, "B", True, 1.0, 48, 12)
    write_dicom_series(phantom.hu, Frame(phantom.hu.shape, phantom.spacing_mm).affine, folder / "dicom", "x", "phantom")
    with zipfile.ZipFile(content, "w") as archive:
        for path in (folder / "dicom").iterdir():
            archive.write(path, path.name)
    return content.getvalue()


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A NIfTI file."""
    path = tmp_path_factory.mktemp("volume") / "v.nii.gz"
    phantom = make_phantom(2, "B", True, 1.0, 48, 12)
    write_scan_nifti(phantom.hu, Frame(phantom.hu.shape, phantom.spacing_mm).affine, path)
    return path.read_bytes()


def upload(page: AppTest, *files: File) -> None:
    page.file_uploader[0].set_value(files).run()


def segment(page: AppTest) -> None:
    page.button[0].click().run()
    assert not page.exception


def read(elements: Iterable[Any]) -> list[str]:
    """What a visitor reads of them."""
    return [element.value.replace("\\", "") for element in elements]


def headings(page: AppTest) -> list[str]:
    return read(page.header)


def test_an_answer_states_scan_and_model(page: AppTest, series: bytes) -> None:
    upload(page, ("doe.zip", series, "application/zip"))
    assert headings(page) == []
    segment(page)
    assert headings(page) == ["doe.zip, segmented by first, run of 2026-01-02 03:04"]
    assert not page.warning


def test_an_answer_of_another_model_is_marked(page: AppTest, series: bytes) -> None:
    upload(page, ("doe.zip", series, "application/zip"))
    segment(page)
    page.selectbox[0].select("second").run()
    assert headings(page) == ["doe.zip, segmented by first, run of 2026-01-02 03:04"]
    assert page.warning[0].value.startswith(
        "**This is an earlier answer.** You have picked doe\\.zip, segmented by second"
    )
    segment(page)
    assert headings(page) == ["doe.zip, segmented by second, run of 2026-01-02 03:04"]
    assert not page.warning


@pytest.mark.slow
def test_a_model_is_taken_by_its_path_also_an_exported_folder(
    page: AppTest, volume: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    assert export(["export", "-o", str(folder), "--no-onnx"]) == 0
    monkeypatch.setattr(scan_page, "segment", SEGMENT)
    assert page.text_input[0].label == "or a model by its path"
    assert "a folder of ground-glass export" in page.text_input[0].placeholder
    page.text_input[0].set_value(str(folder)).run()
    upload(page, ("doe.nii.gz", volume, "application/gzip"))
    segment(page)
    assert headings(page) == [f"doe.nii.gz, segmented by {folder}"]
    assert any("trained on 190 scans" in text for text in read(page.caption)), "the model's own card"


@pytest.mark.parametrize("change", ["flips", "phantom", "checkpoint"])
def test_whatever_is_picked_next_marks_the_answer(page: AppTest, series: bytes, change: str) -> None:
    upload(page, ("doe.zip", series, "application/zip"))
    segment(page)
    if change == "flips":
        page.toggle[0].set_value(True).run()
    elif change == "phantom":
        page.radio[0].set_value("Phantom example").run()
    else:
        page.text_input[0].set_value("elsewhere/best.ckpt").run()
    assert "earlier answer" in page.warning[0].value


def test_a_second_patient_replaces_the_first(page: AppTest, series: bytes, volume: bytes) -> None:
    upload(page, ("doe.zip", series, "application/zip"))
    segment(page)
    upload(page, ("roe.nii.gz", volume, "application/gzip"))
    assert "earlier answer" in page.warning[0].value
    segment(page)
    assert headings(page) == ["roe.nii.gz, segmented by first, run of 2026-01-02 03:04"]
    assert not page.error


def test_another_file_of_the_same_name_is_another_scan(page: AppTest, series: bytes, volume: bytes) -> None:
    upload(page, ("scan.zip", series, "application/zip"))
    segment(page)
    upload(page, ("scan.zip", series, "application/zip"))
    assert "earlier answer" in page.warning[0].value


def test_the_right_zip_works_after_a_wrong_file(page: AppTest, series: bytes) -> None:
    upload(page, ("letter.nii.gz", b"no image", "application/gzip"))
    segment(page)
    assert read(page.error)[0].startswith("scan/letter.nii.gz: not a readable NIfTI file")
    assert headings(page) == []
    upload(page, ("doe.zip", series, "application/zip"))
    assert not page.error, "the sentence is of a file that is picked no more"
    segment(page)
    assert headings(page) == ["doe.zip, segmented by first, run of 2026-01-02 03:04"]


def test_files_that_come_together_are_one_scan(page: AppTest, series: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(series)) as archive:
        files = [(name, archive.read(name), "application/dicom") for name in sorted(archive.namelist())]
    upload(page, *files)
    segment(page)
    assert headings(page) == [f"{files[0][0]} and 11 more, segmented by first, run of 2026-01-02 03:04"]


def test_choices_close_with_an_answer_and_open_with_a_refusal(page: AppTest, series: bytes) -> None:
    upload(page, ("doe.zip", series, "application/zip"))
    segment(page)
    assert not page.session_state["choices"]
    upload(page, ("letter.nii.gz", b"no image", "application/gzip"))
    segment(page)
    assert page.session_state["choices"]


def test_a_flag_is_said_in_plain_words_and_its_figures_on_demand(
    page: AppTest, series: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = "the network's features are 1.1 away from theirs, which differ from each other by 0.48 usually"
    flag = f"unlike the 48 training scans: {figures}"
    monkeypatch.setattr(scan_page, "segment", lambda *given: replace(answer(*given), flags=(flag,)))
    upload(page, ("doe.zip", series, "application/zip"))
    segment(page)
    assert page.warning[0].value.startswith("**This result may be wrong:** unlike the 48 training scans.")
    assert not [text for text in read(page.markdown) if "features" in text]
    page.session_state[f"tabs-{page.session_state['answer'].result.name}"] = "About this result"
    page.run()
    assert [text for text in read(page.markdown) if figures in text]


def test_a_model_s_card_stands_below_the_heading(page: AppTest, series: bytes) -> None:
    upload(page, ("doe.zip", series, "application/zip"))
    segment(page)
    assert f"Model: {NO_CARD}." in read(page.caption)
