"""Figures of training steps against scikit-learn's, and over ranks that share the same slices out."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score

from metrics.training_figures import TrainingFigures

SCAN = np.array([0, 0, 1, 1, 1, 2, 2])  # scan 2 has no finding
DRAWN = torch.tensor([[0, 2], [5, 3], [1, 4], [6, 2], [0, 5], [3, 3]])  # slices 0, 2, 5 twice, slice 3 three times
LOSSES = torch.tensor([0.5, 0.25, 0.75, 0.125, 1.0, 0.375])


def step(number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Prediction, target and lung of a step, each time others, as augmentation makes them."""
    rng, shape = torch.Generator().manual_seed(number), (2, 11, 7)
    target = torch.randint(-1, 2, shape, generator=rng)
    target[torch.from_numpy(SCAN)[DRAWN[number]] == 2] = 0
    return torch.rand(shape, generator=rng) < 0.4, target, torch.rand(shape, generator=rng) < 0.7


def figures_of(steps: list[int], world_size: int = 1) -> dict[str, float | int | None]:
    counted = TrainingFigures(SCAN, torch.device("cpu"))
    for number in steps:
        prediction, target, lung = step(number)
        counted.add(prediction, target, lung, DRAWN[number], LOSSES[number])
    return counted.figures(world_size)


def test_figures_are_scikit_learn_s_over_all_that_was_drawn() -> None:
    truth: dict[int, list[int]] = {0: [], 1: [], 2: []}
    predicted: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for number in range(len(DRAWN)):
        prediction, target, lung = step(number)
        for row, scan in enumerate(SCAN[DRAWN[number].numpy()]):
            labelled = lung[row] & (target[row] >= 0)
            truth[scan] += target[row][labelled].tolist()
            predicted[scan] += prediction[row][labelled].int().tolist()
    figures = figures_of(list(range(len(DRAWN))))
    assert figures["loss_epoch"] == pytest.approx(0.5)
    assert figures["dice"] == pytest.approx(np.mean([f1_score(truth[scan], predicted[scan]) for scan in (0, 1)]))
    everything = [[value for scan in values for value in values[scan]] for values in (truth, predicted)]
    assert figures["iou"] == pytest.approx(jaccard_score(*everything))
    assert figures["relative_volume"] == pytest.approx(sum(everything[1]) / sum(everything[0]))


def test_without_the_finding_figures_are_undefined() -> None:
    counted = TrainingFigures(SCAN, torch.device("cpu"))
    nothing = torch.zeros(2, 4, 4)
    counted.add(nothing > 0, nothing, nothing == 0, torch.tensor([0, 1]), torch.tensor(0.5))
    assert counted.figures(1) == {"loss_epoch": 0.5, "dice": None, "iou": None, "relative_volume": None}


def test_a_loss_that_is_not_a_number_is_no_figure() -> None:
    counted = TrainingFigures(SCAN, torch.device("cpu"))
    nothing = torch.zeros(2, 4, 4)
    counted.add(nothing > 0, nothing, nothing == 0, torch.tensor([0, 1]), torch.tensor(float("nan")))
    assert counted.figures(1)["loss_epoch"] is None


def rank_figures(rank: int, world_size: int, place: Path) -> None:
    torch.distributed.init_process_group("gloo", f"file://{place / 'meet'}", rank=rank, world_size=world_size)
    torch.save(figures_of(list(range(rank, len(DRAWN), world_size)), world_size), place / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_that_share_the_steps_out_have_the_figures_of_one_process(tmp_path: Path, world_size: int) -> None:
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=rank_figures, args=(rank, world_size, tmp_path)) for rank in range(world_size)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        assert process.exitcode == 0
    alone = figures_of(list(range(len(DRAWN))))
    for rank in range(world_size):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == pytest.approx(alone, rel=1e-6)
