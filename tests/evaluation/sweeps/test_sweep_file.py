import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from places import ROOT
from wandb.apis.public.sweeps import _validate_config_and_fill_distribution
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from evaluation.sweeps.sweep_file import Sweep, distribution_of, metric_warning, read_sweep

SWEEPS = sorted((ROOT / "experiments" / "sweeps").glob("*.yaml"))
GOOD: dict[str, Any] = {
    "program": "train.py",
    "method": "grid",
    "metric": {"name": "test/dice", "goal": "maximize"},
    "parameters": {"x": {"values": [1, 2]}},
    "command": ["${program}", "${args}"],
}


def read(path: Path, **others: Any) -> Sweep:
    (path / "s.yaml").write_text(yaml.safe_dump(GOOD | others, sort_keys=False))
    return read_sweep(path / "s.yaml")


def test_a_grid_is_every_combination_once(tmp_path: Path) -> None:
    sweep = read(
        tmp_path, parameters={"a.b": {"values": [1, 2.5]}, "c": {"value": "k"}, "d": {"values": [True, False]}}
    )
    expected = [{"a.b": b, "c": c, "d": d} for b, c, d in itertools.product([1, 2.5], ["k"], [True, False])]
    assert sweep.grid() == expected
    assert sweep.size == 4


def test_a_trial_gets_what_an_agent_would_give_it(tmp_path: Path) -> None:
    command = ["${env}", "${program}", "fit", "--config=a.yaml", "${args}", "--last=1"]
    parameters = {"model.prior.b2": 8.5, "lr": 1e-05, "flag": False, "name": "phi1", "n": 3}
    wandb_args = create_sweep_command_args({"args": {name: {"value": v} for name, v in parameters.items()}})["args"]
    expanded = read(tmp_path, command=command).expand(parameters, ["--more=2"])
    assert expanded == ["train.py", "fit", "--config=a.yaml", "--more=2", *wandb_args, "--last=1"]
    assert "--lr=1e-05" in wandb_args


@pytest.mark.parametrize("bounds", [(1, 5), (1.0, 5.0)])
def test_the_distribution_is_the_one_that_wandb_chooses(bounds: tuple[float, float]) -> None:
    specification = dict(zip(("min", "max"), bounds, strict=True))
    filled = _validate_config_and_fill_distribution({"parameters": {"x": specification}})["parameters"]["x"]
    assert distribution_of(specification) == distribution_of(filled)
    assert filled["distribution"] == ("uniform" if isinstance(bounds[0], float) else "int_uniform")


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_wandb_takes_our_files(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert set(_validate_config_and_fill_distribution(content)) == set(content)
    assert {"project", "program", "method", "metric", "parameters", "command"} <= set(content)
    assert "${args}" in content["command"]


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"method": "simplex"}, "method is 'simplex'; expected one of grid, random, bayes"),
        ({"parameters": {}}, "has no parameters; expected all of a sweep file's keys"),
        ({"metric": "dice"}, "metric is 'dice'; expected a name, and a goal"),
        ({"metric": {"name": "d", "goal": "max"}}, "expected a name, and a goal of maximize or minimize"),
        ({"command": ["${program}"]}, "command lacks ${args}"),
        ({"command": ["${program}", "${args}", "${args_json}"]}, "command has ${args_json}"),
        ({"method": "random"}, "run_cap is None; expected how many trials random makes"),
        ({"method": "bayes", "run_cap": 0}, "run_cap is 0"),
        ({"early_terminate": {"type": "hyperband"}}, "early_terminate needs the W&B server"),
        ({"parameters": {"x": {"values": [1, None]}}}, "parameter x has a null, which arrives as the text 'None'"),
        ({"parameters": {"x": {"parameters": {"y": {"value": 1}}}}}, "nested keys: a.b.c"),
        ({"parameters": {"x": 3}}, "parameter x is 3; expected value, values, or min and max"),
        ({"parameters": {"x": {"min": 0.0, "max": 1.0}}}, "parameter x has no values"),
        ({"parameters": {"x": {"values": [1, 2], "probabilities": [0.5, 0.5]}}}, "parameter x: has probabilities"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_sentence(tmp_path: Path, others: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=r"s\.yaml: ") as caught:
        read(tmp_path, **others)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("specification", "sentence"),
    [
        ({"min": "1e-4", "max": 1.0}, "write 1.0e-4, not 1e-4"),
        ({"min": 0, "max": 1.0}, "both whole, or both with a decimal point"),
        ({"min": 1.0, "max": 1.0}, "expected min below max"),
        ({"min": 0.0, "max": 1.0, "distribution": "log_uniform_values"}, "above 0 on a log scale"),
        ({"min": 0.0, "max": 1.0, "distribution": "normal"}, "distribution is 'normal'"),
        ({"min": 0.0}, "max is None"),
    ],
)
def test_a_range_that_cannot_be_drawn_from_is_refused(specification: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        distribution_of(specification)
    assert sentence in str(caught.value)


def test_a_missing_file_names_those_beside_it(tmp_path: Path) -> None:
    read(tmp_path)
    with pytest.raises(ValueError, match=r"t\.yaml: not found; expected a W&B sweep file; .* has: s$"):
        read_sweep(tmp_path / "t.yaml")


@pytest.mark.parametrize("content", [None, "", "metric: dice\n", "a: [\n"])
def test_a_sweep_file_without_a_metric_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "s.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"s\.yaml: .*expected") as caught:
        metric_warning(tmp_path / "s.yaml")
    assert "\n" not in str(caught.value)
