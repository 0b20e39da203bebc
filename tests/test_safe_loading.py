"""A checkpoint that would run code, or import a module that does, does neither, whichever way it comes in."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from bomb import write_bomb
from harness import experiment_args, refused

from inference.calibrate import main as calibrate
from inference.load import load_module
from inference.predict import main as predict
from lightning_modules.consolidation import ConsolidationModule
from losses.em import Phi2
from networks.unet import UNet
from train import main
from training.checkpoint_file import load_checkpoint_file, write_checkpoint
from training.weights import load_network_weights
from viewer.segment_page import segment


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    """A checkpoint of a run with a bomb in it, and a checksum that fits; it goes off as tmp_path/trace."""
    (tmp_path / "run").mkdir()
    return write_bomb(tmp_path / "run" / "best.ckpt", tmp_path / "trace")


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


@pytest.mark.slow
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
    line = refused(capsys, ["test", *experiment_args("smoke_infection", cohort, work, f"--ckpt_path={cut}")])
    assert line.startswith(f"error: {cut} cannot be read as a checkpoint (damaged")


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that appears where the module `trap_module`, which can be imported, is."""
    (tmp_path / "trap_module.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'trace')!r}).touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "trace"


def changed(run: Path, to: Path, name: str, described: Any) -> Path:
    """A copy of a run's checkpoint that names another network or prior, with a checksum that fits."""
    checkpoint = load_checkpoint_file(run / "best.ckpt")
    checkpoint["ground_glass"]["arguments"][name] = described
    write_checkpoint(checkpoint, to / "best.ckpt")
    return to / "best.ckpt"


TRAP = {"class_path": "trap_module.Trap", "init_args": {}}
TRAPS: list[tuple[str, Any, str]] = [
    ("network", TRAP, "trap_module.Trap, which is not of this project"),
    ("network", "trap_module.Trap", "trap_module.Trap, which is not of this project"),
    ("prior", TRAP, "trap_module.Trap, which is not of this project"),
    ("prior", {"class_path": "os.system", "init_args": {"command": "touch trace"}}, "os.system, which is not of"),
    ("prior", {"class_path": "builtins.exec", "init_args": {}}, "builtins.exec, which is not of this project"),
    ("network", {"class_path": "networks.unet.UNet", "init_args": {"channels": TRAP}}, "is no plain value"),
    ("prior", {"class_path": "losses.em.Phi2", "init_args": {"b2": TRAP}}, "is no plain value"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "described", "message"), TRAPS)
def test_a_checkpoint_imports_nothing_of_its_own_choice(
    cohort: Path,
    em_run: Path,
    tmp_path: Path,
    trap: Path,
    name: str,
    described: Any,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = changed(em_run, tmp_path, name, described)
    scan, out = cohort.parent / "images" / "B007", tmp_path / "out"
    for command, more in ((predict, [f"--scan={scan}", f"--out={out}"]), (calibrate, [f"--cohort={cohort}"])):
        with pytest.raises(SystemExit) as stop:
            command([f"--ckpt={checkpoint}", *more])
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith(f"error: {checkpoint}")
        assert message in line
    with pytest.raises(ValueError, match=message):
        segment(checkpoint, False, scan, out, "a scan", lambda what, share: None)
    assert not trap.exists()
    assert not out.exists()


def test_stage_1_gives_its_weights_and_nothing_is_imported(infection_run: Path, tmp_path: Path, trap: Path) -> None:
    checkpoint, network = changed(infection_run, tmp_path, "network", TRAP), UNet(channels=8)
    load_network_weights(checkpoint, "infection", network)
    weights = load_checkpoint_file(checkpoint)["state_dict"]
    assert torch.equal(network.head.weight, weights["network.head.weight"])
    assert not trap.exists()


def test_a_checkpoint_of_before_class_paths_is_read(em_run: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint_file(em_run / "best.ckpt")
    arguments = checkpoint["ground_glass"]["arguments"]
    del arguments["network"]
    arguments |= {"channels": 8, "prior": "phi2", "b1": 1.0, "b2": 8.5, "k2": 0.25}
    write_checkpoint(checkpoint, tmp_path / "best.ckpt")
    older, module = load_module(tmp_path / "best.ckpt"), load_module(em_run / "best.ckpt")
    assert isinstance(older, ConsolidationModule)
    assert older.prior == Phi2(8.5, 0.25)
    assert all(map(torch.equal, older.state_dict().values(), module.state_dict().values()))
