"""A checkpoint that would run code does not, whichever way it comes in."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import experiment_args

from inference.predict import main as predict
from train import main
from training.checkpoint_file import sealed


class Bomb:
    """Makes a file wherever it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    """A checkpoint of a run with a bomb in it, and a checksum that fits; it goes off as tmp_path/trace."""
    path = tmp_path / "run" / "best.ckpt"
    path.parent.mkdir()
    torch.save({"state_dict": {}, "hyper_parameters": Bomb(tmp_path / "trace")}, path)
    path.write_bytes(sealed(path.read_bytes()))
    return path


def come_in(way: str, checkpoint: Path, cohort: Path, work: Path, tmp_path: Path) -> None:
    """Use a checkpoint through the command line."""
    os.environ.pop("GROUND_GLASS_RUN", None)
    runs = f"--runs={tmp_path / 'runs'}"
    if way == "predict":
        predict([f"--ckpt={checkpoint}", f"--scan={cohort.parent / 'images' / 'B007'}", f"--out={tmp_path / 'out'}"])
    elif way == "init_weights":
        main(["fit", *experiment_args("smoke", cohort, work, f"--model.init_weights={checkpoint}", runs)])
    else:
        main([way, *experiment_args("smoke_infection", cohort, work, f"--ckpt_path={checkpoint}", runs)])


@pytest.mark.parametrize("way", ["fit", "validate", "test", "init_weights", "predict"])
def test_a_bomb_is_refused(
    cohort: Path, work: Path, tmp_path: Path, bomb: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        come_in(way, bomb, cohort, work, tmp_path)
    assert stop.value.code in (1, 2)
    assert not (tmp_path / "trace").exists()
    errors = capsys.readouterr().err.strip().splitlines()
    assert f"{bomb} cannot be read as a checkpoint (Weights only load failed" in errors[-1]
    torch.load(bomb, weights_only=False)
    assert (tmp_path / "trace").exists(), "the bomb would have gone off"


def test_a_truncated_checkpoint_is_refused(
    cohort: Path, work: Path, infection_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes((infection_run / "best.ckpt").read_bytes()[:-1])
    with pytest.raises(SystemExit) as stop:
        main(["test", *experiment_args("smoke_infection", cohort, work, f"--ckpt_path={cut}")])
    assert stop.value.code == 2
    assert f"error: {cut} cannot be read as a checkpoint (damaged" in capsys.readouterr().err
