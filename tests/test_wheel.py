"""The wheel: what is in it, and what it does in an environment that has no checkout."""

import json
import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from phantom_scan import save_phantom
from places import ROOT

from ct.files.nifti import read_nifti
from hatch_build import MODULES, ROOMS, files_of_package, in_package
from inference.predict import main as predict

MOST_MODEL_BYTES, MOST_BYTES = 15e6, 30e6  # the second with the page
KINDS = {".py", ".css", ".js", ".html", ".yaml", ".csv", ".ckpt", ".json", ".md"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built as `make wheel` builds it, and the sdist beside it."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(out)], cwd=ROOT, check=True, capture_output=True
    )
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the commands of an environment with the wheel, which takes libraries alone from this one."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    (libraries,) = home.glob("lib/python*/site-packages")
    # As a path and not as a site: the editable checkout, which a .pth file there names, is not taken along.
    (libraries / "libraries.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return home / "bin"


def run(command: list[object], folder: Path, code: int = 0) -> str:
    """Run a command as a user elsewhere would; return what it prints."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_imports_are_taken_from_the_package_and_nothing_else_changes() -> None:
    source = (
        "import os, machine.threads  # noqa\nfrom ct.classes import (\n    L3,\n)\nimport losses.em as em\n"
        "def f():\n    from networks.unet import UNet  # from ct.x import y\n"
        "    return 'from ct.scan import Scan', UNet\n"
    )
    assert in_package(source) == (
        "import os, ground_glass.machine.threads  # noqa\nfrom ground_glass.ct.classes import (\n    L3,\n)\n"
        "import ground_glass.losses.em as em\ndef f():\n    from ground_glass.networks.unet import UNet  # from ct.x "
        "import y\n    return 'from ct.scan import Scan', UNet\n"
    )
    with pytest.raises(ValueError, match=r"import ct\.scan: is used by this name"):
        in_package("import ct.scan\nprint(ct.scan)\n")


def test_every_room_is_in_the_package() -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"benchmarks", "tests", "ground_glass"}
    assert rooms <= set(ROOMS)
    assert {path.stem for path in ROOT.glob("*.py")} - {"hatch_build"} == set(MODULES)
    places = [place for place in files_of_package(ROOT) if "browser/built" not in place]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    ours = [name for name in tracked if name.split("/")[0] in (*ROOMS, "ground_glass") or name[:-3] in MODULES]
    assert {name.removeprefix("ground_glass/") for name in ours} == {
        name.removeprefix("ground_glass/") for name in places
    }


@pytest.mark.slow
def test_it_holds_one_package_and_no_data(wheel: Path) -> None:
    assert wheel.stat().st_size < MOST_BYTES
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
    assert {name.split("/")[0] for name in names} == {"ground_glass", "ground_glass-0.1.0.dist-info"}
    package = [name for name in names if name.startswith("ground_glass/")]
    assert {Path(name).suffix for name in package} - {".txt"} == KINDS
    assert not [name for name in package if name.split("/")[1] in ("tests", "benchmarks", "docs", "runs", "cohorts")]
    assert content.getinfo("ground_glass/models/default/best.ckpt").file_size < MOST_MODEL_BYTES
    assert sorted(package) == sorted(files_of_package(ROOT))


@pytest.mark.slow
def test_the_sdist_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    (sdist,) = wheel.parent.glob("*.tar.gz")
    shutil.unpack_archive(sdist, tmp_path)
    (folder,) = tmp_path.iterdir()
    assert not (folder / "tests").exists()
    assert not (folder / "cohorts").exists()
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist"], folder)
    (again,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as ours, zipfile.ZipFile(again) as theirs:
        assert [(each.filename, each.CRC) for each in ours.infolist()] == [
            (each.filename, each.CRC) for each in theirs.infolist()
        ]


@pytest.mark.slow
def test_it_takes_no_name_from_other_programs(installed: Path, tmp_path: Path) -> None:
    program = (
        "import ground_glass, importlib.util\n"
        f"print([name for name in {(*ROOMS, *MODULES)!r} if importlib.util.find_spec(name)])\n"
        "print(ground_glass.load_model().card.experiment)\n"
        f"print([name for name in {(*ROOMS, *MODULES)!r} if importlib.util.find_spec(name)])\n"
    )
    assert run([installed / "python", "-c", program], tmp_path).splitlines() == ["[]", "default", "[]"]


@pytest.mark.slow
def test_it_segments_as_the_checkout_does(installed: Path, tmp_path: Path) -> None:
    scan = save_phantom(tmp_path / "scan.nii.gz")
    said = run([installed / "ground-glass", "predict", scan, "-o", "out"], tmp_path)
    assert said.endswith("written to out\n")
    assert predict([str(scan), "-o", str(tmp_path / "ours")]) == 0
    for name in ("lungs.nii.gz", "infection.nii.gz"):
        theirs, ours = (read_nifti(tmp_path / folder / name).values for folder in ("out", "ours"))
        assert np.array_equal(theirs, ours)
    theirs, ours = (json.loads((tmp_path / folder / "measurements.json").read_text()) for folder in ("out", "ours"))
    assert theirs | {"name": ""} == ours | {"name": ""}
    assert run([installed / "ground-glass", "check", scan], tmp_path).startswith("pass     scan.nii.gz")
    refused = run([installed / "ground-glass", "predict", tmp_path / "no.nii.gz", "-o", "x"], tmp_path, code=2)
    assert refused.startswith("error: ")
    assert len(refused.splitlines()) == 1


@pytest.mark.slow
def test_it_trains_an_experiment_and_its_checkpoint_is_that_of_a_checkout(
    installed: Path, cohort: Path, tmp_path: Path
) -> None:
    options = ["--cohort", cohort, "--data.size=32", "--trainer.max_epochs=1", "--model.network.channels=2"]
    own = tmp_path / "mine.yaml"
    own.write_text((ROOT / "experiments" / "smoke_infection.yaml").read_text().replace("smoke_infection", "mine"))
    printed = run([installed / "ground-glass", "train", own, *options], tmp_path)
    assert "infection" in printed
    checkpoint = tmp_path / "runs" / "mine" / "latest" / "best.ckpt"
    assert (
        predict([str(save_phantom(tmp_path / "scan.nii.gz")), "-o", str(tmp_path / "o"), "--ckpt", str(checkpoint)])
        == 0
    )
    assert "ground_glass." not in (tmp_path / "runs" / "mine" / "latest" / "config.yaml").read_text()
    run([installed / "ground-glass", "report", "mine"], tmp_path)
    run([installed / "ground-glass", "export", "runs/mine/latest", "-o", "model", "--no-onnx"], tmp_path)
    assert (tmp_path / "model" / "model.safetensors").is_file()
    run([installed / "ground-glass", "predict", "scan.nii.gz", "-o", "o2", "--ckpt", "model"], tmp_path)


@pytest.mark.slow
def test_it_writes_the_page_where_it_was_built(installed: Path, tmp_path: Path) -> None:
    built = (ROOT / "browser" / "built" / "index.html").is_file()
    said = run([installed / "ground-glass", "serve-page", "-o", "page"], tmp_path, code=0 if built else 2)
    assert ("open page/index.html in a browser" if built else "built without Node.js") in said
    assert (tmp_path / "page" / "index.html").is_file() == built
