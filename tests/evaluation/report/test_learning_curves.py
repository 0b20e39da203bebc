"""Learning curves, from a history by hand to the files of a training that was resumed."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from report_harness import HISTORY

from evaluation.report.learning_curves import curves_of, draw_curves, read_curves, write_curves


@pytest.fixture
def history(tmp_path: Path) -> pd.DataFrame:
    (tmp_path / "metrics.csv").write_text(HISTORY)
    return read_curves(tmp_path)


def test_an_epoch_is_a_row_whatever_it_logged_when(history: pd.DataFrame) -> None:
    assert history.index.tolist() == [1, 2]
    assert history["train/loss"].tolist() == [0.75, 0.25]
    assert history["train/loss_epoch"].tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
    assert history["val/dice"].tolist() == pytest.approx([0.25, np.nan], nan_ok=True)


def test_training_stands_beside_validation(history: pd.DataFrame) -> None:
    panels = {
        panel: {name: list(curve) for name, curve in curves.items()} for panel, curves in curves_of(history).items()
    }
    assert panels == {
        "loss": {"train": [0.5]},
        "Dice": {"train": [0.125], "validation": [0.25]},
        "IOU": {"validation": [0.15]},
    }
    figure = draw_curves(history, "mine")
    loss, dice, iou = figure.axes
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss", "Dice", "IOU"]
    assert [line.get_label() for line in dice.lines] == ["train", "validation"]
    assert len({line.get_color() for line in dice.lines}) == len({line.get_linestyle() for line in dice.lines}) == 2
    assert loss.lines[0].get_color() == dice.lines[0].get_color()
    assert dice.get_ylim() == (0, 1)
    assert all(line.get_marker() not in ("", "None") for line in iou.lines), "a single epoch is a point, and seen"
    assert figure.get_suptitle() == "mine, 2 epochs"
    plt.close(figure)


def test_a_history_of_before_has_the_loss_of_its_steps() -> None:
    old = pd.DataFrame({"train/loss": [0.5, 0.25], "val/opacity_iou": [0.1, 0.2], "e_step/share": [0.3, 0.4]})
    panels = curves_of(old)
    assert list(panels["loss"]["train"]) == [0.5, 0.25]
    assert list(panels["IOU"]["validation"]) == [0.1, 0.2]
    assert list(panels["labelled by the E-step (share)"]["train"]) == [0.3, 0.4]


def test_without_a_history_there_is_no_picture(tmp_path: Path) -> None:
    assert write_curves(tmp_path, "mine") is None
    (tmp_path / "metrics.csv").write_text("epoch,step,val/dice\n0,1,nan\n")
    assert write_curves(tmp_path, "mine") is None
    assert not (tmp_path / "curves.png").exists()


def test_every_run_has_its_curves(infection_run: Path, em_run: Path) -> None:
    for run in (infection_run, em_run):
        picture = matplotlib.image.imread(run / "curves.png")
        assert len(np.unique(picture)) > 10
        panels = curves_of(read_curves(run))
        assert set(panels) >= {"loss", "Dice", "IOU", "relative volume"}
        epochs = 6 if run == infection_run else 2
        for name in ("train", "validation"):
            assert list(panels["Dice"][name].index) == list(range(1, epochs + 1))
