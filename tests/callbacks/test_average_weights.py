"""The running mean of the network's weights: its value, where it counts, and where it must not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from harness import train_in_process
from torch import nn

from callbacks.average_weights import AverageWeights
from inference.load import load_module
from training.checkpoint_file import load_checkpoint_file


class Training:
    """A module of one weight, a running statistic and a frozen network, trained step by step."""

    def __init__(self, decay: float) -> None:
        self.module = SimpleNamespace(network=nn.BatchNorm1d(1), infection_network=nn.Linear(1, 1))
        self.trainer: Any = SimpleNamespace(global_step=0, world_size=1)
        self.callback = AverageWeights(decay)

    @property
    def weight(self) -> float:
        return float(self.module.network.weight.detach())

    def start(self, global_step: int = 0) -> None:
        """Begin as Lightning does, which restores the number of steps after `on_fit_start`."""
        self.callback.on_fit_start(self.trainer, self.module)
        self.trainer.global_step = global_step
        self.callback.on_train_start(self.trainer, self.module)

    def step(self, weight: float, is_step: bool = True) -> None:
        with torch.no_grad():
            self.module.network.weight.fill_(weight)
            self.module.network.running_mean.fill_(10 * weight)
        self.trainer.global_step += is_step
        self.callback.on_train_batch_end(self.trainer, self.module, None, None, 0)  # type: ignore[arg-type]


def test_the_mean_falls_off_by_the_decay() -> None:
    training = Training(0.5)
    training.start()
    for weight in (8.0, 4.0, 2.0):
        training.step(weight)
    training.step(100.0, is_step=False)  # gradients that are still being accumulated
    training.callback.on_validation_start(training.trainer, training.module)
    # The first one as it is; then half of each: (8 + 4) / 2 = 6, (6 + 2) / 2 = 4.
    assert training.weight == 4.0
    assert float(training.module.network.running_mean) == 40.0
    training.callback.on_validation_end(training.trainer, training.module)
    assert training.weight == 100.0, "training goes on with its own"


def test_a_checkpoint_has_the_mean_and_what_training_goes_on_with() -> None:
    training = Training(0.5)
    training.start()
    for weight in (8.0, 4.0):
        training.step(weight)
    states = {f"network.{key}": value for key, value in training.module.network.state_dict().items()}
    checkpoint: dict[str, Any] = {"state_dict": states | {"thresholds.best_hu": torch.tensor(-300.0)}}
    training.callback.on_save_checkpoint(training.trainer, training.module, checkpoint)
    assert checkpoint["state_dict"]["network.weight"] == 6.0
    assert checkpoint["state_dict"]["thresholds.best_hu"] == -300, "what is no network is as it is"
    again = Training(0.5)
    again.module.network.load_state_dict(
        {key.removeprefix("network."): value for key, value in checkpoint["state_dict"].items() if "network" in key}
    )
    again.callback.on_load_checkpoint(again.trainer, again.module, checkpoint)
    again.start(global_step=2)
    assert again.weight == 4.0
    again.step(100.0, is_step=False)  # gradients that are still being accumulated
    again.step(2.0)
    again.callback.on_validation_start(again.trainer, again.module)
    assert again.weight == 4.0  # (6 + 2) / 2


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, float("nan")])
def test_a_decay_that_is_none_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="expected a number between 0 and 1"):
        AverageWeights(decay)


def test_em_with_averaged_weights_picks_thresholds_and_labels_by_its_own(
    cohort: Path, work: Path, infection_run: Path, tmp_path: Path
) -> None:
    more = [f"--model.init_weights={infection_run / 'best.ckpt'}", f"--runs={tmp_path}"]
    more += ["--trainer.callbacks+=callbacks.average_weights.AverageWeights", "--trainer.callbacks.decay=0.9"]
    train_in_process("smoke", cohort, work, *more)
    run = (tmp_path / "smoke" / "latest").resolve()
    checkpoint = load_checkpoint_file(run / "best.ckpt")
    assert torch.isfinite(checkpoint["state_dict"]["thresholds.smoothed_hu"])
    own = checkpoint["averaged_weights"]["network"]
    module = load_module(run / "best.ckpt")
    mean = module.network.state_dict()
    assert any(not torch.equal(mean[name], value) for name, value in own.items())
    stage_1 = load_module(infection_run / "best.ckpt").network.state_dict()
    for name, value in module.get_submodule("infection_network").state_dict().items():
        assert torch.equal(value, stage_1[name])
