"""The study of a sweep: what comes next, after every stop as without one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.sweeps.sweep_file import Sweep
from evaluation.sweeps.sweep_study import SweepStudy, trial_key
from evaluation.sweeps.trials import Trial

X = {"x": {"min": 0.0, "max": 1.0}}


def sweep_of(method: str, parameters: dict[str, Any], run_cap: int | None = None, goal: Any = "maximize") -> Sweep:
    return Sweep("small", "train.py", method, "test/dice", goal, parameters, ["${args}"], run_cap)


def run(study: SweepStudy, trial: Trial, value: float | None, error: str = "") -> None:
    """End a trial with what its run would leave."""
    home = study.folder / trial.key / "experiment"
    if not error:
        (home / "1").mkdir(parents=True, exist_ok=True)
        (home / "1" / "metrics.json").write_text(json.dumps({"dice": value}))
        (home / "latest").write_text("1")
    study.finish(trial, 1.0, error)


def search(
    sweep: Sweep, folder: Path, value: Callable[[Any], float | None], trials: int = 1000, error: str = ""
) -> list[Any]:
    """Run at most so many trials one after the other; return the points of all, also of earlier searches."""
    folder.mkdir(exist_ok=True)
    study = SweepStudy(sweep, folder, "settings")
    while trials and (trial := study.next()):
        run(study, trial, value(trial.parameters), error)
        trials -= 1
    return [trial.parameters for trial in study.trials]


def none(_: Any) -> None:
    return None


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_a_stopped_search_proposes_what_it_would_have(tmp_path: Path, method: str) -> None:
    space = {"x": {"min": -1.0, "max": 1.0}, "k": {"values": [1, 2]}}
    sweep = sweep_of(method, space, 14)
    whole = search(sweep, tmp_path / "whole", lambda p: p["x"])
    assert len(whole) == 14
    assert len({p["x"] for p in whole}) == 14
    assert all(-1 <= p["x"] <= 1 and p["k"] in (1, 2) for p in whole)
    for stopped in (3, 12):
        folder = tmp_path / f"stopped{stopped}"
        assert search(sweep, folder, lambda p: p["x"], stopped) == whole[:stopped]
        killed = SweepStudy(sweep, folder, "settings").next()  # and never heard of again
        assert killed is not None
        assert killed.parameters == whole[stopped]
        assert search(sweep, folder, lambda p: p["x"]) == whole


@pytest.mark.parametrize(("goal", "sign"), [("maximize", 1), ("minimize", -1)])
def test_bayes_learns_where_random_does_not(tmp_path: Path, goal: str, sign: int) -> None:
    # The optimum is at 0.3: the late proposals of a search that learns are nearer to it.
    miss = {}
    for method in ("bayes", "random"):
        points = search(sweep_of(method, X, 30, goal), tmp_path / method, lambda p: -sign * (p["x"] - 0.3) ** 2)
        miss[method] = np.median([abs(p["x"] - 0.3) for p in points[15:]])
    assert miss["bayes"] < 0.1 < miss["random"]


@pytest.mark.parametrize("error", ["", "exit code 2"])
def test_trials_without_a_value_count_but_teach_nothing(tmp_path: Path, error: str) -> None:
    bayes = search(sweep_of("bayes", X, 20), tmp_path / "bayes", none, error=error)
    assert bayes == search(sweep_of("bayes", X, 20), tmp_path / "undefined", none)
    assert len(bayes) == 20


def test_a_space_that_is_used_up_ends_the_search(tmp_path: Path) -> None:
    points = search(sweep_of("random", {"x": {"values": [1, 2, 3]}}, 50), tmp_path, lambda _: 0.0)
    assert sorted(p["x"] for p in points) == [1, 2, 3]


@pytest.mark.slow
def test_draws_follow_the_distribution(tmp_path: Path) -> None:
    space = {
        "log": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1.0},
        "steps": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.25},
        "whole": {"min": 1, "max": 3},
    }
    drawn = search(sweep_of("random", space, 120), tmp_path, none)
    assert 1e-3 < np.median([p["log"] for p in drawn]) < 1e-1  # 1e-2 is in the middle; of a uniform one 0.5 would be
    assert {p["steps"] for p in drawn} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert {p["whole"] for p in drawn} == {1, 2, 3}


def test_a_grid_keeps_its_order_and_may_change(tmp_path: Path) -> None:
    points = [1, True, "b", 1.0, [1, 2]]  # equal to Python are not the same point
    tried = search(sweep_of("grid", {"x": {"values": points[:4]}}), tmp_path, lambda _: 0.5)
    assert list(map(repr, (p["x"] for p in tried))) == list(map(repr, points[:4]))
    more = search(sweep_of("grid", {"x": {"values": points}}), tmp_path, lambda _: 0.5)
    assert more[-1] == {"x": [1, 2]}
    assert len(more) == 5
    assert search(sweep_of("grid", {"x": {"values": ["b"]}}), tmp_path, none) == [{"x": "b"}]


def test_other_settings_are_another_study_of_the_same_journal(tmp_path: Path) -> None:
    sweep = sweep_of("grid", {"x": {"values": [1]}})
    first, second = SweepStudy(sweep, tmp_path, "a"), SweepStudy(sweep, tmp_path, "b")
    for study in (first, second):
        trial = study.next()
        assert trial is not None
        run(study, trial, 0.5)
    assert first.trials[0].key != second.trials[0].key
    assert SweepStudy(sweep, tmp_path, "a").trials == first.trials


def test_how_trials_ended_is_read_back(tmp_path: Path) -> None:
    sweep = sweep_of("bayes", X, 4)
    study = SweepStudy(sweep, tmp_path, "settings")
    ok, undefined, failed, killed = (study.next() for _ in range(4))
    assert ok
    assert undefined
    assert failed
    run(study, ok, 0.5)
    run(study, undefined, None)
    run(study, failed, None, "exit code 2")
    again = SweepStudy(sweep, tmp_path, "settings")
    assert again.trials[:3] == [ok, undefined, failed]
    assert [trial.state for trial in again.trials] == ["ok", "ok", "failed", "unfinished"]
    retried = [again.next(), again.next()]
    assert [trial and trial.key for trial in retried] == [failed.key, killed and killed.key]
    assert again.next() is None
    assert retried[0]
    run(again, retried[0], 0.25)
    third = SweepStudy(sweep, tmp_path, "settings")
    assert [(trial.state, trial.error, trial.value) for trial in third.trials[:3]] == [
        ("ok", "", 0.5),
        ("ok", "", None),
        ("ok", "", 0.25),
    ]


def test_a_run_that_is_gone_is_made_again(tmp_path: Path) -> None:
    sweep = sweep_of("grid", {"x": {"values": [1, 2]}})
    search(sweep, tmp_path, lambda _: 0.5)
    (tmp_path / trial_key("settings", {"x": 1}) / "experiment" / "latest").unlink()
    study = SweepStudy(sweep, tmp_path, "settings")
    trial = study.next()
    assert trial is not None
    assert trial.parameters == {"x": 1}
    assert study.next() is None


@pytest.mark.parametrize("cut", [b'{"op_code":4,"wor', b""])
def test_a_journal_that_was_cut_off_goes_on(tmp_path: Path, cut: bytes) -> None:
    """By a full disk, or by a crash of the machine; and a lock of a process that is dead."""
    sweep = sweep_of("random", X, 3)
    whole = search(sweep, tmp_path / "whole", lambda p: p["x"])
    search(sweep, tmp_path / "cut", lambda p: p["x"], trials=2)
    journal = tmp_path / "cut" / "study.log"
    journal.write_bytes(journal.read_bytes() + cut)
    journal.with_name("study.log.lock").touch()
    assert search(sweep, tmp_path / "cut", lambda p: p["x"]) == whole


def test_a_draw_that_was_killed_before_it_was_whole_is_drawn_again(tmp_path: Path) -> None:
    sweep = sweep_of("random", X, 3)
    whole = search(sweep, tmp_path / "whole", lambda p: p["x"])
    lines = (tmp_path / "whole" / "study.log").read_bytes().splitlines(keepends=True)
    for kept in range(1, len(lines)):
        folder = tmp_path / f"kept{kept}"
        folder.mkdir()
        (folder / "study.log").write_bytes(b"".join(lines[:kept]))
        assert search(sweep, folder, lambda p: p["x"]) == whole, kept


def test_no_links_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    for name in ("symlink", "link"):
        monkeypatch.setattr(f"os.{name}", refused)
    assert len(search(sweep_of("bayes", X, 2), tmp_path, lambda p: p["x"])) == 2


def test_a_sweep_of_an_earlier_version_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x-1_01234567").mkdir()
    (tmp_path / "x-1_01234567" / "trial.json").write_text("{}")
    with pytest.raises(ValueError, match=r"earlier version cannot go on; move .* away and start the sweep again$"):
        SweepStudy(sweep_of("random", X, 3), tmp_path, "settings")


def test_names_of_folders_are_short_and_safe() -> None:
    name = trial_key("s", {"model.b2": 8.5, "model.name": "a b/../c"})
    assert name.startswith("b2-8.5_name-a_b_.._c_")
    assert "/" not in name
    assert name != trial_key("s", {"model.b2": 8.5, "other.name": "a b/../c"})
    assert len(trial_key("s", {f"parameter{n}": 1 / 3 for n in range(20)})) < 80
