"""What best.ckpt says of its training set, and what training does not notice of it."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from callbacks import describe_training
from callbacks.describe_training import count_training
from cohort.prepare.prepare_cohort import prepared_folder
from datamodules.infection_data import InfectionData
from inference.load import load_module, training_set_of
from lightning_modules.infection import InfectionModule
from networks.unet import UNet
from training.checkpoint_file import check_whole, load_checkpoint_file
from training.training_set import lung_histogram
from training.weights import read_checkpoint


@pytest.fixture
def prepared_scans(work: Path, cohort: Path) -> pd.DataFrame:
    folder = prepared_folder(cohort, 32, work / "prepared")
    return pd.read_csv(folder / "index.csv").assign(path=lambda table: [folder / name for name in table["folder"]])


def test_the_best_checkpoint_says_what_it_was_trained_on(infection_run: Path, prepared_scans: pd.DataFrame) -> None:
    described = training_set_of(read_checkpoint(infection_run / "best.ckpt"))
    assert described is not None
    check_whole(infection_run / "best.ckpt")
    training = prepared_scans[prepared_scans["split"] == "train"]
    module = load_module(infection_run / "best.ckpt")
    shares, features = [], []
    for path in training["path"]:
        hu, lung = (np.load(path / f"{name}.npy") for name in ("hu", "lung"))
        counts = lung_histogram(hu, lung > 0)
        shares.append(counts / counts.sum())
        around = np.clip(np.arange(len(hu))[:, None] + np.arange(-3, 4), 0, len(hu) - 1)[lung.any((1, 2))]
        inside = torch.from_numpy(lung[lung.any((1, 2))] > 0)[:, None]
        features.append(module.features(module.network_input(torch.from_numpy(hu[around]), inside)).numpy())
    assert (described.scans, described.slices) == (len(training), sum(map(len, features)))
    np.testing.assert_allclose(described.lung_histogram, np.mean(shares, 0), atol=1e-12)
    np.testing.assert_allclose(described.feature_mean, np.concatenate(features).mean(0), rtol=0.02, atol=0.02)


def test_nothing_of_it_names_a_scan_or_a_patient(em_run: Path, prepared_scans: pd.DataFrame) -> None:
    described = load_checkpoint_file(em_run / "best.ckpt")["ground_glass"]["training"]
    assert {type(value) for value in described.values()} == {int, torch.Tensor}
    assert not any(
        len(prepared_scans) == size for value in described.values() if torch.is_tensor(value) for size in value.shape
    )


@pytest.mark.parametrize("run", ["infection_run", "em_run"])
def test_weights_stay_those_that_were_best(run: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(run)
    best, last = (load_checkpoint_file(folder / f"{name}.ckpt") for name in ("best", "last"))
    assert best["ground_glass"].keys() - last["ground_glass"].keys() == {"training", "trained_on"}
    assert best["state_dict"].keys() == last["state_dict"].keys()
    assert "optimizer_states" in best, "still one that a training can go on from"


def test_checkpoints_say_how_good_their_weights_were(
    em_run: Path, infection_run: Path, prepared_scans: pd.DataFrame
) -> None:
    for run, findings in ((em_run, {"consolidation", "infection"}), (infection_run, {"infection"})):
        course = pd.read_csv(run / "metrics.csv")["val/dice"].dropna().to_numpy()
        scans = sum(row.split == "val" for row in prepared_scans.itertuples())
        for name in ("best", "last"):
            about = load_checkpoint_file(run / f"{name}.ckpt")["ground_glass"]
            figures = about["validation"]
            assert figures.keys() == {f"{f}/dice_mean{n}" for f in findings for n in ("", "_n")}
            own = figures[f"{about['task']}/dice_mean"]
            at = course.argmax() if (about["task"], name) == ("infection", "best") else -1
            assert own == pytest.approx(course[at], rel=1e-6)
            assert 1 <= figures[f"{about['task']}/dice_mean_n"] <= scans


def test_the_best_checkpoint_counts_scans_patients_and_sites(em_run: Path, prepared_scans: pd.DataFrame) -> None:
    training = prepared_scans[(prepared_scans["split"] == "train") & (prepared_scans["weak_label"] >= 0)]
    assert load_checkpoint_file(em_run / "best.ckpt")["ground_glass"]["trained_on"] == {
        "scans": len(training),
        "patients": training["patient_id"].nunique(),
        "sites": training["site"].nunique(),
        "whole_images": 0,
    }


def test_every_scan_is_counted_however_few_slices_are_looked_at(
    em_run: Path, cohort: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = InfectionData(str(cohort), str(work / "prepared"), size=32, weakly_labelled=True)
    counts = count_training(data)
    monkeypatch.setattr(describe_training, "MOST_SLICES", 1)
    described = describe_training.describe(
        SimpleNamespace(datamodule=data, progress_bar_callback=None), load_module(em_run / "best.ckpt")
    )
    assert described is not None
    assert described.scans == 1 < counts["scans"]
    assert count_training(data) == counts


def test_an_epoch_forgets_the_validation_of_the_weights_before_it() -> None:
    module = InfectionModule(partial(UNet, channels=4))
    module.validation = {"infection/dice_mean": 0.5}
    module.on_train_epoch_start()
    assert module.validation == {}
