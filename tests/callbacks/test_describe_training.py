"""What best.ckpt says of its training set, and what training does not notice of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ct.training_set import lung_histogram
from inference.load import load_module, load_training_set
from lightning_modules.checkpoint_file import check_whole, load_checkpoint_file


def prepared_scans(work: Path) -> pd.DataFrame:
    folder = next((work / "prepared").glob("tiny-32-*"))
    return pd.read_csv(folder / "index.csv").assign(path=lambda table: [folder / name for name in table["folder"]])


def test_the_best_checkpoint_says_what_it_was_trained_on(infection_run: Path, work: Path) -> None:
    described = load_training_set(infection_run / "best.ckpt")
    assert described is not None
    check_whole(infection_run / "best.ckpt")
    scans = prepared_scans(work)
    training = scans[scans["split"] == "train"]
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


def test_nothing_of_it_names_a_scan_or_a_patient(em_run: Path, work: Path) -> None:
    described = load_checkpoint_file(em_run / "best.ckpt")["ground_glass"]["training"]
    assert {type(value) for value in described.values()} == {int, torch.Tensor}
    scans = prepared_scans(work)
    assert not any(len(scans) == size for value in described.values() if torch.is_tensor(value) for size in value.shape)


@pytest.mark.parametrize("run", ["infection_run", "em_run"])
def test_weights_stay_those_that_were_best(run: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(run)
    best, last = (load_checkpoint_file(folder / f"{name}.ckpt") for name in ("best", "last"))
    assert best["ground_glass"].keys() - last["ground_glass"].keys() == {"training"}
    assert best["state_dict"].keys() == last["state_dict"].keys()
    assert "optimizer_states" in best, "still one that a training can go on from"
