"""The parser of train.py: one line says what is wrong with an option, and names the nearest option or value."""

import dataclasses
import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from machine.command_line import cause_for_users
from machine.package import bare

WHERE_THEY_STAND = "what can be set stands in the experiment's file and in experiments/base.yaml"
# How jsonargparse words what it refuses, over several lines: first the way to the option, then the reason.
KEY, CLASS = re.compile(r'Parser key "([^"]+)"'), re.compile(r"class_path[ =]'([^']+)'")
UNKNOWN = re.compile(r"Option '([^']+)' is not accepted|unrecognized arguments: (?:--)?([^\s=]+)")
WRONG = re.compile(r"Expected an? (.+?)\. Got value: (.+?)(?:\. Got value: .+)?$", re.MULTILINE)
NO_CLASS = re.compile(
    r"Expected a dot import path string: .+|No module named '[^']+'|module '\S+' has no attribute '\w+'"
    r"|Expected '\S+' to be a (?:subclass|function)[^>]+>|Import path \S+ does not correspond to a subclass of \w+"
)
SEVERAL = re.compile(r"Subtypes: \[(.+)\]\n(?:(?!.*Subtypes).*\n)*?\s*Given value: (.+)")
NESTED = re.compile(r"NestedArg\(key='(.+?)', val='?(.*?)'?\)")
# Settings are refused by the libraries that they are for, each with an error of its own.
REFUSALS = (MisconfigurationException, ValueError, TypeError, ModuleNotFoundError)


class OneLineParser(LightningArgumentParser):
    """Lightning's parser without its page of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End the program with a line on stderr and exit code 2; a parser within another one lets that one do it."""
        if not self.exit_on_error:
            super().error(message, ex)
        sys.stderr.write(f"error: {sentence(message, list(self._options()))}\n")
        self.exit(2)

    def _options(self) -> Iterator[str]:
        for action in self._actions:
            yield action.dest
            for parser in action.choices.values() if isinstance(action.choices, dict) else ():
                yield from parser._options()


@contextmanager
def refusals(of: str) -> Iterator[None]:
    """Turn what a library raises because of a user's settings into a ValueError for users.

    Args:
        of: Which settings they are.

    Raises:
        ValueError: The library refused them.
    """
    try:
        yield
    except REFUSALS as error:
        if cause_for_users(error) is not None:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"the settings of {of} are refused: {reason}") from error


def sentence(message: str, options: Iterable[str]) -> str:
    """Return what jsonargparse says of an option as one sentence.

    Args:
        message: Its words.
        options: All options, but for those of classes of the user's choice.
    """
    reasons = [match for pattern in (UNKNOWN, WRONG) if (match := pattern.search(message))]
    if reasons:  # of several types that an option may have, the first is the one that is meant
        first = min(reasons, key=lambda match: match.start())
        return (_unknown if first.re is UNKNOWN else _wrong)(first, message, list(options))
    if (reason := NO_CLASS.search(message)) and (refused := _no_class(reason, message)):
        return refused
    if alternatives := list(SEVERAL.finditer(message)):
        return _wrong(alternatives[-1], message, [])
    return KEY.sub(r"--\1", " ".join(message.split()))


def _unknown(reason: re.Match[str], message: str, options: list[str]) -> str:
    before, name = message[: reason.start()], (reason[1] or reason[2]).replace(".init_args.", ".")
    # What is called later, as a network is, is named after the reason, on the same line.
    if classes := CLASS.findall(message[: reason.end()] + message[reason.end() :].partition("\n")[0]):
        place = ".".join(KEY.findall(before))
        matches = [f"{place}.{match}" for match in _nearest(name, _arguments(_imported(classes[-1])))]
        name = f"{place}.{name}"
    else:
        matches = _nearest(name, options) or _nearest(name.partition(".")[0], options)
    return f"there is no option --{name}; {f'did you mean --{matches[0]}?' if matches else WHERE_THEY_STAND}"


def _arguments(kind: Any) -> Iterator[str]:
    """Yield the names of a class's arguments, and those of the classes that these are by default."""
    for name, argument in inspect.signature(kind).parameters.items():
        yield name
        if default := _class_by_default(argument):
            yield from (f"{name}.{nested}" for nested in inspect.signature(default).parameters)


def _class_by_default(argument: inspect.Parameter) -> type | None:
    if inspect.isclass(argument.default):
        return None if argument.default is argument.empty else argument.default
    return type(argument.default) if dataclasses.is_dataclass(argument.default) else None


def _no_class(reason: re.Match[str], message: str) -> str:
    """Say that an argument which names a class names none that fits; empty for other options."""
    before = message[: reason.start()]
    keys, classes = KEY.findall(before), CLASS.findall(before)
    argument = inspect.signature(_imported(classes[0])).parameters.get(keys[1]) if classes and keys[1:] else None
    default = _class_by_default(argument) if argument else None
    if default is None:
        return ""
    example = f"{bare(default.__module__)}.{default.__qualname__}"
    return f"--{'.'.join(keys)} names no class that fits ({reason[0]}); expected a class_path such as {example}"


def _wrong(reason: re.Match[str], message: str, options: list[str]) -> str:
    """Say what was expected instead of a value, in words of YAML instead of Python's."""
    expected, value = reason.groups()
    name = ".".join(KEY.findall(message[: reason.start()]))
    if nested := NESTED.fullmatch(value):
        name, value = f"{name}.{nested[1]}".removesuffix(".class_path"), nested[2]
    kinds = re.findall(r"<class '([^']+)'>", expected)
    choices = re.findall(r"'([^']*)'", "".join(re.findall(r"Literal\[.*?\]", expected)))
    words = ["null" if kind == "NoneType" else kind.rpartition(".")[2] for kind in kinds] + choices
    matches = _nearest(value, choices or [name for kind in kinds for name in _names_below(kind)])
    hint = f"; did you mean {matches[0]}?" if matches else ""
    return f"--{name} is {value!r}; expected {' or '.join(words)}{hint}"


def _nearest(name: str, names: Iterable[str]) -> list[str]:
    names = list(names)
    nested = [option for option in names if option.endswith(f".{name}")]
    return nested + difflib.get_close_matches(name, names, 1)


def _names_below(class_path: str) -> list[str]:
    """Return the names of the classes derived from a class, any of which an option takes."""
    kind = _imported(class_path)
    subclasses = list(kind.__subclasses__()) if inspect.isclass(kind) and "." in class_path else []
    for subclass in subclasses:  # which grows by their own
        subclasses += subclass.__subclasses__()
    return [subclass.__name__ for subclass in subclasses]


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name) if module else None
