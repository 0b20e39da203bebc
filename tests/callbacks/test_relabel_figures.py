"""What is logged of the E-step describes the slices of all ranks: the same figures for 1, 2 and 3 processes."""

from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from e_step import labels_of_rank
from harness import experiment_args
from ranks import Command, run_ranks

from datamodules.infection_data import InfectionData
from lightning_modules.consolidation import ConsolidationModule
from networks.unet import UNet

pytestmark = pytest.mark.slow

WORLD_SIZES, EPOCHS = (1, 2, 3), 4
STILL = [f"--model.augmentation.{name}" for name in ("rotation_deg=0", "shift=0", "zoom=0", "flip=false")]
VARIANTS = {
    "plain": ["--data.balanced=false", "--data.batch_size=4"],  # three ranks cannot share the slices evenly
    "balanced": ["--data.batch_size=4"],  # a slice is in the batches of several ranks
    # Every slice once, as it stands.
    "iteration": ["--trainer.callbacks.every=iteration", "--data.balanced=false", "--data.batch_size=1", *STILL],
}


@pytest.fixture(scope="module")
def runs(
    cohort: Path, work: Path, infection_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, int], Path]:
    """The run folder of each variant of EM by each number of processes, which all have the same weights."""
    place = tmp_path_factory.mktemp("figures")
    common = [f"--trainer.max_epochs={EPOCHS}", "--trainer.precision=32-true", "--trainer.limit_val_batches=0"]
    common += ["--optimizer.lr=0", f"--model.init_weights={infection_run / 'best.ckpt'}"]
    common += [f"--trainer.callbacks+={name}" for name in ("still_network.StillNetwork", "record_labels.RecordLabels")]
    folders = {}
    for world_size in WORLD_SIZES:
        commands = []
        for name, more in VARIANTS.items():
            run = place / f"ranks_{world_size}" / name
            folders[name, world_size] = run
            labels = {"RECORD_LABELS": str(run / "labels")}
            commands.append(Command(["fit", *experiment_args("smoke", cohort, work, *more, *common)], run, labels))
        run_ranks(world_size, commands)
    return folders


def course(run: Path, *figures: str) -> pd.DataFrame:
    """Figures of the E-step, a row an epoch."""
    logged = pd.read_csv(run / "metrics.csv")
    return logged[[f"e_step/{figure}" for figure in figures]].dropna().reset_index(drop=True)


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("variant", ["plain", "balanced"])
def test_figures_are_those_of_one_process(runs: dict[tuple[str, int], Path], variant: str, world_size: int) -> None:
    alone, together = (course(runs[variant, size], "labelled", "changed", "share") for size in (1, world_size))
    assert len(alone) == EPOCHS
    assert alone["e_step/labelled"].nunique() > 1, "figures that never change would agree by chance"
    assert (alone["e_step/changed"] > 0).all()
    pd.testing.assert_frame_equal(alone, together)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_figures_count_the_labels(
    runs: dict[tuple[str, int], Path], cohort: Path, work: Path, infection_run: Path, world_size: int
) -> None:
    module = ConsolidationModule(str(infection_run / "best.ckpt"), partial(UNet, channels=8))
    data = InfectionData(str(cohort), str(work / "prepared"), size=32, weakly_labelled=True)
    labels = labels_of_rank(module, data, 0, 1)
    rows = torch.arange(len(data.slice_table("train")))
    first = course(runs["plain", world_size], "labelled", "changed", "share").iloc[0]
    assert module.located is not None
    labelled, infected = (float(store.get(rows).sum()) for store in (labels, module.located))
    assert labelled > 0
    assert first.tolist() == pytest.approx([labelled, labelled, labelled / infected])


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_rank_trains_with_the_labels_of_one_process(runs: dict[tuple[str, int], Path], world_size: int) -> None:
    def labels(world_size: int) -> dict[int, torch.Tensor]:
        of_slices: dict[int, torch.Tensor] = {}
        for file in sorted((runs["plain", world_size] / "labels").glob(f"{EPOCHS - 1}_*.pt")):
            record = torch.load(file, weights_only=True)
            of_slices |= dict(zip(record["rows"].tolist(), record["labels"], strict=True))
        return of_slices

    alone, together = labels(1), labels(world_size)
    assert any(mask.any() for mask in alone.values())
    assert set(together) <= set(alone)  # what several ranks cannot share evenly is left out of an epoch
    assert len(together) >= len(alone) - world_size
    assert all(torch.equal(alone[row], together[row]) for row in together)
    assert not (runs["plain", world_size] / "latent").exists(), "what only a training needs goes with it"


@pytest.mark.parametrize("world_size", [1, 2])
def test_the_share_of_every_iteration(
    runs: dict[tuple[str, int], Path], cohort: Path, work: Path, infection_run: Path, world_size: int
) -> None:
    shares = course(runs["iteration", world_size], "share")["e_step/share"]
    assert len(shares) == EPOCHS
    # All slices together, as the E-step of a whole epoch sees them, not the mean of what batches have.
    expected = course(runs["plain", 1], "share")["e_step/share"]
    assert shares.tolist() == pytest.approx(expected.tolist(), rel=1e-3)
