"""A validation of the weights that a training ends with, after its last epoch or step."""

from typing import Any

from pytorch_lightning import Callback

from batch import SliceBatch


class ValidateLast(Callback):
    """Validate the last weights also where only every n-th epoch is validated, or steps end within an epoch.

    They are what EM keeps, thresholds are picked on them, and a checkpoint says how good its weights are.
    """

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        # None: validations are counted in steps, over epochs.
        if trainer.check_val_every_n_epoch is not None and trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: SliceBatch, batch_idx: int) -> None:
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.check_val_every_n_epoch = 1
            trainer.should_stop = True  # a training that stops is validated before its epoch ends
