"""Learning-rate schedules that are as long as the training, in epochs or in steps."""

from typing import Any

from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.utilities import rank_zero_warn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from ct.refusal import Refusal, word_of

LENGTHS = ("T_max", "epochs")  # what schedules call their length
UNITS = ("epochs", "steps")


class StepsLR(MultiStepLR):
    """Multiply the learning rate by `gamma` where given shares of the training are done.

    The papers name epochs (10 and 20 of 30; 50 and 100 of 200), which a shorter training would never reach.

    Args:
        optimizer: Whose rate it is.
        epochs: Length of the training, which train.py takes from the trainer: in steps where that counts steps.
        shares: When the rate falls, each in 0..1, rounded to an epoch, but never before the second.
        gamma: What the rate is multiplied by.
    """

    def __init__(self, optimizer: Optimizer, epochs: int, shares: list[float], gamma: float = 0.1) -> None:
        super().__init__(optimizer, [max(1, round(share * epochs)) for share in shares], gamma)
        self.epochs = epochs


def training_length(max_epochs: int | None, max_steps: int | None) -> tuple[int | None, str]:
    """Return the length that the trainer's settings give a training, and its unit.

    A small cohort has few steps in an epoch, so its length is better given in steps. Where both are given, epochs
    count: whoever shortens a training with max_epochs need not know in what its experiment measures.

    Args:
        max_epochs: trainer.max_epochs; -1 or None is no number.
        max_steps: trainer.max_steps, likewise.

    Returns:
        The length, `max_epochs` itself where neither is a number, and one of `UNITS`.
    """
    if (max_epochs is None or max_epochs < 0) and max_steps is not None and max_steps > 0:
        return max_steps, "steps"
    return max_epochs, "epochs"


def link_schedule(parser: LightningArgumentParser) -> None:
    """Make the schedule of an experiment, if it has one, as long as the training; its file need not name a length."""

    def as_the_training(max_epochs: int | None, max_steps: int | None, schedule: Any) -> int | None:
        training, unit = training_length(max_epochs, max_steps)
        for length in LENGTHS:
            value = schedule.get(f"init_args.{length}") if schedule else None
            if value not in (None, training):
                rank_zero_warn(
                    f"lr_scheduler.{length} is {value}, but a schedule is as long as the training, {training} {unit}: "
                    f"set trainer.max_{unit}"
                )
        return training

    for length in LENGTHS:
        sources = ("trainer.max_epochs", "trainer.max_steps", "lr_scheduler")
        parser.link_arguments(sources, f"lr_scheduler.init_args.{length}", as_the_training)


def check_schedule(config: Any) -> None:
    """Refuse a schedule for a training whose length is not given.

    Args:
        config: The parsed configuration of a subcommand of train.py.

    Raises:
        ValueError: If there is a schedule with a length, and neither trainer.max_epochs nor trainer.max_steps is one.
    """
    lengths = [config.get(f"lr_scheduler.init_args.{length}", 1) for length in LENGTHS]
    if not all(isinstance(length, int) and length >= 1 for length in lengths):
        raise Refusal(
            "trainer.max_epochs is {max_epochs} and trainer.max_steps is {max_steps}, but the learning rate follows a "
            "schedule as long as the training; give a number of epochs or of steps, or --lr_scheduler=null",
            max_epochs=config.trainer.max_epochs,
            max_steps=config.trainer.max_steps,
        )


def interval_of(schedule: Any, trainer: Any) -> str:
    """Return after what a schedule moves on: `step` where it is as long as a training that counts steps, or `epoch`."""
    _, unit = training_length(trainer.max_epochs, trainer.max_steps)
    return "step" if unit == "steps" and any(hasattr(schedule, length) for length in LENGTHS) else "epoch"


def check_same_length(checkpoint: dict[str, Any], trainer: Any) -> None:
    """Refuse to go on from a checkpoint with a schedule of another length, which would follow the old one.

    Raises:
        ValueError: If the schedule in the checkpoint is longer or shorter than the trainer's training.
    """
    training, unit = training_length(trainer.max_epochs, trainer.max_steps)
    for state in checkpoint.get("lr_schedulers", []):
        for length in LENGTHS:
            if state.get(length, training) != training:
                raise Refusal(
                    "the learning rate of {path} follows a schedule of {length} {unit}, but this training has "
                    "{training}; give --trainer.max_{unit}={length}, or train anew",
                    path=trainer.ckpt_path,
                    length=state[length],
                    training=training,
                    unit=word_of(unit, UNITS),
                )
