"""A sweep file for the server: what is said before, and what this process becomes."""

import os
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml

from evaluation.sweeps.server_sweep import main

SWEEP: dict[str, Any] = {"project": "ground-glass", "metric": {"name": "val/dice", "goal": "maximize"}}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the server got, and the program that this process would become."""
    calls: list[Any] = []

    def take(sweep: dict[str, Any]) -> str:
        calls.append(sweep)
        return "abcd1234"

    monkeypatch.setattr(wandb, "sweep", take)
    monkeypatch.setattr(os, "execv", lambda program, arguments: calls.append(arguments[1:]))
    return calls


def write(path: Path, **others: Any) -> str:
    path.write_text(yaml.safe_dump(SWEEP | others))
    return str(path)


def test_the_server_has_the_file_before_an_agent_works_for_it(tmp_path: Path, calls: list[Any]) -> None:
    main([write(tmp_path / "a b.yaml", early_terminate={"type": "hyperband"})])
    assert calls == [
        SWEEP | {"early_terminate": {"type": "hyperband"}},
        ["-m", "wandb", "agent", "--project", "ground-glass", "abcd1234"],
    ]


@pytest.mark.parametrize(("name", "warned"), [("test/dice", True), ("val/dice", False), ("latest/x", False)])
def test_a_metric_of_the_test_scans_is_warned_of(
    tmp_path: Path, calls: list[Any], capsys: pytest.CaptureFixture[str], name: str, warned: bool
) -> None:
    main([write(tmp_path / "s.yaml", metric={"name": name, "goal": "maximize"})])
    text = capsys.readouterr().err
    assert text.count("\n") == warned
    assert ("warning: " in text and "choosing a trial by it tunes on them" in text) == warned
    assert len(calls) == 2


def test_options_of_trials_are_refused_before_the_server_has_it(
    tmp_path: Path, calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([write(tmp_path / "s.yaml"), "--data.cohort=my cohort.csv"]) == 2
    assert "put ARGS and COHORT into its command, or use make sweep-offline" in capsys.readouterr().err
    assert calls == []


def test_a_server_that_takes_nothing_asks_for_a_login(
    tmp_path: Path, calls: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(sweep: dict[str, Any]) -> str:
        raise wandb.errors.UsageError("api_key not configured (no-tty).\ncall wandb login")

    monkeypatch.setattr(wandb, "sweep", refuse)
    assert main([write(tmp_path / "s.yaml")]) == 2
    expected = "error: W&B took no sweep (api_key not configured (no-tty).); log in first: .venv/bin/wandb login\n"
    assert capsys.readouterr().err == expected
    assert calls == []


def test_a_sweep_that_is_not_there_names_the_others(
    tmp_path: Path, calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "s.yaml")
    assert main([str(tmp_path / "t.yaml")]) == 2
    assert capsys.readouterr().err.endswith(f"{tmp_path} has: s\n")
    assert calls == []
