"""The figure that a trial counts by, and the best of a sweep."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from evaluation.sweeps.trials import Trial, best_sentence, best_trial, metric_of


@pytest.mark.parametrize(
    ("module", "metric", "expected"),
    [
        ("infection.InfectionModule last", "val/dice", 0.7),  # told to keep its last epoch
        ("infection.InfectionModule", "val/dice", 0.9),  # its best epoch is kept
        ("infection.InfectionModule", "val/iou", 0.6),  # best.ckpt was not chosen by this one
        ("consolidation.ConsolidationModule", "val/dice", 0.7),  # its last epoch is kept
        ("", "val/dice", 0.7),
        ("infection.InfectionModule", "val/relative_volume", None),
    ],
)
def test_a_trial_counts_by_the_epoch_that_it_keeps(
    tmp_path: Path, module: str, metric: str, expected: float | None
) -> None:
    rows = ["epoch,val/dice,val/iou,val/relative_volume", "0,0.9,0.5,", "1,0.7,0.6,", "1,,,"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    if module:
        name, _, keep = module.partition(" ")
        config = {"model": {"class_path": f"lightning_modules.{name}", "init_args": {"keep": keep or "best"}}}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert metric_of(tmp_path, metric) == expected


def test_what_has_no_finite_value_is_never_the_best() -> None:
    values = {"a": 0.5, "b": float("inf"), "c": None, "d": 0.7, "e": 0.7, "f": 0.1}
    trials = [Trial(key, {}, number, "ok", value=value) for number, (key, value) in enumerate(values.items())]
    trials.append(Trial("g", {}, 6, "failed", value=0.9))
    assert [best.key for goal in ("maximize", "minimize") if (best := best_trial(trials, goal))] == ["d", "f"]
    assert best_trial(trials[1:3], "maximize") is None


def test_the_best_trial_is_named_with_its_parameters() -> None:
    trials = pd.DataFrame({"b2": [8.0, 9.5], "val/dice": [0.61, 0.67], "dice": [0.7, 0.6], "best_by": ["", "val/dice"]})
    assert best_sentence(trials, ["b2"], "val/dice") == "best by val/dice: b2 9.5 (0.6700)"
    flattered = best_sentence(trials.assign(best_by=["test/dice", ""]), ["b2"], "test/dice")
    assert flattered.startswith("best by test/dice: b2 8.0 (0.7000); it was chosen on test scans")
    assert "no trial has a value of val/iou" in best_sentence(trials, ["b2"], "val/iou")
