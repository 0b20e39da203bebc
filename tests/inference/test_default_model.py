"""The model that comes with the project: it loads, says what it was trained on, and does what its page says."""

import csv
import hashlib
import io
import json
import subprocess
import sys
from collections import Counter

import pytest
import yaml
from places import ROOT

from evaluation.measured_figures import measured_tables
from inference.load import load_module
from inference.segmenter import Segmenter
from lightning_modules.infection import InfectionModule
from phantom.realistic.write_cohort import COLUMNS, KIND_OF, LUNGS_FOUND, SPLIT_OF
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
    assert (member.training_scans, member.training_patients, member.training_sites) == (190, 190, 3)
    assert (member.validation_dice["infection"] or 0) > 0.4
    assert segmenter.training is not None, "scans unlike the phantoms can be told"


def test_its_facts_are_those_of_its_file_its_experiment_and_its_cohort() -> None:
    facts, checkpoint = json.loads((FOLDER / "training.json").read_text()), read_checkpoint(MODEL)
    about, splits = checkpoint["ground_glass"], facts["data"]["splits"]
    assert splits["train"]["scans"] == about["trained_on"]["scans"]
    assert len(splits["train"]["sites"]) == about["trained_on"]["sites"]
    assert splits["val"]["scans"] - splits["val"]["sites"]["clear"] == about["validation"]["infection/dice_mean_n"]
    training = facts["training"]
    assert training["kept"] == {"epochs": checkpoint["epoch"] + 1, "steps": checkpoint["global_step"]}
    base, own = (yaml.safe_load((ROOT / "experiments" / f"{name}.yaml").read_text()) for name in ("base", "default"))
    assert training["settings"].items() <= own["model"]["init_args"].items()
    assert training["module"] == own["model"]["class_path"]
    assert (training["seed"], training["devices"]) == (base["seed_everything"], base["trainer"]["devices"])
    assert training["max_epochs"] == own["trainer"]["max_epochs"]
    assert training["optimizer"]["class_path"] == base["optimizer"]["class_path"]
    assert training["optimizer"]["init_args"]["lr"] == float(own["optimizer"]["init_args"]["lr"])
    assert training["lr_scheduler"]["class_path"] == own["lr_scheduler"]["class_path"]


def test_its_cohort_is_the_one_whose_hash_it_states() -> None:
    data, table = json.loads((FOLDER / "training.json").read_text())["data"], io.StringIO()
    writer, counts = csv.DictWriter(table, COLUMNS, lineterminator="\n"), Counter[tuple[str, str]]()
    writer.writeheader()
    for number in range(240):
        name, kind, split = f"R{number:04d}", KIND_OF[number % 10], SPLIT_OF[(number // 10 + number) % 10]
        masks = {mask: f"masks/{name}_{mask}.nii.gz" for mask in ("lung_mask", "infection_mask", "pattern_mask")}
        row = {"scan_id": name, "patient_id": name, "site": kind, "image": f"images/{name}.nii.gz", "split": split}
        if number % 10 in LUNGS_FOUND:
            masks["lung_mask"] = ""
        writer.writerow(row | masks)
        counts[split, kind] += 1
    assert hashlib.sha256(table.getvalue().encode()).hexdigest() == data["cohort_sha256"]
    stated = {(split, kind): n for split, of in data["splits"].items() for kind, n in of["sites"].items()}
    refused = {key: counts[key] - n for key, n in stated.items()}
    assert refused.keys() == counts.keys()
    assert min(refused.values()) == 0
    assert sum(refused.values()) == data["refused"]


def test_its_page_has_its_figures_and_limits_and_leads_nowhere_that_a_wheel_lacks() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    figures, facts = (json.loads((FOLDER / name).read_text()) for name in ("figures.json", "training.json"))
    assert page.endswith(f"## Figures\n\n{measured_tables(figures)}\n")
    limits = page.partition("## Limits\n\n")[2].partition("\n\n## ")[0]
    assert limits.splitlines() == [f"- {line}" for line in facts["limits"]]
    assert "](" not in page


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/covidctmd_dev")
def test_its_figures_on_scans_of_patients_are_those_of_its_page() -> None:
    command = [sys.executable, "-m", "benchmarks.real_slices", "--ckpt", str(MODEL), "--data", str(REAL)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    measured = json.loads(done.stdout.splitlines()[-1])
    stated = json.loads((FOLDER / "figures.json").read_text())["real_slices"]
    for key in ("normal002_infected_share", "P002_infected_share", "auc_infected_share", "auc_lung_area"):
        assert measured[key] == pytest.approx(stated[key], rel=0.02, abs=2e-4), key
