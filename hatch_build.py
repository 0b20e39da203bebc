"""The wheel: the rooms of the checkout as one package `ground_glass`, whose modules import each other below that name.

In a checkout `losses/em.py` is `losses.em`. Installed, that name would be every project's, so the wheel has
`ground_glass/losses/em.py`, in which `from ct.classes` becomes `from ground_glass.ct.classes`. Nothing else changes.
"""

import ast
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "ground_glass"
# What runs, with the files that it reads. Tests, benchmarks and documentation stay in the sdist's repository.
ROOMS = (
    "ct", "cohort", "phantom", "datamodules", "networks", "losses", "metrics", "lightning_modules", "training",
    "callbacks", "evaluation", "inference", "pages", "viewer", "machine", "experiments", "models",
)  # fmt: skip
MODULES = ("train", "sweep", "launch", "batch")
PAGE = "browser/built"
FILES = {".py", ".css", ".js", ".html", ".csv", ".yaml", ".ckpt", ".json", ".md"}


def in_package(source: str, names: Collection[str] = (*ROOMS, *MODULES), package: str = PACKAGE) -> str:
    """Return the source of a module with its imports of `names` taken from `package`.

    Args:
        source: Of a module of the checkout.
        names: Top-level modules and packages of the checkout.
        package: Where they will be.

    Raises:
        ValueError: A module is imported by `import a.b` and then used by that name, which would be another one there.
    """
    lines = source.encode().splitlines(keepends=True)  # as the parser counts: of a text they could be more
    places: list[tuple[int, int]] = []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and _top(node.module or "") in names:
            places.append((node.lineno - 1, node.col_offset + len("from ")))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _top(alias.name) in names:
                    if alias.asname is None and _is_used(_top(alias.name), tree):
                        raise ValueError(f"import {alias.name}: is used by this name; write from ... import ...")
                    places.append((alias.lineno - 1, alias.col_offset))
    for line, column in sorted(places, reverse=True):
        lines[line] = lines[line][:column] + f"{package}.".encode() + lines[line][column:]
    return b"".join(lines).decode()


def _top(module: str) -> str:
    return module.partition(".")[0]


def _is_used(name: str, tree: ast.AST) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(tree))


def files_of_package(root: Path) -> dict[str, Path]:
    """Return the files of the package in a checkout, by their paths in the wheel, in order."""
    of_rooms = [path for room in (*ROOMS, PACKAGE) for path in (root / room).rglob("*") if path.suffix in FILES]
    of_rooms += (root / PAGE).glob("*")  # where it was built; ground-glass serve-page says so where it was not
    modules = [root / f"{name}.py" for name in MODULES]
    files = {}
    for path in sorted([*of_rooms, *modules]):
        place = path.relative_to(root).as_posix()
        if "__pycache__" not in place:
            files[place if place.startswith(f"{PACKAGE}/") else f"{PACKAGE}/{place}"] = path
    return files


class OnePackage(BuildHookInterface[Any]):
    """Hatch's hook that puts the rooms into the wheel. An editable installation leaves them where they are."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files of the wheel."""
        if version == "editable":
            return
        self.folder = tempfile.TemporaryDirectory()
        for number, (place, path) in enumerate(files_of_package(Path(self.root)).items()):
            if path.suffix == ".py":
                written = Path(self.folder.name, f"{number}.py")
                written.write_text(in_package(path.read_text(encoding="utf-8")), encoding="utf-8")
                path = written
            build_data["force_include"][str(path)] = place

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was written for the wheel."""
        if version != "editable":
            self.folder.cleanup()
