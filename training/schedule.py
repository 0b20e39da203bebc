"""Learning-rate schedules that are as long as the training."""

from typing import Any

from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.utilities import rank_zero_warn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from ct.refusal import Refusal

LENGTHS = ("T_max", "epochs")  # what schedules call the number of epochs


class StepsLR(MultiStepLR):
    """Multiply the learning rate by `gamma` where given shares of the training are done.

    The papers name epochs (10 and 20 of 30; 50 and 100 of 200), which a shorter training would never reach.

    Args:
        optimizer: Whose rate it is.
        epochs: Length of the training; train.py takes it from trainer.max_epochs.
        shares: When the rate falls, each in 0..1, rounded to an epoch, but never before the second.
        gamma: What the rate is multiplied by.
    """

    def __init__(self, optimizer: Optimizer, epochs: int, shares: list[float], gamma: float = 0.1) -> None:
        super().__init__(optimizer, [max(1, round(share * epochs)) for share in shares], gamma)
        self.epochs = epochs


def link_schedule(parser: LightningArgumentParser) -> None:
    """Make the schedule of an experiment, if it has one, as long as the training; its file need not name a length."""

    def as_the_training(epochs: int | None, schedule: Any) -> int | None:
        for length in LENGTHS:
            value = schedule.get(f"init_args.{length}") if schedule else None
            if value not in (None, epochs):
                rank_zero_warn(
                    f"lr_scheduler.{length} is {value}, but a schedule is as long as the training, {epochs} epochs: "
                    "set trainer.max_epochs"
                )
        return epochs

    for length in LENGTHS:
        parser.link_arguments(
            ("trainer.max_epochs", "lr_scheduler"), f"lr_scheduler.init_args.{length}", as_the_training
        )


def check_schedule(config: Any) -> None:
    """Refuse a schedule for a training whose number of epochs is not given.

    Args:
        config: The parsed configuration of a subcommand of train.py.

    Raises:
        ValueError: If there is a schedule with a length, and trainer.max_epochs is none.
    """
    lengths = [config.get(f"lr_scheduler.init_args.{length}", 1) for length in LENGTHS]
    if not all(isinstance(length, int) and length >= 1 for length in lengths):
        raise Refusal(
            "trainer.max_epochs is {max_epochs}, but the learning rate follows a schedule as long as the "
            "training; give a number of epochs, or --lr_scheduler=null",
            max_epochs=config.trainer.max_epochs,
        )


def check_same_length(checkpoint: dict[str, Any], trainer: Any) -> None:
    """Refuse to go on from a checkpoint with a schedule of another length, which would follow the old one.

    Raises:
        ValueError: If the schedule in the checkpoint is longer or shorter than the trainer's training.
    """
    for state in checkpoint.get("lr_schedulers", []):
        for length in LENGTHS:
            if state.get(length, trainer.max_epochs) != trainer.max_epochs:
                raise Refusal(
                    "the learning rate of {path} follows a schedule of {length} epochs, but this training has "
                    "{epochs}; give --trainer.max_epochs={length}, or train anew",
                    path=trainer.ckpt_path,
                    length=state[length],
                    epochs=trainer.max_epochs,
                )
