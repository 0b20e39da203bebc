"""The same numbers whatever the number of processes: real ones, on a cohort whose slices they cannot share evenly."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from e_step import labels_of_rank
from harness import experiment_args, train_in_process
from offline_run import read_offline_run
from ranks import Command, run_ranks

from callbacks.describe_training import describe
from datamodules.infection_data import InfectionData
from inference.load import load_module, training_set_of
from lightning_modules.consolidation import ConsolidationModule
from networks.unet import UNet
from phantom import write_phantom as phantom
from phantom.plan import ScanPlan, plan_cohort
from training.weights import read_checkpoint

pytestmark = pytest.mark.slow

TASKS = ("smoke_infection", "smoke", "smoke_opacity")
# 21 test slices, two of them of one scan, of which a third rank sees none; two validation slices for three ranks.
SCANS = (("A", "train", 2, 2, 0), ("A", "val", 1, 0, 0), ("B", "test", 1, 1, 0), ("C", "test", 0, 1, 0))
SLICES = {"B006": 12, "B007": 7}
TO_CROP = ("A005", "C008")
FLOATS: dict[str, Any] = {"rel": 1e-6, "abs": 1e-6, "nan_ok": True}


def awkward_plans(_: object, size: int, slices: int, readers: int) -> Iterator[ScanPlan]:
    for plan in plan_cohort(SCANS, size, slices, readers):
        yield replace(plan, slices=SLICES.get(plan.scan_id, slices))


def crop_to_two_slices(cohort: Path, scan_id: str) -> None:
    """Keep the two slices in the middle of a scan of eight, which are the same from either end."""
    files = [path for folder in ("images", "masks") for path in (cohort.parent / folder).glob(f"{scan_id}*")]
    for path in files:
        volume = nibabel.load(path)
        assert isinstance(volume, nibabel.Nifti1Image)
        axis = int(np.abs(volume.affine[2, :3]).argmax())
        middle = tuple(slice(3, 5) if number == axis else slice(None) for number in range(3))
        cropped = volume.slicer[middle]
        nibabel.save(nibabel.Nifti1Image(np.asarray(cropped.dataobj), cropped.affine, cropped.header), path)
    truth = cohort.parent / "truth" / f"{scan_id}.npz"
    with np.load(truth) as arrays:
        np.savez(truth, **{key: value[3:5] if value.ndim == 3 else value for key, value in arrays.items()})


@pytest.fixture(scope="module")
def awkward_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two readers, so that one cohort has the labels of all three tasks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phantom, "plan_cohort", awkward_plans)
        cohort = phantom.write_cohort(tmp_path_factory.mktemp("cohorts") / "awkward", 0, True, None, 1, readers=2)
    for scan_id in TO_CROP:
        crop_to_two_slices(cohort, scan_id)
    return cohort


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def trained(awkward_cohort: Path, place: Path) -> dict[str, Path]:
    """The run folder of every task, trained and tested by one process."""
    common = ["--trainer.max_epochs=1", "--trainer.precision=32-true", "--data.batch_size=4"]
    runs = {
        "smoke_infection": train_in_process(
            "smoke_infection", awkward_cohort, place, *common, "--trainer.max_epochs=15"
        )
    }
    stage_1 = f"--model.init_weights={runs['smoke_infection'] / 'best.ckpt'}"
    runs["smoke"] = train_in_process("smoke", awkward_cohort, place, *common, stage_1)
    hard = ["--model.labels=hard", "--model.noise_model=", "--trainer.max_epochs=12"]
    return runs | {"smoke_opacity": train_in_process("smoke_opacity", awkward_cohort, place, *common, *hard)}


def one_step(cohort: Path, place: Path, *more: str) -> list[str]:
    """A single step of plain gradient descent on slices as they are: Adam's first one would be a sign."""
    still = ("rotation_deg", "shift", "zoom")
    args = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.precision=32-true", "--fresh=true"]
    args += ["--optimizer=torch.optim.SGD", "--optimizer.lr=0.1", "--model.augmentation.flip=false"]
    args += [f"--model.augmentation.{name}=0" for name in still]
    return ["fit", *experiment_args("smoke_infection", cohort, place, *args, *more)]


@pytest.fixture(scope="module")
def evaluated(trained: dict[str, Path], awkward_cohort: Path, place: Path) -> dict[int, dict[str, Path]]:
    """World size -> task -> folder with the figures of its test; 2 and 3 processes have trained, too."""
    folders: dict[int, dict[str, Path]] = {1: trained}
    for world_size in (2, 3):
        commands = []
        folders[world_size] = {task: place / f"tested_{world_size}" / task for task in TASKS}
        for task, folder in folders[world_size].items():
            folder.mkdir(parents=True)
            shutil.copyfile(trained[task] / "best.ckpt", folder / "best.ckpt")
            if (sum_file := trained[task] / "best.ckpt.sha256").exists():
                shutil.copyfile(sum_file, folder / sum_file.name)
            commands.append(
                Command(["test", f"--config={trained[task] / 'config.yaml'}", f"--ckpt_path={folder / 'best.ckpt'}"])
            )
        run_ranks(world_size, commands + fits(world_size, trained, awkward_cohort, place))
    return folders


def fits(world_size: int, trained: dict[str, Path], cohort: Path, place: Path) -> list[Command]:
    """Trainings by several processes: EM, where a rank has no slice to validate; one step, with both batch norms."""
    em = ["--trainer.max_epochs=2", "--trainer.precision=32-true", "--data.batch_size=4", "--data.balanced=false"]
    em += [f"--model.init_weights={trained['smoke_infection'] / 'best.ckpt'}"]
    em += ["--trainer.callbacks+=record_labels.RecordLabels"]
    if world_size == 2:  # no validation that brings the ranks together
        em += ["--trainer.check_val_every_n_epoch=2"]
    record = place / f"labels_{world_size}"
    record.mkdir()
    args = ["fit", *experiment_args("smoke", cohort, place, *em)]
    commands = [Command(args, place / f"fit_{world_size}" / "em", {"RECORD_LABELS": str(record)})]
    if world_size == 2:
        for name in ("true", "false"):
            step = one_step(cohort, place, "--data.batch_size=8", f"--trainer.sync_batchnorm={name}")
            commands.append(Command(step, place / "fit_2" / f"sync_{name}"))
    return commands


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("task", TASKS)
def test_figures_do_not_depend_on_the_number_of_processes(
    evaluated: dict[int, dict[str, Path]], task: str, world_size: int
) -> None:
    one, several = evaluated[1][task], evaluated[world_size][task]
    expected, figures = (json.loads((run / "metrics.json").read_text()) for run in (one, several))
    assert expected["slices"] == 21
    assert list(figures) == list(expected)
    for key, value in expected.items():
        exact = isinstance(value, int) or value is None
        assert figures[key] == (value if exact else pytest.approx(value, **FLOATS)), key
    scans = [pd.read_csv(run / "scans.csv") for run in (one, several)]
    counts = [name for name in scans[0].columns if name.endswith(("_tp", "_fp", "_fn", "_tn"))] + ["scan_id", "slices"]
    assert len(counts) >= 6
    pd.testing.assert_frame_equal(scans[0][counts], scans[1][counts])
    pd.testing.assert_frame_equal(scans[0], scans[1], rtol=1e-6, atol=1e-6)


def test_figures_are_not_all_alike(evaluated: dict[int, dict[str, Path]]) -> None:
    # Untrained networks that find nothing, or everything, would agree with anything.
    for task, column in (("smoke_infection", "infection"), ("smoke", "infection"), ("smoke_opacity", "opacity")):
        scans = pd.read_csv(evaluated[1][task] / "scans.csv")
        assert scans[f"{column}_fp"].sum() + scans[f"{column}_tp"].sum() > 0
        assert scans[f"{column}_fn"].sum() + scans[f"{column}_tn"].sum() > 0


@pytest.mark.parametrize("world_size", [2, 3])
def test_a_training_by_several_processes_is_one_run(
    evaluated: dict[int, dict[str, Path]], place: Path, world_size: int
) -> None:
    # With 3 processes one has no slice to validate: that the training ended says that nobody waited for it.
    run = place / f"fit_{world_size}" / "em"
    course = pd.read_csv(run / "metrics.csv")
    assert course["val/dice"].notna().sum() == (1 if world_size == 2 else 2)
    wandb_run = read_offline_run(run)  # of which there is one
    assert set(wandb_run.ids) == {"0a1b2c3d"}
    logged = [row for row in wandb_run.history if "val/dice" in row]
    assert len(logged) == course["val/dice"].notna().sum()


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_training_set_is_described_once_and_whole(
    evaluated: dict[int, dict[str, Path]], awkward_cohort: Path, place: Path, world_size: int
) -> None:
    checkpoint = place / f"fit_{world_size}" / "em" / "best.ckpt"
    data = InfectionData(str(awkward_cohort), str(place / "prepared"), size=32, weakly_labelled=True)
    alone = describe(SimpleNamespace(datamodule=data, progress_bar_callback=None), load_module(checkpoint))
    described = training_set_of(read_checkpoint(checkpoint))
    assert alone is not None
    assert described is not None
    assert (described.scans, described.slices) == (alone.scans, alone.slices)
    np.testing.assert_array_equal(described.lung_histogram, alone.lung_histogram)
    np.testing.assert_allclose(described.feature_mean, alone.feature_mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("world_size", [2, 3])
def test_every_rank_labels_as_one_process_with_the_weights_of_rank_0_would(
    evaluated: dict[int, dict[str, Path]], awkward_cohort: Path, place: Path, world_size: int
) -> None:
    module = ConsolidationModule(network=partial(UNet, channels=8))
    data = InfectionData(str(awkward_cohort), str(place / "prepared"), size=32, weakly_labelled=True)
    for epoch in (0, 1):
        records = [
            torch.load(place / f"labels_{world_size}" / f"{epoch}_{rank}.pt", weights_only=True)
            for rank in range(world_size)
        ]
        module.load_state_dict(records[0]["weights"])
        alone = labels_of_rank(module, data, rank=0, world_size=1)
        rows = torch.cat([record["rows"] for record in records])
        usable = int(data.usable(data.slice_table("train"), training=True).sum())
        assert len(rows.unique()) == len(rows) == usable // world_size * world_size
        labels = torch.cat([record["labels"] for record in records])
        assert labels.any()
        assert torch.equal(labels, alone.get(rows))


def test_one_step_of_two_processes_is_one_step_of_one_with_the_whole_batch(
    evaluated: dict[int, dict[str, Path]], awkward_cohort: Path, place: Path
) -> None:
    import os

    from train import main

    os.environ.pop("GROUND_GLASS_RUN", None)
    main(one_step(awkward_cohort, place, "--data.batch_size=16", f"--runs={place / 'one_step'}"))
    alone = weights(place / "one_step" / "smoke_infection" / "latest")
    start = weights(None)
    assert distance(alone, start) > 1e-3, "the step must do something"
    together = weights(place / "fit_2" / "sync_true")
    assert distance(learned(alone), learned(together)) < 1e-5
    # The one process is the inexact one: in this layout PyTorch's batch norm adds 16,384 floats up one after the other,
    # which put the variance of the first layer 3.7e-5 off its value in double precision, and the two processes 5e-8.
    assert distance(alone, together) < 1e-4
    # What the manual says of plain batch norm: each rank normalises by its own eight slices.
    assert distance(alone, weights(place / "fit_2" / "sync_false")) > 1e-4


def test_training_figures_of_a_step_do_not_depend_on_how_it_was_shared_out(
    evaluated: dict[int, dict[str, Path]], awkward_cohort: Path, place: Path
) -> None:
    # The same sixteen slices, as they are, with the same weights and batch norm over all of them.
    import os

    from train import main

    os.environ.pop("GROUND_GLASS_RUN", None)
    main(one_step(awkward_cohort, place, "--data.batch_size=16", f"--runs={place / 'one_step_figures'}"))
    runs = place / "one_step_figures" / "smoke_infection" / "latest", place / "fit_2" / "sync_true"
    alone, together = (pd.read_csv(run / "metrics.csv").dropna(subset="train/iou").iloc[0] for run in runs)
    for key in ("loss_epoch", "dice", "iou", "relative_volume"):
        assert alone[f"train/{key}"] > 0
        assert together[f"train/{key}"] == pytest.approx(alone[f"train/{key}"], rel=2e-3), key  # pixels near one half


def weights(run: Path | None) -> dict[str, torch.Tensor]:
    """The floats of a run's last.ckpt; without a run, those that every run with this seed starts from."""
    if run is None:
        from pytorch_lightning import seed_everything

        from lightning_modules.infection import InfectionModule

        seed_everything(0, verbose=False)
        state = InfectionModule(partial(UNet, channels=8)).state_dict()
    else:
        state = torch.load(run / "last.ckpt", weights_only=True)["state_dict"]
    return {key: value for key, value in state.items() if value.is_floating_point()}


def learned(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without the running statistics of batch norm."""
    return {key: value for key, value in state.items() if "running" not in key}


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[key] - other[key]).abs().max()) for key in one)
