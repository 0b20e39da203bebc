"""A training that diverges ends at once, says why, and leaves nothing behind that could be taken for a model."""

import os
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from harness import experiment_args, refused

import inference.calibrate
import inference.predict
import viewer.segment_page
from callbacks.keep_checkpoints import KeepCheckpoints
from callbacks.stop_on_divergence import StopOnDivergence, likely_cause
from inference.load import load_module
from lightning_modules.infection import InfectionModule
from networks.unet import UNet
from train import main
from training.checkpoint_file import load_checkpoint_file, write_checkpoint
from training.weights import read_checkpoint

EVERY = 4  # steps between two looks at the losses


def stand_in(world_size: int = 1, precision: str = "32-true", rate: float = 0.5) -> Any:
    """What the callback asks of a trainer."""
    table = SimpleNamespace(per_slice=lambda column: ["a", "a", "b", "c"])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], rate)
    return SimpleNamespace(
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=0)),
        log_every_n_steps=EVERY, world_size=world_size, is_global_zero=True, current_epoch=7, precision=precision,
        optimizers=[optimizer], datamodule=SimpleNamespace(slice_table=lambda split: table),
    )  # fmt: skip


def steps(callback: StopOnDivergence, trainer: Any, losses: list[float]) -> None:
    """Let the callback see a step for each loss; slice n of the table is in step n."""
    for loss in losses:
        number = trainer.fit_loop.epoch_loop._batches_that_stepped
        batch: Any = {"slice_index": torch.tensor([number % 4])}
        callback.on_train_batch_end(trainer, None, {"loss": torch.tensor(loss)}, batch, 0)
        trainer.fit_loop.epoch_loop._batches_that_stepped += 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_first_step_is_named_however_late_it_is_looked_at(tmp_path: Path, bad: float) -> None:
    callback, trainer = StopOnDivergence(tmp_path), stand_in()
    steps(callback, trainer, [1.0] * EVERY + [1.0, bad, bad])
    with pytest.raises(ValueError, match=rf"from step {EVERY + 1} on \(epoch 7\), most likely because the learning"):
        steps(callback, trainer, [bad])
    assert "a bad scan among a" in (tmp_path / "diverged.txt").read_text()


def test_losses_are_looked_at_before_a_validation_and_at_the_end_of_an_epoch(tmp_path: Path) -> None:
    trainer = stand_in()
    module: Any = SimpleNamespace(weights_are_finite=lambda: torch.tensor(True))
    for look in (StopOnDivergence.on_validation_start, StopOnDivergence.on_train_epoch_end):
        callback = StopOnDivergence(tmp_path)
        trainer.fit_loop.epoch_loop._batches_that_stepped = 0
        steps(callback, trainer, [1.0, float("nan")])
        with pytest.raises(ValueError, match="from step 1 on"):
            look(callback, trainer, module)
        look(callback, trainer, module)  # nothing is left of them


def test_weights_that_no_loss_has_seen_yet(tmp_path: Path) -> None:
    callback, trainer = StopOnDivergence(tmp_path), stand_in()
    module = InfectionModule(partial(UNet, channels=4))
    steps(callback, trainer, [1.0, 1.0])
    callback.on_train_epoch_end(trainer, module)
    next(module.parameters()).data[0, 0, 0, 0] = torch.nan
    steps(callback, trainer, [1.0])
    with pytest.raises(ValueError, match="from step 3 on"):
        callback.on_train_epoch_end(trainer, module)


def test_the_likely_cause() -> None:
    assert "16-mixed overflows" in likely_cause(stand_in(precision="16-mixed"), 3, [])
    assert "a bad scan among a, b" in likely_cause(stand_in(), 0, ["a", "b"])
    assert "learning rate of 0.5 is too high" in likely_cause(stand_in(), 1, [])
    assert "a bad scan among [not shown]" in likely_cause(stand_in(), 1, ["NAME"]).public
    scheduled = stand_in()
    torch.optim.lr_scheduler.ConstantLR(scheduled.optimizers[0], factor=0.1)
    assert "learning rate of 0.5 is too high" in likely_cause(scheduled, 1, []), "as the user set it"


@pytest.mark.parametrize(
    ("scores", "best"), [([0.2, 0.5, 0.3], 1), ([None, 0.1, None], 1), ([None, None, None], 2), ([0.0, None, 0.0], 0)]
)
def test_an_undefined_figure_never_chooses_a_checkpoint(scores: list[float | None], best: int) -> None:
    keep = KeepCheckpoints(Path(), "val/dice")
    figures = [{"val/dice": torch.tensor(torch.nan if score is None else score)} for score in scores]
    assert max(epoch for epoch, figure in enumerate(figures) if keep.is_best(figure)) == best


# -- the whole command -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_training_that_diverges(cohort: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--optimizer.lr=1e12", "--optimizer=SGD", "--trainer.max_epochs=3", f"--runs={tmp_path}"]
    args = ["fit", *experiment_args("smoke_infection", cohort, work, *more)]
    line = refused(capsys, args)
    (run,) = (tmp_path / "smoke_infection").iterdir()
    assert line.startswith(f"error: {run} diverged: its loss or weights were not finite (NaN or infinite) from step ")
    assert "because the learning rate of 1e+12 is too high: lower --optimizer.lr" in line
    assert not [*run.glob("*.ckpt"), *run.glob("metrics.json")]
    figures = pd.read_csv(run / "metrics.csv").filter(like="train/")
    assert figures.notna().sum().sum() == 0, "no figure of the steps that diverged"

    again = refused(capsys, args)
    assert again.startswith(f"error: {run} has the same configuration and diverged: its loss or weights")
    assert again.endswith("FRESH=1 tries it again")
    assert refused(capsys, [*args, "--fresh=true"]).startswith("error: ")
    assert len(list((tmp_path / "smoke_infection").iterdir())) == 2, "FRESH=1 begins another run"
    main([*args, "--optimizer.lr=1e-3", "--optimizer=Adam", "--trainer.max_epochs=1"])
    assert (tmp_path / "smoke_infection" / "latest" / "metrics.json").is_file(), "other settings do, too"


@pytest.mark.slow
def test_what_was_good_before_is_kept(
    cohort: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [f"--runs={tmp_path}", "--trainer.callbacks+=poison.Poison", "--trainer.log_every_n_steps=1"]
    os.environ["POISON"] = "0 4"  # three steps an epoch: the second step of the second
    try:
        line = refused(capsys, ["fit", *experiment_args("smoke_infection", cohort, work, *more)])
    finally:
        del os.environ["POISON"]
    (run,) = (tmp_path / "smoke_infection").iterdir()
    assert "from step 4 on (epoch 1)" in line
    assert line.endswith("kept from an epoch before: best.ckpt and last.ckpt")
    for name in ("best.ckpt", "last.ckpt"):
        assert load_checkpoint_file(run / name)["epoch"] == 0
    assert pd.read_csv(run / "metrics.csv")["val/dice"].notna().sum() == 1, "weights of NaN are not validated"


# -- checkpoints of NaN, as older versions left them -------------------------------------------------------------------


@pytest.fixture
def ruined(infection_run: Path, tmp_path: Path) -> Path:
    """The folder of a finished run with one weight that is not finite."""
    folder = tmp_path / "ruined"
    shutil.copytree(infection_run, folder)
    checkpoint = load_checkpoint_file(folder / "best.ckpt")
    key = next(key for key in checkpoint["state_dict"] if key.startswith("network."))
    checkpoint["state_dict"][key][0, 0, 0, 0] = torch.inf  # of a convolution
    write_checkpoint(checkpoint, folder / "best.ckpt")
    return folder


@pytest.mark.slow
def test_such_a_checkpoint_is_refused_wherever_one_is_read(
    ruined: Path, cohort: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, reason = ruined / "best.ckpt", "holds weights that are not finite"
    for read in (load_module, read_checkpoint, load_checkpoint_file):
        with pytest.raises(ValueError, match=reason):
            read(path)
    assert reason in refused(capsys, ["test", f"--config={ruined / 'config.yaml'}", f"--ckpt_path={path}"])
    runs = f"--runs={tmp_path / 'runs'}"
    args = experiment_args("smoke", cohort, work, runs, f"--model.init_weights={path}")
    assert reason in refused(capsys, ["fit", *args])
    args = experiment_args("smoke_infection", cohort, work, runs, f"--ckpt_path={path}")
    assert reason in refused(capsys, ["fit", *args])


def test_such_a_checkpoint_segments_nothing(
    ruined: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = ruined / "best.ckpt", tmp_path / "out"
    scan = cohort.parent / "images" / "B006.nii.gz"
    with pytest.raises(ValueError, match="holds weights that are not finite"):
        viewer.segment_page.segment(path, False, scan, out, "a scan", lambda doing, share: None)
    for command, *arguments in (
        (inference.predict.main, "--ckpt", path, "--scan", scan, "--out", out),
        (inference.calibrate.main, "--ckpt", path, "--cohort", cohort),
    ):
        with pytest.raises(SystemExit) as stop:
            command([str(argument) for argument in arguments])
        assert stop.value.code == 2
        assert "holds weights that are not finite" in capsys.readouterr().err
    assert not out.exists()


def test_undefined_thresholds_are_no_weights(em_run: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint_file(em_run / "best.ckpt")
    checkpoint["state_dict"]["thresholds.best_hu"].fill_(torch.nan)
    write_checkpoint(checkpoint, tmp_path / "best.ckpt")
    assert load_module(tmp_path / "best.ckpt").task == "consolidation"
    checkpoint["state_dict"]["infection_network.bottom.0.weight"] = torch.tensor([torch.nan])
    write_checkpoint(checkpoint, tmp_path / "best.ckpt")
    with pytest.raises(ValueError, match="not finite"):
        load_module(tmp_path / "best.ckpt")
