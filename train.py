"""The command line: `python train.py fit|validate|test --config experiments/base.yaml --config experiments/X.yaml`."""

import warnings
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

from callbacks.history import ContinueHistory, History
from callbacks.keep_checkpoints import KeepCheckpoints
from callbacks.log_slices import LogSlices
from callbacks.one_line_errors import one_line_errors
from callbacks.run_folder import KeepVerdicts, MarkLatest, close_run, open_run
from callbacks.stop_on_signal import StopOnSignal, stop_listening
from callbacks.wandb_run import DescribeRun, wandb_loggers
from callbacks.write_results import WriteResults
from evaluation.tables import print_run
from lightning_modules.checkpoint_file import CheckpointFiles, newest_whole
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
        parser.add_argument("--fresh", default=False, type=bool, help="fit: never go on with an unfinished run")
        parser.set_defaults({"trainer.precision": fastest_precision()})

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings = self.config_init[self.subcommand]
        self.save_config_callback = None  # the run folder has the configuration from its beginning
        if self.subcommand == "fit":
            self.run = open_run(settings.runs, settings.experiment, self.resolved(), fresh=settings.fresh)
            self.folder = self.run.folder
            history = History(self.folder)
            logger = [history, *wandb_loggers(self.folder, settings.experiment, self.run.id)]
            first = [KeepCheckpoints(self.folder, self.model.monitor), ContinueHistory(self.folder, history)]
            last = [KeepVerdicts(self.folder), MarkLatest(self.folder)]
        else:
            if not settings.ckpt_path:
                raise ValueError(f"{self.subcommand} needs weights; give --ckpt_path the best.ckpt of a run folder")
            self.folder, logger, first, last = Path(settings.ckpt_path).parent, False, [], []
        results = [LogSlices(self.folder), WriteResults(self.folder)]
        stop = StopOnSignal(self.folder)
        callbacks = [*first, stop, *(settings.trainer.callbacks or []), *results, *last]
        plugins = [*(settings.trainer.plugins or []), CheckpointFiles()]
        fixed = {"logger": logger, "callbacks": callbacks, "plugins": plugins, "enable_checkpointing": False}
        trainer = super().instantiate_trainer(**fixed, **kwargs)
        stop.listen(trainer)
        return trainer

    def resolved(self) -> str:
        """The whole configuration of a fit but for how it starts, YAML."""
        config = self.config.fit.clone()
        config.pop("fresh")
        return self._parser("fit").dump(config, skip_none=False, skip_validation=True)

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would put what a checkpoint says of the model over what the user says."""

    def fit(self, **arguments: Any) -> None:
        checkpoint = newest_whole(self.run.checkpoints)
        if self.run.resumed:
            print(f"{self.folder} is unfinished: going on from {checkpoint or 'its beginning'}; FRESH=1 starts over")
        self.trainer.fit(**arguments | ({"ckpt_path": checkpoint} if checkpoint else {}))

    def before_fit(self) -> None:
        self.trainer.callbacks.insert(0, DescribeRun(self.config.fit.as_dict()))

    def after_fit(self) -> None:
        self.trainer.test(self.model, self.datamodule, ckpt_path=self.folder / "best.ckpt", verbose=False)
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
            close_run()
            stop_listening()


if __name__ == "__main__":
    main()
