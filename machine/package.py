"""The place of this project's modules: by bare names in a checkout (`losses.em`), below `ground_glass` where installed.

A wheel holds one package, so that no other program meets a module of the name `losses`. Experiments and checkpoints
name classes as a checkout does (`networks.unet.UNet`), and mean the same in both places.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

PROJECT = Path(__file__).resolve().parents[1]
PREFIX = __name__.removesuffix("machine.package")  # "ground_glass." in an installed package, else empty
ROOT = PROJECT.parent if PREFIX else PROJECT  # the folder that Python imports from


def here(module: str) -> str:
    """Return the name under which Python finds a module of this project, for example with `ground_glass.` before it."""
    return PREFIX + module


def bare(module: str) -> str:
    """Return the name of a module as a checkout has it, for example `losses.em`; other projects' names as they are."""
    return module.removeprefix(PREFIX)


def with_bare_classes(configuration: str) -> str:
    """Return YAML whose class paths are those of a checkout, so that every installation reads it."""
    return configuration.replace(f"class_path: {PREFIX}", "class_path: ")


def is_ours(file: Path) -> bool:
    """Tell whether a file is of this project: not of an environment that lies within a checkout of it."""
    return file.is_relative_to(PROJECT) and "site-packages" not in file.relative_to(PROJECT).parts


def program(module: str) -> list[str]:
    """Return Python's arguments that run a module of this project, wherever the process was started."""
    file = PROJECT / f"{module.replace('.', '/')}.py"
    return [str(file)] if not PREFIX and file.parent == PROJECT else ["-m", here(module)]


def answer_to_bare_names() -> None:
    """Let this process import an installed project's modules by their bare names too, as a checkout does.

    For programs of this project alone, which read class paths out of experiments: a library would claim names such as
    `losses` for itself.
    """
    if PREFIX and not any(isinstance(finder, _BareNames) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BareNames())


class _BareNames(MetaPathFinder):
    """Finds `losses.em` where it is, as the same module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.startswith(PREFIX) or fullname == PREFIX[:-1]:
            return None
        top = here(fullname.partition(".")[0])
        if importlib.util.find_spec(top) is None or importlib.util.find_spec(here(fullname)) is None:
            return None
        return ModuleSpec(fullname, _Same(), is_package=False)


class _Same(Loader):
    """Loads a module by giving the one that is there."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(here(spec.name))
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # importing put the bare name's there
