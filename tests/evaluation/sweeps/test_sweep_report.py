from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from report_harness import make_run

from evaluation.report import report_folder
from evaluation.report.__main__ import main
from evaluation.report.human_ceiling import ceiling_table
from evaluation.sweeps.sweep_report import choice_sentence, read_trials, run_with_phi1, trade_off


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep of four trials, one of which failed; two runs with phi1, one of them from the same stage 1."""
    same = make_run(tmp_path / "runs", "unet_em_phi1", "consolidation", prior={"class_path": "losses.em.Phi1"})
    make_run(tmp_path / "runs", "another_phi1", "consolidation", seed=5, prior={"class_path": "losses.em.Phi1"})
    rows = []
    for number, (b2, k2) in enumerate([(8.0, 0.5), (8.0, 1.0), (9.0, 0.5), (9.0, 1.0)]):
        rows.append(
            {"trial": number, "state": "ok", "model.prior.b2": b2, "model.prior.k2": k2, "seconds": 9.5, **same.metrics}
        )
    rows[3] |= {"state": "failed"} | dict.fromkeys(same.metrics)
    folder = tmp_path / "runs" / "sweeps" / "prior"
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder / "trials.csv", index=False)
    return folder


def test_phi1_is_the_run_with_the_same_stage_1(sweep: Path) -> None:
    trials = read_trials(sweep)
    phi1 = run_with_phi1(trials, sweep.parents[1])
    assert phi1 is not None
    assert phi1.experiment == "unet_em_phi1"
    assert run_with_phi1(trials.assign(**{"infection/dice_mean": 0.1}), sweep.parents[1]) is None
    points = trade_off(trials, phi1)
    assert points["group"].tolist() == ["phi2"] * 3 + ["phi1", "threshold"]
    assert points["label"].tolist()[:2] == ["b2 = 8", "b2 = 8"]
    assert points["fpr"].tolist()[-1] == phi1.metrics["threshold/fpr"]


def test_sweeps_from_before_priors_had_class_paths_are_read(sweep: Path) -> None:
    trials = read_trials(sweep)
    names = {"model.prior.b2": "model.b2", "model.prior.k2": "model.k2"}
    trials.rename(columns=names).to_csv(sweep / "trials.csv", index=False)
    pd.testing.assert_frame_equal(read_trials(sweep), trials)


def test_the_command_writes_figures_3_and_4(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    drawn: dict[str, Any] = {}

    def keep(figure: object, path: Path) -> None:
        drawn[path.name] = figure
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".png").write_bytes(b"\0" * 24)

    monkeypatch.setattr(report_folder, "save", keep)
    assert main(["--runs", str(sweep.parents[1]), "--sweep", "prior"]) == 0
    assert set(drawn) == {"prior_dice", "tpr_fpr"}
    phi1 = run_with_phi1(read_trials(sweep), sweep.parents[1])
    assert phi1 is not None
    ceiling = ceiling_table(phi1).set_index(["site", "finding", "figure"]).xs(("all", "consolidation", "dice_mean"))
    labels = [line.get_label() for line in drawn["prior_dice"].axes[0].get_lines()]
    assert f"human ceiling: {ceiling['reader']:.3f} (2 scans)" in labels
    table = pd.read_csv(sweep / "report" / "tables" / "trials.csv")
    assert table["b2"].tolist() == [8, 8, 9]
    assert "3 finished, 1 failed" in (sweep / "report" / "index.html").read_text()
    pd.DataFrame({"trial": [0], "state": ["ok"]}).to_csv(sweep / "trials.csv", index=False)
    assert main(["--runs", str(sweep.parents[1]), "--sweep", "prior"]) == 2
    assert "need a sweep over model.prior.b2 and model.prior.k2" in capsys.readouterr().err


def test_the_report_says_which_trial_validation_chose_and_how_it_did_on_test(sweep: Path) -> None:
    trials = read_trials(sweep)
    assert "No trial was chosen by validation" in choice_sentence(trials)  # a table of an earlier version
    figures: dict[str, Any] = {"val/dice": [0.5, 0.71, 0.6, None], "consolidation/dice_mean": [0.9, 0.4, 0.5, None]}
    trials = trials.assign(**figures)
    by_validation = trials.assign(best_by=pd.Series([None, "val/dice", None, None]))
    assert choice_sentence(by_validation) == (
        "Chosen by validation: best by val/dice: model.prior.b2 8.0, model.prior.k2 1.0 (0.7100); "
        "its Dice on test scans is 0.400."
    )
    by_test = trials.assign(best_by=pd.Series(["test/consolidation/dice_mean", None, None, None]))
    assert "No trial was chosen by validation" in choice_sentence(by_test)
