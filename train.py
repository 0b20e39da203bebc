"""The command line: `python train.py fit|validate|test --config experiments/base.yaml --config experiments/X.yaml`."""

import warnings
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

from callbacks.log_slices import LogSlices
from callbacks.one_line_errors import one_line_errors
from callbacks.run_folder import KeepVerdicts, MarkLatest, checkpoints, loggers, new_run_folder
from callbacks.write_results import WriteResults
from evaluation.tables import print_run
from lightning_modules.precision import fastest_precision

# True of every run here and nothing a user could act on: the module augments on the device by design, and Lightning's
# own use of PyTorch is a version behind.
for message in (
    "You have overridden `on_after_batch_transfer`",
    "`isinstance\\(treespec",
    "The number of training batches",
    "The '.*_dataloader' does not have many workers",
    "Checkpoint directory",
    "Experiment logs directory",
):
    warnings.filterwarnings("ignore", message)


class ExperimentCLI(LightningCLI):
    """LightningCLI whose runs live in <runs>/<experiment>/<timestamp>; `fit` ends with the test of the best weights."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--experiment", default="experiment", help="name of the run's folder")
        parser.add_argument("--runs", default="runs", help="folder of all runs")
        parser.set_defaults({"trainer.precision": fastest_precision()})

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings = self.config_init[self.subcommand]
        if self.subcommand == "fit":
            self.folder = new_run_folder(settings.runs, settings.experiment)
            logger = loggers(self.folder, settings.experiment)
            keep = [checkpoints(self.folder, self.model.monitor), KeepVerdicts(self.folder), MarkLatest(self.folder)]
        else:
            if not settings.ckpt_path:
                raise ValueError(f"{self.subcommand} needs weights; give --ckpt_path the best.ckpt of a run folder")
            self.folder, logger, keep = Path(settings.ckpt_path).parent, False, []
            self.save_config_callback = None  # the folder has the configuration that trained these weights
        results = [WriteResults(self.folder), LogSlices(self.folder)]
        callbacks = [*(settings.trainer.callbacks or []), *results, *keep]
        return super().instantiate_trainer(logger=logger, callbacks=callbacks, **kwargs)

    def before_fit(self) -> None:
        for logger in self.trainer.loggers[1:]:  # W&B gets the plain numbers of the model and no path
            logger.log_hyperparams({"experiment": self.config_init.fit.experiment, **self.model.hparams})

    def after_fit(self) -> None:
        self.trainer.test(self.model, self.datamodule, ckpt_path="best", weights_only=True, verbose=False)
        self.after_test()

    def after_test(self) -> None:
        if self.trainer.is_global_zero:
            print_run(self.folder)


def main(args: ArgsType = None) -> None:
    """Parse `args` (sys.argv by default) and run the subcommand."""
    with one_line_errors():
        try:
            ExperimentCLI(
                LightningModule, LightningDataModule, subclass_mode_model=True, subclass_mode_data=True, args=args
            )
        finally:
            wandb.finish()  # or the next run of this process would write into this one's


if __name__ == "__main__":
    main()
