"""The walls between the rooms, as CONTRIBUTING.md states them."""

import ast
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest
from places import ROOT
from pytorch_lightning import Callback

EVERYWHERE = {"machine", "ct.refusal"}  # what a machine may lack and what a user is told, on which all rooms stand
ALLOWED = {
    "machine": set(),
    "ct": set(),
    "batch": set(),
    "networks": set(),
    "losses": {"ct.classes"},
    "metrics": {"ct.classes"},
    "pages": set(),
    "phantom": {"ct"},
    "cohort": {"ct"},
    "datamodules": {"cohort", "ct", "batch"},
    "training": {"batch", "ct", "cohort"},
    "lightning_modules": {"networks", "losses", "metrics", "batch", "training", "ct.classes"},
    "callbacks": {"training", "batch", "ct", "losses", "metrics"},
    "evaluation": {"ct", "cohort", "losses", "metrics", "pages"},
    "inference": {"ct", "cohort", "networks", "lightning_modules", "training", "pages"},
    "viewer": {"evaluation", "inference", "pages", "ct", "cohort", "phantom"},
    "ground_glass": {"ct", "evaluation", "inference", "launch", "training"},
}
ROOMS = {*ALLOWED, "train", "sweep", "launch", "tests"}
FILES = [path for room in ALLOWED for path in [*ROOT.glob(f"{room}/**/*.py"), *ROOT.glob(f"{room}.py")]]


def imported(source: str) -> set[str]:
    """Every module that a source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide who imports whom"
            found.add(node.module or "")
    return found


def climbs(room: str, module: str) -> bool:
    """Whether `room` may not import `module`."""
    top = module.split(".")[0]
    return top in ROOMS - {room} and not {top, module} & (ALLOWED[room] | EVERYWHERE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert [m for m in sorted(imported(path.read_text())) if climbs(room, m)] == []


def test_the_walls_would_be_noticed() -> None:
    assert climbs("datamodules", "lightning_modules.base")
    assert climbs("losses", "ct.files.read")
    assert climbs("machine", "ct.scan")
    assert not climbs("losses", "ct.classes")
    assert not climbs("ct", "numpy")


@pytest.mark.parametrize("room", ["ct", "cohort", "phantom", "metrics.overlap", "metrics.summary"])
def test_what_reads_scans_and_tables_needs_no_lightning(room: str) -> None:
    files = (
        ROOT.glob(f"{room.replace('.', '/')}*/**/*.py") if "." not in room else [ROOT / f"{room.replace('.', '/')}.py"]
    )
    modules = set().union(*(imported(path.read_text()) for path in files))
    assert not {m for m in modules if m.split(".")[0] in {"torch", "pytorch_lightning", "monai"}}


def callbacks_of(module: ModuleType) -> dict[str, bool]:
    """Every public class that a module defines, and whether it is a callback of Lightning."""
    classes = [
        value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == module.__name__
    ]
    return {each.__name__: issubclass(each, Callback) for each in classes if not each.__name__.startswith("_")}


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "callbacks").glob("[a-z]*.py"))])
def test_every_module_of_callbacks_is_a_callback(name: str) -> None:
    classes = callbacks_of(importlib.import_module(f"callbacks.{name}"))
    assert classes, "a module here defines a callback"
    assert all(classes.values()), classes


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "training").glob("[a-z]*.py"))])
def test_no_module_of_training_is_a_callback(name: str) -> None:
    assert not any(callbacks_of(importlib.import_module(f"training.{name}")).values())
