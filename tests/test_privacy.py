"""A patient's name, id, birth date and UIDs, planted wherever hospitals leave them, come out nowhere."""

import csv
import gzip
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import pydicom
import pytest
from harness import ROOT, experiment_args, train_in_process
from offline_run import payloads
from predict_harness import predict

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
        volume = nibabel.load(image)
        volume.header["descrip"], volume.header["db_name"] = f"Zelda {NAME} {BIRTH_DATE}".encode(), PATIENT_ID.encode()
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


def test_nothing_of_a_patient_leaves(planted: Path, tmp_path: Path) -> None:
    train_in_process("smoke_infection", planted, tmp_path, "--trainer.max_epochs=1")
    stage_1 = tmp_path / "runs" / "smoke_infection" / "latest" / "best.ckpt"
    more = ["--trainer.max_epochs=1", f"--model.init_weights={stage_1}"]
    more += ["--trainer.callbacks+=callbacks.save_masks.SaveMasks"]
    # In a process of its own, whose command line has the cohort's path, as a user's has.
    command = [sys.executable, str(ROOT / "train.py"), "fit", *experiment_args("smoke", planted, tmp_path, *more)]
    environment = {k: v for k, v in os.environ.items() if k != "GROUND_GLASS_RUN"} | {"WANDB_MODE": "offline"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "A099" in (tmp_path / "runs" / "smoke" / "latest" / "verdicts.csv").read_text()
    rows = [row for row in csv.DictReader(planted.open(newline="")) if row["lung_mask"] and row["scan_id"] != "A099"]
    series = [row for row in rows if (planted.parent / row["image"]).is_dir()]
    for number, row in enumerate([*series[-1:], rows[0]]):
        image, mask = planted.parent / row["image"], planted.parent / row["lung_mask"]
        predict(stage_1.parents[2] / "smoke/latest/best.ckpt", image, tmp_path / f"predicted_{number}", mask)
    assert number == 1, "a DICOM series and a NIfTI file"
    assert found_in(tmp_path / "runs") == set()
    # DICOM outputs belong to the patient's study, and bear the patient's name as DICOM requires.
    of_the_patient = {str(tmp_path / "predicted_0" / name) for name in ("segmentation.dcm", "measurements.dcm")}
    assert {where for where, _ in found_in(tmp_path / "predicted_0")} == of_the_patient
    assert found_in(tmp_path / "predicted_1") == set()
