"""The Containerfile, as far as it can be held without building it: versions, commands and files that it names."""

import re
import shlex
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from places import ROOT

TEXT = (ROOT / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
INSTRUCTIONS = [line.split(maxsplit=1) for line in TEXT.splitlines() if line and not line.startswith("#")]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
LOCK_LINES = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
LOCK = dict(line.split("==") for line in LOCK_LINES if not line.startswith("#"))


def commands() -> list[list[str]]:
    """Every command of its RUN lines, as words."""
    runs = [text for name, text in INSTRUCTIONS if name == "RUN"]
    return [shlex.split(command) for run in runs for command in run.split("&&")]


def recipe(target: str) -> list[list[str]]:
    """Every command of a target of the Makefile, as words."""
    match = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert match is not None
    return [shlex.split(line.lstrip("\t@")) for line in match[1].splitlines()]


def constraint_of(command: list[str]) -> str:
    """The file to whose versions a command of pip keeps."""
    return command[command.index("--constraint") + 1]


def test_its_python_is_one_that_the_project_takes_and_ci_tests() -> None:
    (image,) = [text for name, text in INSTRUCTIONS if name == "FROM"]
    version = re.fullmatch(r"docker\.io/library/python:(\d+\.\d+)-slim", image)
    assert version is not None
    assert PROJECT["requires-python"] == f">={version[1]}"


def test_its_versions_are_those_of_the_lock() -> None:
    pinned = [word.split("==") for command in commands() for word in command if re.match(r"[a-z]+==", word)]
    assert {name for name, _ in pinned} == {"torch", "torchvision"}
    assert all(LOCK[name] == version for name, version in pinned)
    assert [name for name in LOCK if name.startswith("torch")] == ["torch", "torchmetrics", "torchvision"]


def test_it_installs_the_wheel_that_make_makes() -> None:
    wheels = [word for command in commands() for word in command if word.endswith(".whl")]
    assert wheels == [f"/dist/ground_glass-{PROJECT['version']}-py3-none-any.whl"]
    (build,) = [command for command in commands() if command[:3] == ["python", "-m", "hatchling"]]
    (made,) = recipe("wheel")
    assert ["$(PY)", *build[1:]][: len(made)] == made
    assert build[len(made) :] == ["-t", "wheel", "-d", "/dist"], "beside make's command, only what and where to"
    assert [Requirement(text).name for text in SETTINGS["build-system"]["requires"]] == ["hatchling"]
    assert [text for name, text in INSTRUCTIONS if name == "ENTRYPOINT"] == ['["ground-glass"]']
    assert "ground-glass" in PROJECT["scripts"]


def test_what_it_installs_is_of_the_lock_as_in_ci() -> None:
    assert "make setup" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    (setup,) = [command for command in recipe("$(INSTALLED)") if "install" in command]
    assert constraint_of(setup) == "requirements.lock"
    tools, torch, wheel = [command for command in commands() if command[:2] == ["pip", "install"]]
    assert constraint_of(tools) == "requirements.lock"
    assert tools[-1] == "hatchling"
    assert all("==" in word for word in torch[3 : torch.index("--index-url")]), "an index of builds is under no lock"
    (grep,) = [command for command in commands() if command[0] == "grep"]
    assert grep[1] == "-Ev"
    assert grep[3:] == ["requirements.lock", ">", constraint_of(wheel)]
    left_out = [line for line in LOCK_LINES if re.search(grep[2], line)]
    assert left_out == torch[3 : torch.index("--index-url")]


def test_the_lock_has_a_version_of_every_dependency_that_fits() -> None:
    extras = {name: list(map(Requirement, texts)) for name, texts in PROJECT["optional-dependencies"].items()}
    # CI installs "dev", which takes other extras along, and "docs"; the peers of benchmarks are not locked.
    (own,) = [each for each in extras["dev"] if each.name == PROJECT["name"]]
    wanted = [*map(Requirement, PROJECT["dependencies"]), *extras["docs"]]
    wanted += [each for name in ("dev", *own.extras) for each in extras[name] if each is not own]
    versions = {canonicalize_name(name): version for name, version in LOCK.items()}
    missing = [str(each) for each in wanted if canonicalize_name(each.name) not in versions]
    assert missing == []
    unfit = [str(each) for each in wanted if not each.specifier.contains(versions[canonicalize_name(each.name)])]
    assert unfit == []
