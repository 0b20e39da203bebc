"""A patient's name, id, birth date and UIDs, planted wherever hospitals leave them, come out nowhere."""

import csv
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import pandas as pd
import pydicom
import pytest
from broken_scans import broken_inputs
from harness import experiment_args, train_in_process
from nibabel.arrayproxy import ArrayProxy
from offline_run import payloads
from places import ROOT
from predict_harness import predict

from evaluation.report.__main__ import main as report
from inference.predict import main
from viewer.choose import UPLOADED
from viewer.segment_page import segment
from viewer.upload import receive

pytestmark = pytest.mark.slow

NAME, PATIENT_ID, BIRTH_DATE, UID = "Canariensis", "ZX90210", "19010203", "1.2.826.0.1.424242"
CANARIES = [text.encode() for text in (NAME, PATIENT_ID, BIRTH_DATE, UID, "Zelda")]


def plant(cohort: Path, to: Path) -> Path:
    """A copy of a cohort in which everything that may bear a patient's name does."""
    home = to / f"{NAME}_Zelda_{BIRTH_DATE}"
    shutil.copytree(cohort.parent, home)
    rows = list(csv.DictReader((home / "cohort.csv").open(newline="")))
    for number, row in enumerate(rows):
        row["patient_id"] = f"{PATIENT_ID}-{number}"
        image = home / row["image"]
        named = image.with_name(f"{NAME}_{number}_{image.name}")
        image.rename(named)
        row["image"] = f"images/{named.name}"
        plant_in_image(named)
        report = home / row["report"]
        report.write_text(f"Patient: Zelda {NAME}, {BIRTH_DATE}, {PATIENT_ID}.\n" + report.read_text())
    broken = home / "images" / f"{NAME}_broken.nii.gz"
    broken.write_bytes(b"no image")  # a scan that is refused, with a reason that names its file
    rows.append(rows[0] | {"scan_id": "A099", "patient_id": f"{PATIENT_ID}-99", "image": f"images/{broken.name}"})
    with (home / "cohort.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return home / "cohort.csv"


def plant_in_image(image: Path) -> None:
    if not image.is_dir():
        volume = nibabel.Nifti1Image.from_filename(image)
        volume.header["descrip"], volume.header["db_name"] = f"Zelda {NAME} {BIRTH_DATE}".encode(), PATIENT_ID.encode()
        assert isinstance(volume.dataobj, ArrayProxy)
        nibabel.save(volume.__class__(volume.dataobj.get_unscaled(), volume.affine, volume.header), image)
        return
    for path in image.iterdir():
        file = pydicom.dcmread(path)
        file.PatientName, file.PatientID, file.PatientBirthDate = f"{NAME}^Zelda", PATIENT_ID, BIRTH_DATE
        file.StudyInstanceUID, file.SeriesInstanceUID, file.FrameOfReferenceUID = (f"{UID}.{n}" for n in (1, 2, 3))
        file.SeriesDescription = f"Thorax {NAME}"
        file.save_as(path)


def contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and those that are compressed or framed in it."""
    data = path.read_bytes()
    yield data
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield from map(archive.read, archive.namelist())
    elif data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    elif path.suffix == ".wandb":
        yield b"\n".join(payloads(data))


def found_in(folder: Path) -> set[tuple[str, bytes]]:
    """(file, canary) for every canary in a folder's files and in their names."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "config.yaml"]
    assert files
    named = {(str(path), canary) for path in files for canary in CANARIES if canary in str(path).encode()}
    read = {(str(path), canary) for path in files for part in contents(path) for canary in CANARIES if canary in part}
    return named | read


@pytest.fixture(scope="module")
def planted(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(cohort, tmp_path_factory.mktemp("hospital"))


def test_the_search_finds_what_is_there(planted: Path, tmp_path: Path) -> None:
    canaries = {canary for _, canary in found_in(planted.parent)}
    assert canaries == set(CANARIES)
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", NAME * 9)
    assert found_in(tmp_path) == {(str(tmp_path / "a.ckpt"), NAME.encode())}


@pytest.fixture(scope="module")
def trained(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both stages were trained on the planted cohort: runs/ and prepared/."""
    work = tmp_path_factory.mktemp("trained")
    train_in_process("smoke_infection", planted, work, "--trainer.max_epochs=1")
    stage_1 = work / "runs" / "smoke_infection" / "latest" / "best.ckpt"
    more = ["--trainer.max_epochs=1", f"--model.init_weights={stage_1}"]
    more += ["--trainer.callbacks+=callbacks.save_masks.SaveMasks"]
    # In a process of its own, whose command line has the cohort's path, as a user's has.
    command = [sys.executable, str(ROOT / "train.py"), "fit", *experiment_args("smoke", planted, work, *more)]
    environment = {k: v for k, v in os.environ.items() if k != "GROUND_GLASS_RUN"} | {"WANDB_MODE": "offline"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return work


@pytest.fixture(scope="module")
def model(trained: Path) -> Path:
    """best.ckpt of stage 2."""
    return trained / "runs" / "smoke" / "latest" / "best.ckpt"


@pytest.fixture(scope="module")
def series(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DICOM series that is read with repairs: beside it lie a note, a localizer and another patient's head."""
    rows = list(csv.DictReader(planted.open(newline="")))
    scan = next(path for path in (planted.parent / row["image"] for row in rows) if path.is_dir())
    folder = tmp_path_factory.mktemp("series") / f"{NAME} Zelda"
    shutil.copytree(scan, folder)
    (folder / f"{NAME}.txt").write_text(f"Zelda {NAME}, {BIRTH_DATE}")
    changed: dict[str, dict[str, Any]] = {
        "localizer": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        "other": {
            "SeriesInstanceUID": f"{UID}.9",
            "Modality": NAME.upper(),
            "SeriesDescription": f"{NAME}, {PATIENT_ID}",
        },
    }
    for name, changes in changed.items():
        file = pydicom.dcmread(min(scan.iterdir()))
        file.SOPInstanceUID = f"{UID}.{len(name)}"
        for tag, value in changes.items():
            setattr(file, tag, value)
        file.save_as(folder / f"{NAME}_{name}.dcm")
    return folder


def test_a_run_and_its_report_hold_nothing_of_a_patient(trained: Path) -> None:
    run = (trained / "runs" / "smoke" / "latest").resolve()
    assert "A099" in (run / "verdicts.csv").read_text()
    assert report([str(run), f"--runs={trained / 'runs'}"]) == 0
    # The page alone, which stays with the run, says which cohort it was by what the user called its folder.
    assert {where for where, _ in found_in(trained / "runs")} == {str(run / "report" / "index.html")}


def test_a_single_result_holds_nothing_of_a_patient(planted: Path, model: Path, series: Path, tmp_path: Path) -> None:
    row = next(row for row in csv.DictReader(planted.open(newline="")) if not (planted.parent / row["image"]).is_dir())
    predict(model, planted.parent / row["image"], tmp_path / "nifti", planted.parent / row["lung_mask"])
    assert found_in(tmp_path / "nifti") == set()
    predict(model, series, tmp_path / "dicom")
    repairs = json.loads((tmp_path / "dicom" / "measurements.json").read_text())["repairs"]
    assert any("left out what is no DICOM image: 1 file" in repair for repair in repairs)
    assert any("was chosen; left out: series" in repair for repair in repairs)
    # DICOM outputs belong to the patient's study, and bear the patient's name as DICOM requires.
    of_the_patient = {str(tmp_path / "dicom" / name) for name in ("segmentation.dcm", "measurements.dcm")}
    assert {where for where, _ in found_in(tmp_path / "dicom")} == of_the_patient


def test_a_batch_and_its_failures_hold_nothing_of_a_patient(model: Path, series: Path, tmp_path: Path) -> None:
    """One usable scan, and every kind of broken one, each named after the patient in its files, folders and tags."""
    scans, out = tmp_path / f"{NAME}_{BIRTH_DATE}", tmp_path / "out"
    scans.mkdir()
    (tmp_path / "broken").mkdir()
    for name, (path, _) in broken_inputs(tmp_path / "broken").items():
        if path.is_dir() and any(path.iterdir()):
            plant_in_image(path)
            for file in path.iterdir():
                file.rename(path / f"{NAME}_{file.name}")
        path.rename(scans / f"{NAME} {name} {path.name}")
    (scans / f"{NAME} cut" / "deep").mkdir(parents=True)
    (scans / f"{NAME} cut" / "deep" / f"{NAME}_0000.dcm").write_bytes(b"no DICOM")
    shutil.copytree(series, scans / f"Zelda {PATIENT_ID}")
    two = shutil.copytree(series, scans / f"{NAME} twice")
    for file in sorted(file for file in series.iterdir() if not file.name.startswith(NAME)):
        copy = pydicom.dcmread(file)
        copy.SeriesInstanceUID, copy.SeriesDescription = f"{UID}.77", f"second of {NAME}"
        copy.SOPInstanceUID += ".7"
        copy.save_as(two / f"{NAME}_again_{file.name}")
    (scans / f"{NAME}.pdf").write_text(f"letter about Zelda {NAME}")
    with pytest.raises(SystemExit) as end:
        main(["--ckpt", str(model), "--scan", str(scans), "--out", str(out)])
    assert end.value.code == 1
    failed = pd.read_csv(out / "failed.csv")
    assert len(failed) >= 14
    assert not failed["reason"].str.contains("Error in").any(), "each reason is a sentence of its own"
    private = out / "private_sources.csv"
    assert NAME in private.read_text()
    of_the_patient = {"segmentation.dcm", "measurements.dcm", private.name}
    assert {Path(where).name for where, _ in found_in(out)} == of_the_patient


def test_what_the_viewer_offers_holds_nothing_of_a_patient(model: Path, series: Path, tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file in series.iterdir():
            archive.write(file, f"{NAME}/{file.name}")
    scan = receive([(f"{NAME}.zip", content.getvalue())], tmp_path / "visit")
    segment(model, False, scan, tmp_path / "outputs", UPLOADED, lambda doing, share: None)
    names = {Path(where).name for where, _ in found_in(tmp_path / "outputs")}
    assert names == {"segmentation.dcm", "measurements.dcm"}
