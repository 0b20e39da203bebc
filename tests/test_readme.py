"""The README's tree and commands are those of the project."""

import re
import subprocess

from places import ROOT

README = (ROOT / "README.md").read_text()
ROOMS = [
    "ct",
    "datamodules",
    "networks",
    "losses",
    "metrics",
    "lightning_modules",
    "machine",
    "callbacks",
    "evaluation",
    "inference",
    "pages",
    "viewer",
    "benchmarks",
]


def test_the_tree_names_every_module_and_nothing_else() -> None:
    listed = set(re.findall(r"^\| `([\w/]+\.py)` \|", README, re.MULTILINE))
    files = {f"{room}/{path.name}" for room in ROOMS for path in (ROOT / room).glob("*.py")}
    assert listed == {path for path in files if not path.endswith("__init__.py")} | {
        "train.py",
        "launch.py",
        "sweep.py",
        "batch.py",
    }


def test_every_make_target_named_in_the_readme_exists() -> None:
    named = set(re.findall(r"make (?:-j\d+ )?([a-z-]+)", README))
    shown = subprocess.run(["make", "help"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert named >= {"train", "test", "predict", "study", "help"}
    assert named <= set(re.findall(r"make ([a-z-]+)", shown))


def test_pictures_exist() -> None:
    assert all((ROOT / path).is_file() for path in re.findall(r"!\[.*?\]\((.*?)\)", README))
