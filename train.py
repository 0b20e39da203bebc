"""The command line: `python train.py fit|validate|test --config experiments/base.yaml --config experiments/X.yaml`."""

import machine.threads  # noqa: F401  # before torch is loaded

# isort: split
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from callbacks.continue_history import ContinueHistory
from callbacks.describe_run import DescribeRun, KeepVerdicts
from callbacks.describe_training import DescribeTraining
from callbacks.epoch_lines import progress_bar
from callbacks.keep_checkpoints import KeepCheckpoints
from callbacks.log_slices import LogSlices
from callbacks.stop_on_divergence import StopOnDivergence
from callbacks.stop_on_signal import StopOnSignal, leaving_at_once, listen, stop_listening
from callbacks.validate_last import ValidateLast
from callbacks.waiting import WaitingShare
from callbacks.write_results import WriteResults
from ct.refusal import Refusal
from evaluation.report.learning_curves import write_curves
from evaluation.tables import print_run
from inference.ensemble import load_ensemble, predict_command, write_members
from machine.command_line import one_line_errors, run_command
from machine.latest import followed
from machine.network import finish
from machine.package import answer_to_bare_names, with_bare_classes
from training.checkpoint_file import CheckpointFiles, newest_whole
from training.history import History
from training.option_errors import OneLineParser, refusals
from training.precision import fastest_precision
from training.run_folder import Run, close_run, discard_run, mark_finished, open_run
from training.schedule import check_schedule, interval_of, link_schedule
from training.wandb_run import record_failure, wandb_loggers, why_it_failed

# What libraries warn of in every run although no user could act on it: the module augments on the device by design, and
# Lightning's own use of PyTorch is a version behind.
KNOWN_WARNINGS = (
    "You have overridden `on_after_batch_transfer`",
    "`isinstance\\(treespec",
    "The number of training batches",
    "The '.*_dataloader' does not have many workers",
    "Checkpoint directory",
    "Experiment logs directory",
    "It is recommended to use `self.log\\(.*sync_dist=True\\)`",  # every rank computes the same figure
)
# Options that are no part of a run's configuration.
OF_A_START = ("fresh", "members", "flips")
# Advertising of other products, and advice to whoever wrote the program: which precision to use is settled here.
TIPS = ("\N{ELECTRIC LIGHT BULB} Tip", "You are using a CUDA device")


class ExperimentCLI(LightningCLI):
    """LightningCLI whose runs live in <runs>/<experiment>/<timestamp>; `fit` ends with the test of the best weights."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--experiment", default="experiment", help="name of the run's folder")
        parser.add_argument("--runs", default="runs", help="folder of all runs")
        parser.add_argument("--fresh", default=False, type=bool, help="fit: never go on with an unfinished run")
        parser.add_argument("--members", default=[], type=list[str], help="test: checkpoints whose mean is tested")
        parser.add_argument("--flips", default=False, type=bool, help="test: average over mirrored slices too")
        parser.set_defaults({"trainer.precision": fastest_precision()})

    @staticmethod
    def link_optimizers_and_lr_schedulers(parser: LightningArgumentParser) -> None:
        LightningCLI.link_optimizers_and_lr_schedulers(parser)
        link_schedule(parser)

    def before_instantiate_classes(self) -> None:
        settings = self.config[self.subcommand]
        check_schedule(settings)
        if self.subcommand != "test" and (settings.members or settings.flips):
            raise Refusal("members and flips are of a test; {subcommand} takes neither", subcommand=self.subcommand)
        if self.subcommand == "test" and settings.members and settings.ckpt_path:
            raise Refusal("members and ckpt_path both name checkpoints; give those of an ensemble as members alone")

    @staticmethod
    def configure_optimizers(lightning_module: LightningModule, optimizer: Any, lr_scheduler: Any = None) -> Any:
        configured = LightningCLI.configure_optimizers(lightning_module, optimizer, lr_scheduler)
        if not isinstance(configured, tuple):  # no schedule, or one that watches a metric
            return configured
        interval = interval_of(lr_scheduler, lightning_module.trainer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": lr_scheduler, "interval": interval}}

    def _add_configure_optimizers_method_to_model(self, subcommand: str | None) -> None:
        with refusals("optimizer and lr_scheduler"):  # Lightning makes both here
            super()._add_configure_optimizers_method_to_model(subcommand)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings = self.config_init[self.subcommand]
        model, data = self.model, self.datamodule
        if model.hparams["context"] != data.context:
            contexts = f"model.context is {model.hparams['context']} and data.context is {data.context}"
            raise ValueError(f"{contexts}; set the same number in both")
        if model.classes != data.classes:
            class_sets = f"model.classes is {model.classes.name} and data.classes is {data.classes.name}"
            raise ValueError(f"{class_sets}; set the same class set in both")
        self.save_config_callback = None  # the run folder has the configuration from its beginning
        chosen = [*progress_bar(settings.trainer), *(settings.trainer.callbacks or [])]
        if self.subcommand == "fit":
            self.run = open_run(settings.runs, settings.experiment, self.resolved(), fresh=settings.fresh)
            self.folder = self.run.folder
            around = around_fit(self.run, self.config.fit.as_dict(), self.model.monitor, chosen)
        elif self.members:
            self.ensemble = load_ensemble(self.members, settings.flips, self.own_modules())
            name = f"{settings.experiment}_{'ensemble' if settings.members else 'flips'}"
            self.run = open_run(settings.runs, name, self.resolved(), fresh=True)
            self.folder = self.run.folder
            around = around_test(self.folder, chosen)
        elif settings.ckpt_path:
            self.folder = Path(settings.ckpt_path).parent
            around = around_test(self.folder, chosen)
        else:
            raise ValueError(f"{self.subcommand} needs weights; give --ckpt_path the best.ckpt of a run folder")
        plugins = [*(settings.trainer.plugins or []), CheckpointFiles()]
        try:
            with refusals("trainer"):
                trainer = super().instantiate_trainer(**around, plugins=plugins, enable_checkpointing=False, **kwargs)
        except ValueError:
            discard_run()
            raise
        listen(trainer)
        return trainer

    def resolved(self) -> str:
        """Return the whole configuration as YAML, but for what only says how a fit starts or what a test averages."""
        config = self.config[self.subcommand].clone()
        for name in OF_A_START:
            config.pop(name)
        dumped = self._parser(self.subcommand).dump(
            config, skip_link_targets=False, skip_none=False, skip_validation=True
        )
        return with_bare_classes(dumped)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would put what a checkpoint says of the model over what the user says."""

    def fit(self, **arguments: Any) -> None:
        checkpoint = newest_whole(self.run.checkpoints)
        if self.run.resumed:
            print(f"{self.folder} is unfinished: going on from {checkpoint or 'its beginning'}; FRESH=1 starts over")
        self.trainer.fit(**arguments | ({"ckpt_path": checkpoint} if checkpoint else {}))

    @property
    def members(self) -> list[str]:
        """Checkpoints that a test averages, with `flips` over mirrored slices too; empty where it averages nothing."""
        settings = self.config[self.subcommand]
        return settings.members or ([settings.ckpt_path] if settings.flips and settings.ckpt_path else [])

    def own_modules(self) -> list[str]:
        """Return the modules of the network and the prior that the user's configuration names, and so allows."""
        chosen = self.config[self.subcommand].model.get("init_args", {})
        classes = [getattr(chosen.get(name), "class_path", "") for name in ("network", "prior")]
        return [class_path.rpartition(".")[0] for class_path in classes if class_path]

    def test(self, **arguments: Any) -> None:
        if not self.members:
            self.trainer.test(**arguments)
            return
        self.trainer.test(self.ensemble, self.datamodule, verbose=False)
        if self.trainer.is_global_zero:
            flips = self.config.test.flips
            write_members(self.members, flips, self.folder)
            mark_finished(self.folder)
            print(f"segment a new scan with it: {predict_command(self.members, flips)}")

    def after_fit(self) -> None:
        if self.trainer.is_global_zero:
            write_curves(self.folder, self.config.fit.experiment)
        self.trainer.test(self.model, self.datamodule, ckpt_path=self.folder / "best.ckpt", verbose=False)
        if self.trainer.is_global_zero:
            mark_finished(self.folder)  # from here on `latest` names it: all that a test writes is written
        self.after_test()

    def after_test(self) -> None:
        if self.trainer.is_global_zero:
            print_run(self.folder)


def around_fit(run: Run, config: dict[str, Any], monitor: str | None, chosen: list[Callback]) -> dict[str, Any]:
    """Return `logger` and `callbacks` of a training that ends with its test.

    Args:
        run: Its folder.
        config: Its resolved configuration.
        monitor: Key of the metric by which the best checkpoint is chosen.
        chosen: The experiment's own callbacks.
    """
    history, folder = History(run.folder), run.folder
    # What is saved is what was logged so far; W&B's run begins with the description.
    first = [DescribeRun(config), KeepCheckpoints(folder, monitor), ContinueHistory(folder, history)]
    last = [LogSlices(folder), WriteResults(folder, alone=True), KeepVerdicts(folder)]
    loggers = [history, *wandb_loggers(folder, config["experiment"], run.id)]
    ends = [StopOnSignal(folder), StopOnDivergence(folder), ValidateLast()]
    return {"logger": loggers, "callbacks": [*first, *ends, *chosen, WaitingShare(), DescribeTraining(), *last]}


def around_test(folder: Path, chosen: list[Callback]) -> dict[str, Any]:
    """Return `logger` and `callbacks` of a test or validation of weights in a run folder."""
    last = [LogSlices(folder), WriteResults(folder, alone=False)]
    return {"logger": False, "callbacks": [StopOnSignal(folder), *chosen, *last]}


def ignore_known_warnings() -> None:
    """Keep warnings that concern nobody off the terminal, so that those that matter are seen."""
    for message in KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_is_no_tip)


def _is_no_tip(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(TIPS)


def main(args: list[str] | None = None) -> None:
    """Parse `args` (sys.argv by default) and run the subcommand."""
    ignore_known_warnings()
    answer_to_bare_names()
    if args is None:
        sys.argv[1:] = map(followed, sys.argv[1:])
    else:
        args = list(map(followed, args))
    with one_line_errors():
        try:
            ExperimentCLI(
                LightningModule,
                LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                parser_class=OneLineParser,
                args=args,
            )
        except BaseException as error:
            if reason := why_it_failed(error):
                record_failure(reason)
            raise
        finally:
            finish()  # or the next run of this process would write into this one's
            close_run()
            stop_listening()


if __name__ == "__main__":
    with leaving_at_once():
        run_command(main)
