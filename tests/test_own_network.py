"""A network and a prior of the user's own: an experiment names them, every task trains them, predict asks first."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import EXPERIMENTS

from inference.load import load_module
from inference.predict import main as predict
from train import main
from training.checkpoint_file import load_checkpoint_file
from viewer.segment_page import segment

MODULE = "networks_of_a_user"
SOURCE = '''
from dataclasses import dataclass
import torch
from torch import Tensor, nn
from losses.em import Prior, where_positive
from networks.contract import Network

class Flat(Network):
    """Two convolutions at full size."""

    def __init__(self, in_channels: int, out_channels: int, width: int = 4, sizes: tuple[int, int] = (3, 1)) -> None:
        super().__init__()
        self.body = nn.Conv2d(in_channels, width, sizes[0], padding="same")
        self.head = nn.Conv2d(width, out_channels, sizes[1])

    @property
    def deepest(self) -> nn.Module:
        return self.body

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).relu())

@dataclass(frozen=True)
class Phi3(Prior):
    """A half where x is above a threshold."""

    above: float = 8.0

    def __call__(self, weak_label: Tensor, x: Tensor) -> Tensor:
        return where_positive(weak_label, 0.5 * (x > self.above))
'''
NETWORK = {"class_path": f"{MODULE}.Flat", "init_args": {"width": 3}}


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the user's own that Python finds, as one in the folder from which `make train` is called."""
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)


def train(name: str, cohort: Path, work: Path, folder: Path, **model: object) -> Path:
    """Train by an experiment file that differs from another in the model alone; the best.ckpt of the run."""
    content = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text())
    content["model"]["init_args"] |= model
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    configs = [f"--config={EXPERIMENTS / 'base.yaml'}", f"--config={folder / name}.yaml"]
    places = [f"--runs={folder}", f"--data.cohort={cohort}", f"--data.prepared={work / 'prepared'}"]
    os.environ.pop("GROUND_GLASS_RUN", None)  # a process makes one run; a test process makes several
    main(["fit", *configs, *places, "--trainer.max_epochs=1", "--trainer.limit_train_batches=2"])
    return (folder / name / "latest" / "best.ckpt").resolve()


@pytest.mark.slow
def test_both_stages_and_a_new_scan(
    cohort: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train("smoke_infection", cohort, work, tmp_path, network=NETWORK)
    chosen = {"network": NETWORK, "prior": {"class_path": f"{MODULE}.Phi3"}}
    best = train("smoke", cohort, work, tmp_path, init_weights=str(first), **chosen)
    arguments = load_checkpoint_file(best)["ground_glass"]["arguments"]
    assert arguments["network"] == {"class_path": f"{MODULE}.Flat", "init_args": {"width": 3, "sizes": (3, 1)}}
    assert arguments["prior"] == {"class_path": f"{MODULE}.Phi3", "init_args": {"above": 8.0}}
    module = load_module(best, [MODULE])
    assert type(module.network).__name__ == type(module.infection_network).__name__ == "Flat"
    network: Any = module.network
    assert network.body.weight.shape[:2] == (3, 7)

    scan = cohort.parent / "images" / "B007"
    asked = [f"--ckpt={best}", f"--scan={scan}", f"--out={tmp_path / 'out'}"]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        predict([*asked])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: {best} names the class {MODULE}.Phi3, which is not of this project")
    assert line.endswith(f"allow its module: --modules {MODULE}")
    predict([*asked, "--modules", MODULE])
    assert (tmp_path / "out" / "consolidation.nii.gz").is_file()
    result = segment(best, False, scan, tmp_path / "viewed", "a scan", lambda what, share: None, [MODULE])
    assert result.model.task == "consolidation"


@pytest.mark.slow
def test_the_multi_class_task(panel_cohort: Path, work: Path, tmp_path: Path) -> None:
    best = train("smoke_opacity", panel_cohort, work, tmp_path, network=NETWORK, labels="hard")
    network: Any = load_module(best, [MODULE]).network
    assert network.head.weight.shape[:2] == (5, 3)


def test_a_network_that_breaks_the_contract_is_refused_before_training(
    cohort: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = NETWORK | {"init_args": {"sizes": [3, 2]}}
    with pytest.raises(SystemExit) as stop:
        train("smoke_infection", cohort, work, tmp_path, network=network)
    assert stop.value.code == 2
    assert "the network Flat gives logits of shape (1, 1, 31, 31); expected (1, 1, 32, 32)" in capsys.readouterr().err
