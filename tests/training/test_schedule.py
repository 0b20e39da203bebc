"""The length of a training and of its schedule, in epochs or in steps."""

from types import SimpleNamespace

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR

from training.schedule import StepsLR, check_same_length, interval_of, training_length


@pytest.mark.parametrize(
    ("max_epochs", "max_steps", "length"),
    [
        (20, -1, (20, "epochs")),
        (-1, 600, (600, "steps")),
        (None, 600, (600, "steps")),
        (3, 600, (3, "epochs")),  # a training in steps that somebody shortens as any other
        (-1, -1, (-1, "epochs")),
        (None, None, (None, "epochs")),
        (-1, 0, (-1, "epochs")),
    ],
)
def test_epochs_count_where_they_are_given(
    max_epochs: int | None, max_steps: int | None, length: tuple[int | None, str]
) -> None:
    assert training_length(max_epochs, max_steps) == length


def test_a_schedule_moves_on_in_the_unit_of_its_length() -> None:
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), 1.0)
    in_steps, in_epochs = (SimpleNamespace(max_epochs=n, max_steps=12) for n in (-1, 3))
    for schedule in (CosineAnnealingLR(optimizer, 12), StepsLR(optimizer, 12, [0.5])):
        assert interval_of(schedule, in_steps) == "step"
        assert interval_of(schedule, in_epochs) == "epoch"
    assert interval_of(ExponentialLR(optimizer, 0.9), in_steps) == "epoch", "its own rate is one an epoch"


@pytest.mark.parametrize(
    ("max_epochs", "max_steps", "refusal"),
    [(-1, 600, ""), (-1, 900, "schedule of 600 steps, but this training has 900; give --trainer.max_steps=600"),
     (600, -1, ""), (40, -1, "schedule of 600 epochs, but this training has 40; give --trainer.max_epochs=600")],
)  # fmt: skip
def test_going_on_needs_the_same_length(max_epochs: int, max_steps: int, refusal: str) -> None:
    trainer = SimpleNamespace(max_epochs=max_epochs, max_steps=max_steps, ckpt_path="last.ckpt")
    checkpoint = {"lr_schedulers": [{"T_max": 600}]}
    if not refusal:
        check_same_length(checkpoint, trainer)
    else:
        with pytest.raises(ValueError, match=refusal):
            check_same_length(checkpoint, trainer)
