"""A W&B sweep file: what it searches, and the command of a trial."""

import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Parameters = dict[str, Any]

TEST = "test/"
METHODS = ("grid", "random", "bayes")
MACROS = ("${env}", "${interpreter}", "${program}", "${args}")


@dataclass(frozen=True)
class Sweep:
    """The content of a sweep file.

    Attributes:
        name: Shown beside the progress.
        program: Value of `${program}`.
        method: `grid`, `random` or `bayes`.
        metric: Name of the figure that trials are chosen by: a column of metrics.csv, or `test/<key>` of metrics.json.
        goal: `maximize` or `minimize`.
        parameters: Specification by the name of the option, as in the file.
        command: The parts of a trial's command, with W&B's macros.
        run_cap: How many trials a random or bayes search makes; None for a grid.
    """

    name: str
    program: str
    method: str
    metric: str
    goal: Literal["maximize", "minimize"]
    parameters: Mapping[str, Mapping[str, Any]]
    command: Sequence[str]
    run_cap: int | None

    def grid(self) -> list[Parameters] | None:
        """Return every point of a grid, the last parameter fastest; None for other methods."""
        if self.method != "grid":
            return None
        axes = [_listed(specification) for specification in self.parameters.values()]
        return [dict(zip(self.parameters, point, strict=True)) for point in itertools.product(*axes)]

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the distribution that each parameter is drawn from."""
        return {name: distribution_of(specification) for name, specification in self.parameters.items()}

    @property
    def size(self) -> int:
        """Number of trials."""
        grid = self.grid()
        return int(self.run_cap or 0) if grid is None else len(grid)

    @property
    def search_space(self) -> Any:
        """Everything that the order of trials depends on; None for a grid, whose points do not depend on each other."""
        return None if self.method == "grid" else [self.method, self.metric, self.goal, self.parameters]

    def expand(self, parameters: Parameters, options: Sequence[str]) -> list[str]:
        """Return the command of a trial as `wandb agent` would, with `options` before those of its parameters."""
        arguments = [*options, *(f"--{name}={value}" for name, value in parameters.items())]
        values = dict(zip(MACROS, ([], [sys.executable], [self.program], arguments), strict=True))
        return [argument for part in self.command for argument in values.get(part, [part])]


def read_sweep(path: Path) -> Sweep:
    """Read a sweep file.

    Raises:
        ValueError: There is no such file, or it asks for something that cannot be run without a server.
    """
    content = read_content(path)
    missing = [key for key in ("program", "method", "metric", "parameters", "command") if not content.get(key)]
    if missing:
        raise ValueError(f"{path}: has no {', '.join(missing)}; expected all of a sweep file's keys")
    method, metric = content["method"], content["metric"]
    _check(path, content)
    return Sweep(
        name=str(content.get("name", path.stem)),
        program=str(content["program"]),
        method=method,
        metric=str(metric["name"]),
        goal=metric["goal"],
        parameters=content["parameters"],
        command=[str(part) for part in content["command"]],
        run_cap=None if method == "grid" else int(content["run_cap"]),
    )


def read_content(path: Path) -> dict[str, Any]:
    """Read a sweep file, unchecked.

    Raises:
        ValueError: There is no such file, or it is no YAML.
    """
    if not path.is_file():
        others = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))) or "none"
        raise ValueError(f"{path}: not found; expected a W&B sweep file; {path.parent} has: {others}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: no YAML ({' '.join(str(error).split())}); expected a W&B sweep file") from None
    return content if isinstance(content, dict) else {}


def metric_warning(path: Path) -> str:
    """Return a sentence that warns of a sweep file's metric; empty where it needs none.

    Raises:
        ValueError: There is no such file, or it names no metric.
    """
    content = read_content(path)
    try:
        name = str(content["metric"]["name"])
    except (TypeError, KeyError):
        raise ValueError(f"{path}: no sweep file with a metric; expected metric: with a name and a goal") from None
    if not name.startswith(TEST):
        return ""
    return (
        f"{path}: the metric {name} is a figure of the test scans; choosing a trial by it tunes on them, and its "
        "test figures no longer say how it does on new scans; name a figure of validation, such as val/dice"
    )


def _check(path: Path, content: Mapping[str, Any]) -> None:
    method, metric, command = content["method"], content["metric"], [str(part) for part in content["command"]]
    if method not in METHODS:
        raise ValueError(f"{path}: method is {method!r}; expected one of {', '.join(METHODS)}")
    if not isinstance(metric, dict) or "name" not in metric or metric.get("goal") not in ("maximize", "minimize"):
        raise ValueError(f"{path}: metric is {metric!r}; expected a name, and a goal of maximize or minimize")
    unknown = [part for part in command if part.startswith("${") and part not in MACROS]
    if unknown or "${args}" not in command:
        fault = f"has {unknown[0]}" if unknown else "lacks ${args}"
        raise ValueError(f"{path}: command {fault}; expected ${{args}}, and no macros but {', '.join(MACROS)}")
    if method != "grid" and not (isinstance(content.get("run_cap"), int) and content["run_cap"] > 0):
        raise ValueError(f"{path}: run_cap is {content.get('run_cap')!r}; expected how many trials {method} makes")
    if "early_terminate" in content:
        raise ValueError(f"{path}: early_terminate needs the W&B server; take it out, or use `make sweep`")
    for name, specification in content["parameters"].items():
        _check_parameter(path, name, specification, method)


def _check_parameter(path: Path, name: str, specification: Any, method: str) -> None:
    where = f"{path}: parameter {name}"
    if not isinstance(specification, dict) or "parameters" in specification:
        raise ValueError(f"{where} is {specification!r}; expected value, values, or min and max (nested keys: a.b.c)")
    values = _listed(specification)
    if any(value is None for value in values):
        raise ValueError(f"{where} has a null, which arrives as the text 'None'; expected numbers, texts or booleans")
    if not values and method == "grid":
        raise ValueError(f"{where} has no values; expected value or values in a grid")
    try:
        distribution_of(specification)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _listed(specification: Mapping[str, Any]) -> list[Any]:
    return list(specification.get("values", [specification["value"]] if "value" in specification else []))


def distribution_of(specification: Mapping[str, Any]) -> BaseDistribution:
    """Return a parameter's distribution, chosen as W&B chooses it where the file names none.

    Raises:
        ValueError: Only a W&B server draws from it, or its bounds are wrong.
    """
    if listed := _listed(specification):
        if "probabilities" in specification:
            raise ValueError("has probabilities; expected values that are all as likely")
        return CategoricalDistribution(listed)
    low, high = specification.get("min"), specification.get("max")
    if not all(isinstance(bound, int | float) and math.isfinite(bound) for bound in (low, high)):
        raise ValueError(f"min is {low!r}, max is {high!r}; expected numbers (write 1.0e-4, not 1e-4)")
    assert low is not None
    assert high is not None
    whole = isinstance(low, int) and isinstance(high, int)
    kind = specification.get("distribution", "int_uniform" if whole else "uniform")
    if "distribution" not in specification and isinstance(low, int) != isinstance(high, int):
        raise ValueError(f"min is {low!r}, max is {high!r}; expected both whole, or both with a decimal point")
    if not low < high or (kind == "log_uniform_values" and low <= 0):
        raise ValueError(f"min is {low!r}, max is {high!r}; expected min below max, and above 0 on a log scale")
    if kind == "int_uniform":
        return IntDistribution(int(low), int(high))
    if kind in ("uniform", "q_uniform", "log_uniform_values"):
        step = float(specification.get("q", 1.0)) if kind == "q_uniform" else None
        return FloatDistribution(float(low), float(high), log=kind == "log_uniform_values", step=step)
    raise ValueError(f"distribution is {kind!r}; expected uniform, int_uniform, q_uniform or log_uniform_values")
