"""The Containerfile, as far as it can be held without building it: versions, commands and files that it names."""

import re
import shlex
import tomllib

from places import ROOT

TEXT = (ROOT / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
INSTRUCTIONS = [line.split(maxsplit=1) for line in TEXT.splitlines() if line and not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line[1:])


def commands() -> list[list[str]]:
    """Every command of its RUN lines, as words."""
    runs = [text for name, text in INSTRUCTIONS if name == "RUN"]
    return [shlex.split(command) for run in runs for command in run.split("&&")]


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
    assert "wheel:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [text for name, text in INSTRUCTIONS if name == "ENTRYPOINT"] == ['["ground-glass"]']
    assert "ground-glass" in PROJECT["scripts"]
