"""The model that comes with the project: it loads, says what it was trained on, and does what its page says."""

import json
import subprocess
import sys

import pytest
from places import ROOT

from inference.load import load_module
from inference.segmenter import Segmenter
from lightning_modules.infection import InfectionModule
from training.weights import read_checkpoint

FOLDER = ROOT / "models" / "default"
MODEL = FOLDER / "best.ckpt"
REAL = ROOT.parent / "shared" / "data" / "covidctmd_dev"


def test_it_is_small_and_holds_weights_and_plain_values_alone() -> None:
    assert MODEL.stat().st_size < 15e6
    checkpoint = read_checkpoint(MODEL)
    assert "optimizer_states" not in checkpoint
    assert isinstance(load_module(MODEL), InfectionModule)


def test_it_says_what_it_was_trained_on() -> None:
    segmenter = Segmenter([MODEL])
    assert segmenter.card.experiment == "default"
    (member,) = segmenter.card.members
    assert (member.training_scans, member.training_patients, member.training_sites) == (192, 192, 3)
    assert (member.validation_dice["infection"] or 0) > 0.4
    assert segmenter.training is not None, "scans unlike the phantoms can be told"


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/covidctmd_dev")
def test_its_figures_on_scans_of_patients_are_those_of_its_page() -> None:
    command = [sys.executable, "-m", "benchmarks.real_slices", "--ckpt", str(MODEL), "--data", str(REAL)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    measured = json.loads(done.stdout.splitlines()[-1])
    stated = json.loads((FOLDER / "figures.json").read_text())["real_slices"]
    for key in ("normal002_infected_share", "P002_infected_share", "auc_infected_share", "auc_lung_area"):
        assert measured[key] == pytest.approx(stated[key], rel=0.02, abs=2e-4), key
