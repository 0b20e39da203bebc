"""Both stages through the command line on the tiny phantom: files, figures, errors."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from harness import EXPERIMENTS, errors_of, experiment_args, refused
from places import ROOT
from pytorch_lightning.accelerators import CUDAAccelerator
from sklearn.metrics import f1_score, recall_score

from datamodules.infection_data import InfectionData
from evaluation.run_data import read_run
from inference.load import load_module
from lightning_modules.consolidation import ConsolidationModule
from phantom.write_phantom import write_cohort
from train import main

# Changed last when the classical lungs did: some tiny phantoms come without a lung mask.
INFECTION_LOSSES = [0.922925, 0.929374, 0.956524]


def test_run_folder_holds_what_the_design_promises(em_run: Path) -> None:
    tables = ("config.yaml", "metrics.csv", "metrics.json", "scans.csv", "verdicts.csv")
    for name in (*tables, "best.ckpt", "last.ckpt", "figures/overlays.png"):
        assert (em_run / name).stat().st_size > 0, name
    assert list((em_run / "wandb").glob("offline-run-*"))
    assert (em_run.parent / "latest").resolve() == em_run
    config = yaml.safe_load((em_run / "config.yaml").read_text())
    assert config["experiment"] == "smoke"
    assert config["model"]["init_args"]["prior"]["class_path"] == "losses.em.Phi2"


def test_figures_agree_with_an_independent_calculation(cohort: Path, work: Path, em_run: Path) -> None:
    metrics = json.loads((em_run / "metrics.json").read_text())
    scans = pd.read_csv(em_run / "scans.csv", index_col="scan_id")
    module = load_module(em_run / "best.ckpt")
    assert isinstance(module, ConsolidationModule)
    data = InfectionData(str(cohort), str(work / "prepared"), size=32)
    table = data.slice_table("test")
    truth: dict[str, list[np.ndarray]] = {}
    predicted: dict[str, list[np.ndarray]] = {}
    for row, scan in enumerate(table.per_slice("scan_id")):
        batch = next(data.batches("test", np.array([row]), 1))
        lung = batch["lung"][0, 0].numpy()
        x = (batch["image"].float() + 1024) / 110 * batch["lung"]
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled="bf16" in module_precision(em_run)):
            infected = module.infection_network(x).float() > 0
            found = (module.network(x).float() > 0) & infected
        truth.setdefault(scan, []).append(batch["target"][0].numpy()[:, lung])
        predicted.setdefault(scan, []).append(torch.cat([infected, found], 1)[0].numpy()[:, lung])
    dice = []
    for scan in truth:
        t, p = np.concatenate(truth[scan], 1), np.concatenate(predicted[scan], 1)
        expected = f1_score(t[0], p[0])
        assert scans.loc[scan, "infection_dice"] == pytest.approx(expected, abs=0.01)
        assert scans.loc[scan, "severity_truth"] == pytest.approx(t[0].mean())
        dice += [f1_score(t[1], p[1])] if t[1].any() else []
    assert metrics["consolidation/dice_mean_n"] == len(dice) == 1
    assert metrics["consolidation/dice_mean"] == pytest.approx(np.mean(dice), abs=0.01)
    pooled = [np.concatenate([np.concatenate(s, 1)[1] for s in d.values()]) for d in (truth, predicted)]
    assert metrics["consolidation/tpr"] == pytest.approx(recall_score(*pooled), abs=0.01)
    assert metrics["scans"] == 2
    assert metrics["slices"] == len(table)


def module_precision(run: Path) -> str:
    return str(yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"])


def test_course_of_training_is_logged(em_run: Path) -> None:
    with (em_run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    figures = [f"{split}/{figure}" for split in ("train", "val") for figure in ("dice", "iou", "relative_volume")]
    for key in (*figures, "train/loss_epoch", "e_step/labelled", "e_step/changed", "e_step/seconds"):
        epochs = {row["epoch"] for row in rows if row[key]}
        assert epochs == {"0", "1"}, key


def test_evaluating_again_gives_the_same_figures(cohort: Path, work: Path, em_run: Path) -> None:
    before = (em_run / "metrics.json").read_text(), (em_run / "scans.csv").read_text()
    main(["test", f"--config={em_run / 'config.yaml'}", f"--ckpt_path={em_run / 'best.ckpt'}"])
    assert ((em_run / "metrics.json").read_text(), (em_run / "scans.csv").read_text()) == before


def save_masks(run: Path) -> None:
    saver = "--trainer.callbacks+=callbacks.save_masks.SaveMasks"
    main(["test", f"--config={run / 'config.yaml'}", f"--ckpt_path={run / 'best.ckpt'}", saver])


def test_saved_masks_give_the_figures_of_scans_csv(cohort: Path, work: Path, em_run: Path) -> None:
    save_masks(em_run)
    run = read_run(em_run)
    assert {path.stem for path in (em_run / "masks").glob("*.npz")} == set(run.scans["scan_id"])
    assert run.has_masks
    for row in run.scans.to_dict("records"):
        for name in ("infection", "consolidation", "threshold"):
            truth, found = run.pair(row["scan_id"], name)
            assert (truth == 1).any() or name != "infection"
            for count, true, called in (("tp", 1, True), ("fp", 0, True), ("fn", 1, False), ("tn", 0, False)):
                assert ((truth == true) & (found == called)).sum() == row[f"{name}_{count}"]


def test_saved_probabilities_and_descriptions_are_those_of_the_scans(cohort: Path, work: Path, em_run: Path) -> None:
    if not (em_run / "masks" / "scans.csv").is_file():
        save_masks(em_run)
    data = InfectionData(str(cohort), str(work / "prepared"), size=32)
    index = pd.read_csv(data.prepared / "index.csv", dtype=str).set_index("scan_id")
    written = pd.read_csv(em_run / "masks" / "scans.csv", dtype=str)
    assert written["scan_id"].tolist() == index[index["split"] == "test"].index.tolist()
    for row in written.to_dict("records"):
        folder = data.prepared / row["folder"]
        of_index, record = index.loc[row["scan_id"]], json.loads((folder / "scan.json").read_text())
        for column in ("site", "weak_label", "readers", "split", "spacing_z_mm", "spacing_y_mm", "spacing_x_mm"):
            assert row[column] == of_index[column]
        assert row["patient"] == of_index["patient_id"]
        assert float(row["source_spacing_z_mm"]) == pytest.approx(record["spacing_mm"][0])
        masks, hu = np.load(em_run / "masks" / f"{row['scan_id']}.npz"), np.load(folder / "hu.npy")
        assert masks["z"].tolist() == list(range(len(hu)))
        lung = masks["lung"] > 0
        for name in ("infection", "consolidation"):
            level = masks[f"probability_{name}"]
            assert level.dtype == np.uint8
            assert not level[~lung].any()
            assert level[masks[name] > 0].min() >= 128 >= level[lung & (masks[name] == 0)].max()  # 127.5 is 128
            assert len(np.unique(level)) > 5


def first_losses(cohort: Path, work: Path, runs: Path, stage: str, *more: str) -> list[float]:
    os.environ.pop("GROUND_GLASS_RUN", None)
    steps = ["--trainer.max_steps=3", "--trainer.log_every_n_steps=1", "--trainer.precision=32-true", f"--runs={runs}"]
    main(["fit", *experiment_args(stage, cohort, work, *steps, *more)])
    course = pd.read_csv(runs / stage / "latest" / "metrics.csv")
    return course["train/loss"].dropna().tolist()


def test_first_losses_stay_the_same(cohort: Path, work: Path, tmp_path: Path) -> None:
    # A refactoring of training code must not move these; a change that is meant to says so where it changes them.
    assert first_losses(cohort, work, tmp_path, "smoke_infection") == pytest.approx(INFECTION_LOSSES, rel=1e-3)


@pytest.mark.slow
def test_same_seed_same_weights(cohort: Path, work: Path, infection_run: Path, tmp_path: Path) -> None:
    os.environ.pop("GROUND_GLASS_RUN", None)
    main(["fit", *experiment_args("smoke_infection", cohort, work, f"--runs={tmp_path}")])
    states = [
        torch.load(run / "last.ckpt", weights_only=True)["state_dict"]
        for run in (infection_run, tmp_path / "smoke_infection" / "latest")
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["smoke_infection", "smoke"])
def test_two_processes_evaluate_every_slice_once(
    cohort: Path, work: Path, infection_run: Path, tmp_path: Path, stage: str
) -> None:
    more = [f"--runs={tmp_path}", "--trainer.max_epochs=1"]
    more += ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
    if stage == "smoke":
        more.append(f"--model.init_weights={infection_run / 'best.ckpt'}")
    command = [sys.executable, str(ROOT / "train.py"), "fit", *experiment_args(stage, cohort, work, *more)]
    environment = {k: v for k, v in os.environ.items() if k != "GROUND_GLASS_RUN"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    runs = [path for path in (tmp_path / stage).iterdir() if not path.is_symlink()]
    assert len(runs) == 1, "every process must use one run folder"
    metrics = json.loads((tmp_path / stage / "latest" / "metrics.json").read_text())
    assert metrics["scans"] == 2
    assert metrics["slices"] == len(InfectionData(str(cohort), str(work / "prepared"), size=32).slice_table("test"))
    scans = pd.read_csv(tmp_path / stage / "latest" / "scans.csv")
    counted = scans[[f"infection_{cell}" for cell in ("tp", "fp", "fn", "tn")]].sum(axis=1)
    single = pd.read_csv(infection_run / "scans.csv")
    assert counted.tolist() == single[[f"infection_{cell}" for cell in ("tp", "fp", "fn", "tn")]].sum(axis=1).tolist()


EXPERIMENT_FILES = sorted(path for path in EXPERIMENTS.glob("*.yaml") if path.stem != "base")


@pytest.mark.parametrize("path", EXPERIMENT_FILES, ids=lambda path: path.stem)
def test_experiment_files_parse_against_the_real_signatures(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", f"--config={EXPERIMENTS / 'base.yaml'}", f"--config={path}", "--print_config"])
    assert stop.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["experiment"] == path.stem
    head = path.read_text().split("\nexperiment:")[0]
    assert re.search(rf"make (train|cross-validate) EXP={path.stem}\b", head)
    assert "# Needs:" in head


# -- what a user does wrong: one line, exit code 2 ---------------------------------------------------------------------


def test_missing_stage_1(cohort: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["fit", *experiment_args("smoke", cohort, work, f"--runs={tmp_path}")]
    line = refused(capsys, [*args, "--model.init_weights=runs/nowhere/latest/best.ckpt"])
    assert line == "error: there is no checkpoint runs/nowhere/latest/best.ckpt; train it first: make train EXP=nowhere"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_checkpoint_of_the_wrong_kind(
    cohort: Path, work: Path, em_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["fit", *experiment_args("smoke", cohort, work, f"--runs={tmp_path}")]
    line = refused(capsys, [*args, f"--model.init_weights={em_run / 'best.ckpt'}"])
    assert "holds a model for 'consolidation', this experiment starts from one for 'infection'" in line
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    assert "is not a checkpoint of this project" in refused(
        capsys, [*args, f"--model.init_weights={tmp_path / 'other.ckpt'}"]
    )
    (tmp_path / "broken.ckpt").write_bytes(b"PK\x03\x04 cut off")
    assert "cannot be read as a checkpoint" in refused(
        capsys, [*args, f"--model.init_weights={tmp_path / 'broken.ckpt'}"]
    )


def test_network_of_another_size(
    cohort: Path, work: Path, infection_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["fit", *experiment_args("smoke", cohort, work, f"--model.init_weights={infection_run / 'best.ckpt'}")]
    assert "has another shape than this experiment's" in refused(capsys, [*args, "--model.network.channels=4"])


WRONG_PRIORS = {
    "--model.prior.k2=-1": "b2 and k2 of the prior phi2 are 9.0 and -1.0; expected a finite number, and one from 0 on",
    "--model.prior.b1=1": "there is no option --model.prior.b1; what can be set stands in the experiment's file and in "
    "experiments/base.yaml",
    "--model.b2=8": "there is no option --model.b2; did you mean --model.prior.b2?",
    "--model.prior=phi1": "--model.prior names no class that fits (Expected a dot import path string: phi1); "
    "expected a class_path such as losses.em.Phi2",
    "--model.prior=torch.nn.Linear": "--model.prior names no class that fits (Import path torch.nn.Linear does not "
    "correspond to a subclass of Prior); expected a class_path such as losses.em.Phi2",
}


@pytest.mark.parametrize(("option", "expected"), WRONG_PRIORS.items())
def test_a_wrong_prior_is_one_line(
    cohort: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, expected: str
) -> None:
    args = experiment_args("smoke", cohort, work, f"--runs={tmp_path}", "--model.init_weights=", option)
    assert refused(capsys, ["fit", *args]) == f"error: {expected}"


@pytest.mark.slow
def test_missing_file_in_cohort(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cohort = write_cohort(tmp_path / "cohort", 0, True, None, 1)
    (cohort.parent / "images" / "A002.nii.gz").unlink()
    args = ["fit", *experiment_args("smoke_infection", cohort, work, f"--runs={tmp_path / 'runs'}")]
    message = errors_of(capsys, args)
    assert "error: " in message
    assert "A002.nii.gz" in message
    assert not (tmp_path / "runs" / "smoke_infection" / "latest").exists()


def test_testing_nothing_is_refused(em_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, ["test", f"--config={em_run / 'config.yaml'}"])
    assert line == "error: test needs weights; give --ckpt_path the best.ckpt of a run folder"


# What an option lacks, what it may be, and what settings together cannot be: one line each.
WRONG_OPTIONS = {
    "--model.chanels=4": "there is no option --model.chanels; did you mean --model.network.channels?",
    "--model.network.chanels=4": "there is no option --model.network.chanels; did you mean --model.network.channels?",
    "--model.augmentation.flap=1": "there is no option --model.augmentation.flap; did you mean "
    "--model.augmentation.flip?",
    "--data.batchsize=4": "there is no option --data.batchsize; did you mean --data.batch_size?",
    "--optimizer.lrr=1": "there is no option --optimizer.lrr; did you mean --optimizer.lr?",
    "--max_epochs=3": "there is no option --max_epochs; did you mean --trainer.max_epochs?",
    "--xyz=3": "there is no option --xyz; what can be set stands in the experiment's file and in experiments/base.yaml",
    "--model.network.channels=four": "--model.network.channels is 'four'; expected int",
    "--model.network=unet": "--model.network names no class that fits (Expected a dot import path string: unet); "
    "expected a class_path such as networks.unet.UNet",
    "--model.network=torch.nn.Linear": "--model.network names no class that fits (Expected 'torch.nn.Linear' to be a "
    "subclass of <class 'Network'>); expected a class_path such as networks.unet.UNet",
    "--trainer.max_epochs=three": "--trainer.max_epochs is 'three'; expected int or null",
    "--optimizer.lr=fast": "--optimizer.lr is 'fast'; expected float or Tensor",
    "--model.dice_over=imag": "--model.dice_over is 'imag'; expected image or batch; did you mean image?",
    "--optimizer=Adamm": "--optimizer is 'Adamm'; expected Optimizer or null; did you mean Adam?",
    "--config=nowhere.yaml": "--config: File does not exist: '{here}/nowhere.yaml'",
    "--model.network.channels=0": "the UNet gets channels 0 and context 7; expected whole numbers from 1 on",
    "--data.context=4": "data.context is 4; expected an odd number: a slice and as many on either side",
    "--data.context=5": "model.context is 7 and data.context is 5; set the same number in both",
    "--data.size=0": "data.size is 0; expected a whole number from 1 on",
    "--data.batch_size=0": "data.batch_size is 0; expected a whole number from 1 on",
    "--data.num_workers=-1": "data.num_workers is -1; expected a whole number from 0 on",
    "--model.augmentation.shift=-0.1": "model.augmentation.shift is -0.1; expected a number from 0 on, below inf",
    "--model.augmentation.zoom=.nan": "model.augmentation.zoom is nan; expected a number from 0 on, below 1",
    "--optimizer.lr=-1": "the settings of optimizer and lr_scheduler are refused: Invalid learning rate: -1.0",
    "--optimizer.lr=.nan": "the settings of optimizer and lr_scheduler are refused: Invalid learning rate: nan",
}
# What Lightning refuses, in its own words.
OF_THE_TRAINER = {
    "--trainer.accelerator=tpu": "torch_xla",
    "--trainer.accelerator=nonsense": "nonsense",
    "--trainer.accelerator=gpu": "No supported gpu backend found",
    "--trainer.accelerator=cpu --trainer.devices=-1": "devices",
    "--trainer.accelerator=cpu --trainer.devices=0": "devices",
    "--trainer.num_nodes=0": "num_nodes",
    "--trainer.max_epochs=-2": "max_epochs",
    "--trainer.strategy=nonsense": "nonsense",
    "--trainer.profiler=foo": "profiler",
}


@pytest.mark.parametrize("option", WRONG_OPTIONS)
def test_a_wrong_option_is_one_line(
    option: str, cohort: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = experiment_args("smoke_infection", cohort, work, f"--runs={tmp_path}", option)
    output = errors_of(capsys, ["fit", *args])
    assert output.splitlines()[-1] == f"error: {WRONG_OPTIONS[option].format(here=Path.cwd())}"
    assert not re.search("usage|Traceback|Parser key", output)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("option", OF_THE_TRAINER)
def test_what_the_trainer_refuses_is_one_line(
    option: str,
    cohort: Path,
    work: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: False)
    args = experiment_args("smoke_infection", cohort, work, f"--runs={tmp_path}", *option.split())
    line = refused(capsys, ["fit", *args])
    assert line.startswith("error: the settings of trainer are refused: ")
    assert OF_THE_TRAINER[option] in line
    assert not list((tmp_path / "smoke_infection").iterdir()), "no run was begun"


@pytest.mark.parametrize("exp", ["", "EXP=unet_emm"])
def test_make_names_the_experiments(exp: str) -> None:
    done = subprocess.run(["make", "train", *exp.split()], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode != 0
    assert "error: name an experiment" in done.stderr if not exp else "there is no experiment 'unet_emm'" in done.stderr
    assert "unet_em " in done.stdout + done.stderr
