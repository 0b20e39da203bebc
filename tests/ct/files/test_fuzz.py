"""Damaged files get a verdict: a scan, or one sentence that names the file; no other error, no hang, no memory flood.

The cases run in a process of their own, whose memory is limited. As a program this file runs any number of them:

    PYTHONPATH=. python tests/ct/files/test_fuzz.py FOLDER SEED CASES
"""

import bz2
import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_harness import change_syntax
from numpy.typing import NDArray
from places import ROOT
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, RLELossless

from ct.files.dicom.export import write_dicom_series
from ct.files.read import read_scan

SECONDS_PER_CASE = 10
MEMORY_BYTES = 1 << 30
RARELY = 101
SPACING_MM = (1.5, 2.0, 7.0)
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x5C, 0x30)


class Hang(BaseException):
    """Raised by the alarm; no `except Exception` on the way stops it."""


def chest() -> NDArray[np.int16]:
    hu = np.resize(np.array([-1000, -850, -400, -20, -90], dtype=np.int16), (4, 9, 8))
    hu[1, 2, 4] = 60
    return hu


def write_sources(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Write one sound scan of every kind; return its path and the file to damage, by name."""
    affine = np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0])
    nifti = nibabel.Nifti1Image(chest().transpose(2, 1, 0), affine)
    nifti.set_qform(affine, 1)
    nibabel.save(nifti, folder / "one.nii")
    nibabel.save(nifti, folder / "packed.nii.gz")
    nibabel.save(nibabel.Nifti2Image(chest().transpose(2, 1, 0).astype(np.float32), affine), folder / "two.nii")
    image = SimpleITK.GetImageFromArray(chest())
    image.SetSpacing(SPACING_MM)
    for name, packed in (("raw.nrrd", False), ("packed.nrrd", True)):
        SimpleITK.WriteImage(image, str(folder / name), useCompression=packed)
    for name, packed in (("raw.mha", False), ("packed.mhd", True)):
        SimpleITK.WriteImage(image, str(folder / name), useCompression=packed)
    nibabel.save(nibabel.Nifti1Pair(chest().transpose(2, 1, 0), affine), folder / "pair.img")
    head, _, data = (folder / "raw.nrrd").read_bytes().partition(b"\n\n")
    head = head.replace(b"encoding: raw", b"encoding: bzip2\ndata file: ct.bz2")
    for name in ("head", "data"):
        (folder / name).mkdir()
        (folder / name / "ct.nhdr").write_bytes(head + b"\n\n")
        (folder / name / "ct.bz2").write_bytes(bz2.compress(data))
    for name in ("series", "rle", "jpeg"):
        write_dicom_series(chest(), affine, folder / name)
    for file in (folder / "rle").iterdir():
        dataset = pydicom.dcmread(file)
        dataset.compress(RLELossless)
        dataset.save_as(file)
    for file in (folder / "jpeg").iterdir():
        change_syntax(file, "JPEGLosslessProcess14_1")
    write_enhanced(folder / "series", folder / "enhanced.dcm")
    files = ("one.nii", "packed.nii.gz", "two.nii", "raw.nrrd", "packed.nrrd", "raw.mha", "packed.mhd", "enhanced.dcm")
    return {name: (folder / name, folder / name) for name in files} | {
        "head": (folder / "head" / "ct.nhdr", folder / "head" / "ct.nhdr"),
        "data": (folder / "data" / "ct.nhdr", folder / "data" / "ct.bz2"),
        "zraw": (folder / "packed.mhd", folder / "packed.zraw"),
        "pair": (folder / "pair.img", folder / "pair.hdr"),
        "series": (folder / "series", folder / "series" / "IM0002.dcm"),
        "rle": (folder / "rle", folder / "rle" / "IM0002.dcm"),
        "jpeg": (folder / "jpeg", folder / "jpeg" / "IM0002.dcm"),
    }


def item(**tags: object) -> Dataset:
    dataset = Dataset()
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    return dataset


def write_enhanced(series: Path, path: Path) -> None:
    """Make one enhanced multi-frame file of a series of single frames."""
    slices = sorted((pydicom.dcmread(file) for file in series.iterdir()), key=lambda dataset: dataset.InstanceNumber)
    result = slices[0]
    result.SOPClassUID = result.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    result.PerFrameFunctionalGroupsSequence = Sequence(
        [item(PlanePositionSequence=[item(ImagePositionPatient=dataset.ImagePositionPatient)]) for dataset in slices]
    )
    measures = item(PixelSpacing=result.PixelSpacing, SliceThickness=result.SliceThickness)
    turn = item(ImageOrientationPatient=result.ImageOrientationPatient)
    rescale = item(RescaleSlope="1", RescaleIntercept=result.RescaleIntercept, RescaleType="HU")
    result.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[measures],
            PlaneOrientationSequence=[turn],
            PixelValueTransformationSequence=[rescale],
        )
    ]
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(result, tag)
    result.NumberOfFrames = len(slices)
    result.PixelData = b"".join(dataset.PixelData for dataset in slices)
    result.save_as(path)


def damage(raw: bytes, rng: np.random.Generator) -> bytes:
    """Change bytes, cut, lengthen or shift; half of the changes hit the first kilobyte, where headers are."""
    data = bytearray(raw)
    end = len(data) if rng.random() < 0.5 else min(len(data), 1024)
    at = int(rng.integers(end))
    kind = rng.integers(8)
    if kind == 0:
        return bytes(data[:at])
    if kind == 1:
        del data[at : at + int(rng.integers(1, 40))]
    elif kind == 2:
        data[at:at] = rng.bytes(int(rng.integers(1, 40)))
    elif kind == 3:
        width = int(rng.choice([1, 2, 4, 8]))
        at -= at % width
        data[at : at + width] = bytes([int(rng.choice(INTERESTING))]) * min(width, len(data) - at)
    elif kind == 4:
        number = np.array(rng.choice([np.nan, np.inf, -1.0, 0.0, 1e30, 1e-30, 1e6]), dtype=rng.choice(["<f4", "<f8"]))
        at -= at % 4
        data[at : at + number.nbytes] = number.tobytes()[: len(data) - at]
    elif kind == 5:
        data += data[at : at + int(rng.integers(1, 2000))]
    else:
        for position in rng.integers(end, size=int(rng.choice([1, 2, 5, 20]))):
            data[position] ^= 1 << int(rng.integers(8)) if kind == 6 else int(rng.integers(1, 256))
    return bytes(data)


def damage_file(path: Path, rng: np.random.Generator) -> bytes:
    raw = path.read_bytes()
    if path.suffix == ".gz" and rng.random() < 0.5:
        path.write_bytes(gzip.compress(damage(gzip.decompress(raw), rng), 1))
    else:
        path.write_bytes(damage(raw, rng))
    return raw


def verdict_of(path: Path) -> str:
    """Return "scan" or "refused", or what should not have happened."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS_PER_CASE)
    try:
        scan = read_scan(path)
        sound = scan.hu.dtype == np.int16 and scan.hu.ndim == 3 and np.isfinite(scan.affine).all()
        return "scan" if sound else "an unsound scan"
    except ValueError as error:
        sentence = str(error)
        named = str(path if path.is_dir() else path.parent) in sentence
        return "refused" if named and sentence.isprintable() else f"ValueError: {sentence!r}"
    except Hang:
        return "a hang"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def run_cases(folder: Path, seed: int, cases: int) -> dict[str, Any]:
    """Damage each kind in turn; return the verdicts by kind, and the cases that went wrong."""
    warnings.simplefilter("ignore")

    def ring(*_: object) -> NoReturn:
        raise Hang

    signal.signal(signal.SIGALRM, ring)
    verdicts: dict[str, Counter[str]] = {}
    wrong = []
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sources = write_sources(folder)
    assert {verdict_of(path) for path, _ in sources.values()} == {"scan"}
    others = sorted(set(sources) - {"jpeg"})
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES,) * 2)
    for case in range(seed, seed + cases):
        # Decoding JPEG takes the reader a process of its own, and so a hundred times as long.
        name = "jpeg" if case % RARELY == 0 else others[case % len(others)]
        path, file = sources[name]
        raw = damage_file(file, np.random.default_rng(case))
        # Where the process dies, this tells by what.
        (folder / "case").write_text(str(case))
        verdict = verdict_of(path)
        file.write_bytes(raw)
        verdicts.setdefault(name, Counter())[verdict if verdict in ("scan", "refused") else "wrong"] += 1
        if verdict not in ("scan", "refused"):
            wrong.append((case, name, verdict))
    return {"verdicts": verdicts, "wrong": wrong}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited by means of Linux")
def test_every_damaged_file_gets_a_verdict(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "cases"), "0", "300"],
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'helpers'}",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
    )
    case = tmp_path / "cases" / "case"
    assert done.returncode == 0, f"case {case.read_text() if case.exists() else None}: {done.stderr[-2000:]}"
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["wrong"] == []
    for name, verdicts in result["verdicts"].items():
        assert name == "jpeg" or verdicts["refused"] >= 5, (name, verdicts)
    assert sum(verdicts.get("scan", 0) for verdicts in result["verdicts"].values()) >= 20


if __name__ == "__main__":
    print(json.dumps(run_cases(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
