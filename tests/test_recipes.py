"""The recipes of docs/extend.md, followed word for word in a copy of the project, and run there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import ROOT
from recipes import steps_of, texts_after
from tiny_chest import save

from ct.files.nifti import read_nifti
from training.checkpoint_file import load_checkpoint_file

PAGE = ROOT / "docs" / "extend.md"
STEPS = steps_of(PAGE)
TOUCHES = {
    heading.lower(): set(re.findall(r"`(\w+(?:/\w+)*)", touched))
    for heading, touched in re.findall(r"^\| \[([^\]]+)\]\([^)]*\) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
}
NOT_COPIED = (".*", "__pycache__", "runs", "cohorts", "prepared", "site", "wandb", "dist")


def copy_with(recipe: str, folder: Path) -> Path:
    """Copy the project and follow a recipe in it."""
    copy = folder / "project"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
    for path, text in texts_after([step for step in STEPS if step.heading == recipe], copy).items():
        (copy / path).write_text(text, encoding="utf-8")
    return copy


def run_in(copy: Path, *arguments: str) -> str:
    """Run Python in a copy of the project; return what it prints."""
    environment = os.environ | {"PYTHONPATH": f"{copy}:{copy / 'tests' / 'helpers'}"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("recipe", sorted({step.heading for step in STEPS}))
def test_a_recipe_touches_what_the_page_says_and_no_more(recipe: str) -> None:
    touched = {step.path for step in STEPS if step.heading == recipe}
    rooms = {room for room in TOUCHES[recipe.lower()] if "/" in room or room == "networks"} | {"experiments"}
    assert {path for path in touched if not any(path.startswith(room) for room in rooms)} == set()
    assert 1 <= len(touched) <= 2


def train_in(copy: Path, experiment: str, cohort: Path, folder: Path, *more: str) -> dict[str, Any]:
    """Train an epoch of an experiment in a copy of the project; return what its best checkpoint says of the model."""
    configs = ["--config=experiments/base.yaml", f"--config=experiments/{experiment}.yaml"]
    places = [f"--data.cohort={cohort}", f"--data.prepared={folder / 'prepared'}", f"--runs={folder / 'runs'}"]
    run_in(copy, "train.py", "fit", *configs, *places, "--data.size=32", "--trainer.max_epochs=1", *more)
    stored = load_checkpoint_file(folder / "runs" / experiment / "latest" / "best.ckpt")
    arguments: dict[str, Any] = stored["ground_glass"]["arguments"]
    return arguments


@pytest.mark.slow
def test_a_prior_trains_stage_2(cohort: Path, infection_run: Path, tmp_path: Path) -> None:
    copy = copy_with("A prior", tmp_path)
    more = [
        f"--model.init_weights={infection_run / 'best.ckpt'}",
        "--model.network.channels=8",
        "--model.prior.low=6.5",
    ]
    arguments = train_in(copy, "unet_em_phi3", cohort, tmp_path, *more)
    assert arguments["prior"] == {"class_path": "losses.em.Phi3", "init_args": {"low": 6.5, "high": 10.0}}


@pytest.mark.slow
def test_a_network_trains_stage_1(cohort: Path, tmp_path: Path) -> None:
    copy = copy_with("A network", tmp_path)
    arguments = train_in(copy, "plain_infection", cohort, tmp_path, "--model.network.channels=4")
    assert arguments["network"]["class_path"] == "networks.plain.PlainNetwork"
    assert arguments["network"]["init_args"]["channels"] == 4


@pytest.mark.slow
def test_a_data_set_of_two_folders_becomes_a_cohort(tmp_path: Path) -> None:
    copy = copy_with("A public data set", tmp_path)
    for folder, value in (("ct", -800), ("labels", 2)):
        save(np.full((12, 12, 6), value, np.int16), tmp_path / "set" / folder / "p01_1.nii.gz")
    out = tmp_path / "cohort"
    printed = run_in(copy, "-m", "cohort.importers.two_folders", "--folder", f"{tmp_path / 'set'}", "--out", f"{out}")
    assert printed.startswith("1 scans of 1 patients (two_folders 1)")
    assert set(np.unique(read_nifti(out / "masks" / "p01_1.nii.gz").values)) == {10}


@pytest.mark.slow
def test_an_output_is_written_with_the_others(tmp_path: Path) -> None:
    copy = copy_with("An output format", tmp_path)
    program = (
        "import sys, numpy, drawn_result; from pathlib import Path; from inference.outputs.write_outputs import *\n"
        "result = drawn_result.make_result(); write_outputs(result, Path(sys.argv[1]))\n"
        "arrays = numpy.load(Path(sys.argv[1], 'masks.npz'))\n"
        "assert set(arrays) == {'spacing_mm', *result.masks}\n"
        "assert all((arrays[name] == mask).all() for name, mask in result.masks.items())\n"
        "print(*sorted(path.name for path in Path(sys.argv[1]).iterdir()))\n"
    )
    assert {"masks.npz", "measurements.json", "report.html"} <= set(
        run_in(copy, "-c", program, f"{tmp_path / 'out'}").split()
    )


@pytest.mark.slow
def test_a_class_set_is_read_by_its_name(tmp_path: Path) -> None:
    copy = copy_with("A class set", tmp_path)
    program = (
        "from ct.classes import read_class_set; classes = read_class_set('fibrosis')\n"
        "print(*classes.codes, *(classes.leaves[index].key for index in classes.outside))\n"
        "from cohort.reports.weak_label import weak_label\n"
        "print(*(weak_label(f'{word} at the bases.', 'fibrosis').value for word in ('Fibrosis', 'No fibrosis')))"
    )
    assert run_in(copy, "-c", program).split() == ["0", "1", "2", "3", "4", "5", "effusion", "1", "0"]
