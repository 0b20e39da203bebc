"""Paper L3 through the command line on the tiny phantom with a panel of readers."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from harness import EXPERIMENTS, experiment_args, refused, train_in_process
from predict_harness import predict
from sklearn.metrics import confusion_matrix, jaccard_score

from ct.files.read import read_mask, read_scan
from datamodules.opacity_data import OpacityData
from evaluation.readers.noise_model import estimate
from evaluation.readers.noise_model import main as make_noise_model
from evaluation.run_data import read_run
from inference.load import load_module
from lightning_modules.opacity import OpacityModule
from train import main

OPACITY_LOSSES = [0.464223, 0.380342, 0.364784]


@pytest.fixture(scope="module")
def noise_model(panel_cohort: Path, work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = OpacityData(str(panel_cohort), str(work / "prepared"), size=32, prepare_jobs=1)
    data.prepare_data()
    path = tmp_path_factory.mktemp("noise") / "noise_model.npz"
    estimate(data.prepared).save(path)
    return path


@pytest.fixture(scope="module")
def run(panel_cohort: Path, work: Path, noise_model: Path) -> Path:
    return train_in_process("smoke_opacity", panel_cohort, work, f"--model.noise_model={noise_model}")


def test_run_folder_holds_figures_per_group(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    keys = {"opacity/iou_pooled", "opacity/relative_volume", "wal/pearson_r", "test/loss", "groups/ece", "fuzzy/kl"}
    assert keys | {f"group_{group}/iou_pooled" for group in (2, 3, 4)} <= set(metrics)
    assert {f"site/{site}/opacity/iou_pooled" for site in "BC"} <= set(metrics)
    for picture in ("overlays", "group_confusion"):
        assert (run / "figures" / f"{picture}.png").stat().st_size > 5000
    course = pd.read_csv(run / "metrics.csv")
    for key in ("dice", "iou", "relative_volume"):
        for split in ("train", "val"):
            assert course[f"{split}/{key}"].notna().sum() == course["val/loss"].notna().sum() > 0
    assert course["val/iou"].dropna().tolist() == course["val/opacity_iou"].dropna().tolist()
    assert {"val/opacity_iou", "val/loss", "val/relative_volume", "val/group_4_iou"} <= set(course)
    assert np.isfinite(course["train/loss"].dropna()).all()


def test_first_losses_stay_the_same(panel_cohort: Path, work: Path, noise_model: Path, tmp_path: Path) -> None:
    # A refactoring of training code must not move these; a change that is meant to says so where it changes them.
    steps = ["--trainer.max_steps=3", "--trainer.log_every_n_steps=1", "--trainer.precision=32-true"]
    options = [*steps, f"--runs={tmp_path}", f"--model.noise_model={noise_model}"]
    main(["fit", *experiment_args("smoke_opacity", panel_cohort, work, *options)])
    course = pd.read_csv(tmp_path / "smoke_opacity" / "latest" / "metrics.csv")
    assert course["train/loss"].dropna().tolist() == pytest.approx(OPACITY_LOSSES, rel=1e-3)


def test_best_weights_are_those_of_the_best_opacity_iou(run: Path) -> None:
    course = pd.read_csv(run / "metrics.csv").dropna(subset=["val/opacity_iou"])
    best = course.sort_values("val/opacity_iou").iloc[-1]["epoch"]
    assert torch.load(run / "best.ckpt", weights_only=True)["epoch"] == best


def test_figures_agree_with_an_independent_calculation(panel_cohort: Path, work: Path, run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    module = load_module(run / "best.ckpt")
    assert isinstance(module, OpacityModule)
    data = OpacityData(str(panel_cohort), str(work / "prepared"), size=32)
    table = data.slice_table("test")
    (batch,) = data.batches("test", np.arange(len(table)), len(table))
    lung, truth = batch["lung"][:, 0].numpy(), batch["target"][:, 0].numpy()
    statistics = data.statistics(-1000, 350)
    x = (batch["image"].float().clamp(-1000, 350) - statistics.mean_hu) / statistics.std_hu
    precision = str(yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled="bf16" in precision):
        p = module.network(x).float().softmax(1).numpy()
    groups = p.argmax(1)
    for group in (2, 3, 4):
        expected = jaccard_score(truth[lung] == group, groups[lung] == group)
        assert metrics[f"group_{group}/iou_pooled"] == pytest.approx(expected, abs=0.01)
    opaque = p[:, 2:].sum(1) > 0.5
    assert metrics["opacity/iou_pooled"] == pytest.approx(jaccard_score(truth[lung] >= 2, opaque[lung]), abs=0.01)
    wrong = 1 - np.trace(confusion_matrix(truth[lung], groups[lung])) / lung.sum()
    assert 0 < wrong < 1


@pytest.mark.slow
def test_evaluate_saves_masks_from_which_the_figures_follow(
    panel_cohort: Path, work: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads((run / "metrics.json").read_text())
    saver = "--trainer.callbacks+=callbacks.save_masks.SaveMasks"
    main(["test", f"--config={run / 'config.yaml'}", f"--ckpt_path={run / 'best.ckpt'}", saver])
    assert json.loads((run / "metrics.json").read_text()) == pytest.approx(before, nan_ok=True)
    assert "opacity" in capsys.readouterr().out
    files = [np.load(path) for path in sorted((run / "masks").glob("*.npz"))]
    lung, truth, groups, opacity = (
        np.concatenate([file[name].ravel() for file in files]) for name in ("lung", "truth_groups", "groups", "opacity")
    )
    inside = lung > 0
    found = jaccard_score(truth[inside] >= 2, opacity[inside] > 0)
    assert before["opacity/iou_pooled"] == pytest.approx(found)
    assert before["group_3/iou_pooled"] == pytest.approx(jaccard_score(truth[inside] == 3, groups[inside] == 3))
    saved = read_run(run)
    assert saved.findings == ("opacity", "group_2", "group_3", "group_4")
    for row in saved.scans.to_dict("records"):
        for name in saved.findings:
            true, called = saved.pair(row["scan_id"], name)
            assert ((true == 1) & called).sum() == row[f"{name}_tp"]
            assert ((true == 0) & called).sum() == row[f"{name}_fp"]
            assert ((true == 1) & ~called).sum() == row[f"{name}_fn"]
    levels = [np.concatenate([file[f"probability_group_{group}"].ravel() for file in files]) for group in range(5)]
    assert np.abs(np.sum(levels, 0, dtype=int)[inside] - 255).max() <= 2  # they add up to 1, but for rounding


def test_predict_writes_groups_on_the_scans_own_grid(panel_cohort: Path, run: Path, tmp_path: Path) -> None:
    path = panel_cohort.parent / "images" / "C008.nii.gz"
    lung_mask = panel_cohort.parent / "masks" / "B007_lungs.nii.gz"
    out = predict(run / "best.ckpt", path, tmp_path / "out")
    scan = read_scan(path)
    lungs, infection, groups = (read_mask(out / f"{name}.nii.gz", scan) for name in ("lungs", "infection", "groups"))
    assert groups.max() <= 4
    assert not groups[lungs == 0].any()
    measured = json.loads((out / "measurements.json").read_text())
    for group in (2, 3, 4):
        assert measured[f"group_{group}_ml"] == pytest.approx((groups == group).sum() * scan.voxel_ml)
    assert measured["wal_percent"] == pytest.approx(100 * (1 - infection.sum() / lungs.sum()))
    assert measured["consolidation_score"] == pytest.approx((groups == 4).sum() / lungs.sum())
    # On the scan whose own grid is the prepared one, prediction and evaluation count the same voxels.
    out = predict(run / "best.ckpt", panel_cohort.parent / "images" / "B007", tmp_path / "same", lung_mask)
    found = json.loads((out / "measurements.json").read_text())["severity_score"]
    row = pd.read_csv(run / "scans.csv", index_col="scan_id").loc["B007"]
    assert found == pytest.approx(row["severity_predicted"], rel=0.01)


@pytest.mark.slow
def test_hard_labels_and_fine_tuning_start_from_the_given_weights(panel_cohort: Path, work: Path, run: Path) -> None:
    few = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--model.labels=hard", "--optimizer.lr=0.0")
    tuned = train_in_process("smoke_opacity", panel_cohort, work, f"--model.pretrained={run / 'best.ckpt'}", *few)
    first, second = (torch.load(path / "best.ckpt", weights_only=True)["state_dict"] for path in (run, tuned))
    name = "network.head.weight"
    torch.testing.assert_close(first[name], second[name])
    assert (second["targets.mean_table"][2, 1, 0] == torch.eye(5)[2]).all()


@pytest.mark.slow
def test_an_ensemble_draws_its_confusion_in_its_own_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GROUND_GLASS_RUN", raising=False)
    one = (run / "figures" / "group_confusion.png").stat().st_mtime_ns
    members = [f"--members+={run / name}" for name in ("best.ckpt", "last.ckpt")]
    main(["test", "--config", str(run / "config.yaml"), f"--runs={tmp_path}", *members])
    (folder,) = (path.parent for path in tmp_path.glob("*/*/metrics.json") if path.parent.name != "latest")
    assert (folder / "figures" / "group_confusion.png").stat().st_size > 5000
    assert (run / "figures" / "group_confusion.png").stat().st_mtime_ns == one, "the run of a member is left alone"


def test_weights_of_another_task_are_refused(
    panel_cohort: Path, work: Path, infection_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = experiment_args("smoke_opacity", panel_cohort, work, f"--model.pretrained={infection_run / 'best.ckpt'}")
    assert "holds a model for 'infection'" in refused(capsys, ["fit", *args, "--model.labels=hard"])


@pytest.mark.slow
def test_noise_model_command_draws_its_curves(
    panel_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "noise.npz"
    args = ["--cohort", str(panel_cohort), "--size", "32", "--jobs", "1", "--out"]
    assert make_noise_model([*args, str(out)]) == 0
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert "pairs of pixels" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("opacity_*.yaml")), ids=lambda path: path.stem)
def test_experiments_of_the_paper_differ_in_what_their_name_says(path: Path) -> None:
    own, base = (yaml.safe_load(p.read_text()) for p in (path, EXPERIMENTS / "opacity_unet.yaml"))
    assert own["experiment"] == path.stem
    assert f"make train EXP={path.stem}" in path.read_text()
    network = own["model"]["init_args"]["network"]["class_path"].rpartition(".")[2].lower()
    assert network == path.stem.removeprefix("opacity_").removesuffix("_paper").removesuffix("_hard")
    if path.stem.endswith("_paper"):
        settings = own["model"]["init_args"]
        assert (settings["mean_hu"], settings["std_hu"], settings["weighting"]) == (-653.2, 628.5, "class")
        assert own["data"]["init_args"]["batch_size"] == 64
        assert own["optimizer"]["init_args"]["lr"] == 0.1
        schedule = own["lr_scheduler"]["init_args"]
        assert schedule["gamma"] == 0.1
        assert [round(share * own["trainer"]["max_epochs"]) for share in schedule["shares"]] == [10, 20]
        assert own["trainer"]["max_epochs"] == 30
    else:
        assert own["data"]["init_args"]["cohort"] == base["data"]["init_args"]["cohort"]
