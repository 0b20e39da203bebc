"""Plain values for objects, class_path and init_args, as experiments choose them and checkpoints keep them.

A checkpoint comes from anywhere, and to import a module is to run it. So what a checkpoint names is imported only from
the rooms that hold such classes, or from modules that the user has named.
"""

import dataclasses
import importlib
import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ct.refusal import Refusal, Word
from machine.package import bare, here

ROOMS = ("networks", "losses")
OPTION = "--modules"  # of the command lines that read checkpoints
PLAIN = (bool, int, float, str, type(None))
T = TypeVar("T")


def as_plain_values(chosen: object) -> dict[str, Any]:
    """Return the class_path and init_args of what an experiment chose.

    Args:
        chosen: A dataclass, a class whose other arguments come later, or a `functools.partial` of one, which is what
            jsonargparse makes of class_path and init_args.

    Returns:
        `class_path`, a text, and `init_args`, plain values by name without those of the class's `starts_from`.

    Raises:
        Refusal: It is none of these, or has arguments that are no plain values.
    """
    kind: type[object]
    if dataclasses.is_dataclass(chosen) and not isinstance(chosen, type):
        kind, arguments = type(chosen), {f.name: getattr(chosen, f.name) for f in dataclasses.fields(chosen)}
    else:
        parts = [chosen.func, *chosen.args] if isinstance(chosen, partial) else [chosen]
        classes = [part for part in parts if inspect.isclass(part)]
        if not classes:
            raise Refusal(
                "{what} cannot be kept in a checkpoint; expected a dataclass, or a class by its class_path", what=chosen
            )
        kind, arguments = classes[0], dict(chosen.keywords) if isinstance(chosen, partial) else {}
    class_path = f"{bare(kind.__module__)}.{kind.__qualname__}"
    for name, value in arguments.items():
        if not _is_plain(value):
            raise Refusal(
                "init_args of {class_path}: {name} is of the type {kind}, which no checkpoint can hold; expected "
                "numbers, texts and lists of these: let the class make the rest of them",
                class_path=class_path,
                name=name,
                kind=type(value).__name__,
            )
    return {"class_path": class_path, "init_args": _lasting(kind, arguments)}


def class_of(description: Any, base: type[T], modules: Sequence[str], path: Path) -> "partial[T]":
    """Find the class that a checkpoint names, and bind the arguments that it names too.

    Args:
        description: As from `as_plain_values`, but from a file that nobody has looked at.
        base: What the class must derive from.
        modules: Modules that the user has named, from which it may come beside `ROOMS`.
        path: The checkpoint.

    Returns:
        The class with its arguments, to be called with those that are missing.

    Raises:
        Refusal: It is from elsewhere, which is found out before anything is imported; it is not there, of another kind,
            or has arguments that are no plain values.
    """
    class_path, arguments = _checked(description, path)
    module, _, name = class_path.rpartition(".")
    own = any(module == room or module.startswith(f"{room}.") for room in ROOMS)
    if not own and not any(module == allowed or module.startswith(f"{allowed}.") for allowed in modules):
        raise Refusal(
            "{path} names the class {class_path}, which is not of this project ({rooms}), and to import it would run "
            "code; if it is your own, allow its module: {option} {module}",
            path=path,
            class_path=class_path,
            rooms=Word(", ".join(ROOMS)),
            option=Word(OPTION),
            module=module,
        )
    try:
        kind = getattr(importlib.import_module(here(module) if own else module), name)
    except (ImportError, AttributeError) as error:
        raise Refusal(
            "{path} names the class {class_path}, which is not there ({error}); if it is of another version of this "
            "project, use that; if it is your own, run this where its module can be imported",
            path=path,
            class_path=class_path,
            error=error,
        ) from error
    if not (inspect.isclass(kind) and issubclass(kind, base)) or inspect.isabstract(kind):
        raise Refusal(
            "{path} names {class_path}, which is no {base}; expected a class that derives from it",
            path=path,
            class_path=class_path,
            base=Word(f"{bare(base.__module__)}.{base.__qualname__}"),
        )
    try:
        inspect.signature(kind).bind_partial(**arguments)
    except TypeError as error:
        raise Refusal(
            "{path} has arguments that {class_path} does not take ({error}); use the version of it that was trained",
            path=path,
            class_path=class_path,
            error=error,
        ) from error
    return partial(kind, **_lasting(kind, arguments))


def _checked(description: Any, path: Path) -> tuple[str, dict[str, Any]]:
    """Return class_path and init_args; refuse them where they are not a name and plain arguments."""
    fields = description if isinstance(description, Mapping) else {}
    class_path, arguments = fields.get("class_path"), fields.get("init_args", {})
    if (
        not isinstance(class_path, str)
        or "." not in class_path
        or not all(map(str.isidentifier, class_path.split(".")))
    ):
        raise Refusal(
            "{path} names {name} where a class is expected, such as networks.unet.UNet; use a best.ckpt of a run",
            path=path,
            name=str(class_path if isinstance(class_path, str) else description)[:80],
        )
    plain = isinstance(arguments, Mapping) and all(isinstance(name, str) for name in arguments)
    wrong = [name for name, value in arguments.items() if not _is_plain(value)] if plain else ["init_args"]
    if wrong:
        raise Refusal(
            "{path}: the argument {name} of {class_path} is no plain value; expected numbers, texts and lists of these",
            path=path,
            name=wrong[0],
            class_path=class_path,
        )
    return class_path, dict(arguments)


def _lasting(kind: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that still count where the weights come from a checkpoint."""
    return {name: value for name, value in arguments.items() if name not in getattr(kind, "starts_from", ())}


def _is_plain(value: object) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, list | tuple) else isinstance(value, PLAIN)
