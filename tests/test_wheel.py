"""The wheel: what is in it, and what it does in an environment that has no checkout."""

import json
import os
import resource
import shutil
import site
import socket
import subprocess
import sys
import tarfile
import time
import tomllib
import urllib.error
import urllib.request
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
MOST_HELP_SECONDS = 0.5
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


def elsewhere() -> dict[str, str]:
    """The environment of a user who has no checkout."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def run(command: list[object], folder: Path, code: int = 0) -> str:
    """Run a command as a user elsewhere would; return what it prints."""
    done = subprocess.run(list(map(str, command)), cwd=folder, env=elsewhere(), capture_output=True, text=True)
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


def tracked_for_the_sdist() -> set[str]:
    """The files that git tracks, but for those that pyproject.toml keeps out of the sdist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rules = project["tool"]["hatch"]["build"]["targets"]["sdist"]["exclude"]
    assert all(rule.startswith("/") and "*" not in rule for rule in rules), "else the next line reads them wrongly"
    left_out = tuple(rule[1:] for rule in rules)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = filter(None, listed.split("\0"))
    return {name for name in names if name not in left_out and not name.startswith(tuple(f"{x}/" for x in left_out))}


@pytest.mark.slow
def test_the_sdist_holds_what_git_tracks_and_the_page_alone(wheel: Path) -> None:
    (sdist,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sdist) as content:
        names = {member.name.partition("/")[2] for member in content if not member.isdir()}
    page = {path.relative_to(ROOT).as_posix() for path in (ROOT / "browser" / "built").rglob("*") if path.is_file()}
    expected = tracked_for_the_sdist() | page | {"PKG-INFO"}
    assert sorted(names - expected) == [], "strays of this checkout: track them, or name them in .gitignore"
    assert sorted(expected - names) == []


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


def interpreter(version: str) -> str | None:
    """A Python of a version: on the PATH, or beside this one, as version managers install them."""
    name, program = f"python{version}", "import sys; print('%d.%d' % sys.version_info[:2])"
    beside = Path(sys.base_prefix).parent.glob(f"*/bin/{name}")
    for path in filter(None, [shutil.which(name), *map(str, sorted(beside))]):  # on the PATH may be a name without one
        if subprocess.run([path, "-c", program], capture_output=True, text=True).stdout.strip() == version:
            return path
    return None


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_its_sources_are_those_of_a_newer_python_too(version: str, wheel: Path, tmp_path: Path) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(tmp_path)
    sources = [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*.py"))]
    program = "import sys\nfor path in sys.stdin.read().split():\n    compile(open(path, 'rb').read(), path, 'exec')"
    command = [python, "-S", "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, input="\n".join(sources), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(sources) > 300
    for words in (["--help"], ["import", "--help"], ["report", "--help"]):  # those that need no library
        assert run([python, "-S", "-m", "ground_glass", *words], tmp_path).startswith("usage: ground-glass ")


@pytest.mark.slow
def test_its_help_waits_for_nothing(installed: Path, tmp_path: Path) -> None:
    seconds = []
    for _ in range(3):  # what else the machine does may slow one of them
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run([installed / "ground-glass", "--help"], tmp_path).startswith("usage: ground-glass <command>")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < MOST_HELP_SECONDS


@pytest.mark.slow
def test_it_imports_and_prepares_or_says_why_not(installed: Path, tmp_path: Path) -> None:
    command = installed / "ground-glass"
    assert "\n  mosmed " in run([command, "import", "--help"], tmp_path)
    assert run([command, "import", "mosmed", "-h"], tmp_path).startswith("usage: ground-glass import mosmed ")
    refused = run([command, "import", "mosmed", "--folder", "nowhere", "--out", "cohort"], tmp_path, code=2)
    assert refused == "error: nowhere: no such folder; expected the folder of a data set\n"
    table = tmp_path / "cohort.csv"
    refused = run([command, "prepare", "--cohort", table], tmp_path, code=2)
    assert refused.startswith(f"error: {table}: no such cohort file; ")
    save_phantom(tmp_path / "scan.nii.gz", slices=8)
    table.write_text("scan_id,patient_id,site,image\na,a,here,scan.nii.gz\n")
    said = run([command, "prepare", "--cohort", table, "--size", "32", "--out", "prepared"], tmp_path)
    assert "1 scans: 1 passed, 0 repaired, 0 refused" in said
    assert np.load(tmp_path / "prepared" / "a" / "hu.npy").shape[1:] == (32, 32)


@pytest.mark.slow
def test_its_viewer_answers_until_it_is_ended(installed: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [installed / "ground-glass", "view", "--port", str(port)],
            cwd=tmp_path,
            env=elsewhere(),
            stdout=file,
            stderr=file,
        )
    try:
        status, page = first_answer(f"http://127.0.0.1:{port}/", process)
    finally:
        process.terminate()
        process.wait(60)
    assert status == 200, log.read_text()
    assert "<title>Ground Glass</title>" in page
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)


def first_answer(address: str, process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    """The status and the text of a server's first answer; 0 where it ends or does not answer for two minutes."""
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except OSError:
            time.sleep(0.2)
    return 0, ""
