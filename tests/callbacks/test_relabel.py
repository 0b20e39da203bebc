"""The E-step in training: every label fresh, right, and only where it belongs."""

import json
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_lightning import Callback, Trainer

from batch import SliceBatch
from callbacks.relabel import Relabel, share_drift
from datamodules.infection_data import InfectionData
from lightning_modules.augment import Augmentation
from lightning_modules.consolidation import ConsolidationModule
from networks.unet import UNet
from training.checkpoint_file import load_checkpoint_file

STILL = Augmentation(rotation_deg=0, shift=0, zoom=0, flip=False)


class Probe(Callback):
    """Compares what training sees with labels computed slice by slice from the current weights."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, SliceBatch]] = []  # each with its epoch
        self.expected: dict[tuple[int, int], torch.Tensor] = {}
        # Pixels on the very edge of a decision, where another batch's rounding may tip them.
        self.doubtful: dict[tuple[int, int], torch.Tensor] = {}

    @torch.no_grad()
    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        data = pl_module.data
        pl_module.eval()
        for row in sorted(set(data.train_indices(trainer.current_epoch).tolist())):
            batch = next(data.batches("train", np.array([row]), 1))
            x = (batch["image"].float() + 1024) / 110 * batch["lung"]
            infected = pl_module.infection_network(x).sigmoid()
            m = (infected > 0.5) & batch["lung"]
            f = pl_module.network(x).sigmoid()
            phi = (torch.sigmoid(0.5 * (x[:, 3:4] - 9)) + 0.5).clamp(max=1) * (batch["weak_label"] == 1)
            self.expected[trainer.current_epoch, row] = (f > 1 - phi) & m
            edge = ((f - (1 - phi)).abs() < 1e-5) & (phi < 1)
            self.doubtful[trainer.current_epoch, row] = edge | ((infected - 0.5).abs() < 1e-4)
        pl_module.train()

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: SliceBatch, batch_idx: int) -> None:
        self.batches.append((trainer.current_epoch, batch.copy()))


def fit(cohort: Path, work: Path, weights: Path, probe: Callback, relabel: Relabel, workers: int) -> Any:
    torch.manual_seed(0)
    data = InfectionData(
        str(cohort), str(work / "prepared"), 32, batch_size=8, weakly_labelled=True, balanced=True, num_workers=workers
    )
    module = ConsolidationModule(str(weights), partial(UNet, channels=8), augmentation=STILL)
    module.configure_optimizers = lambda: torch.optim.Adam(module.network.parameters(), 1e-2)  # type: ignore[method-assign]
    trainer = Trainer(
        max_epochs=3, callbacks=[relabel, probe], accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, limit_val_batches=0, use_distributed_sampler=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_every_batch_carries_the_labels_of_this_epochs_e_step(
    cohort: Path, work: Path, infection_run: Path, workers: int
) -> None:
    probe = Probe()
    # Probe runs after Relabel, before the first batch, on the same weights.
    fit(cohort, work, infection_run / "best.ckpt", probe, Relabel(), workers)
    assert {epoch for epoch, _ in probe.batches} == {0, 1, 2}
    changed = 0
    for epoch, batch in probe.batches:
        for row, target in zip(batch["slice_index"].tolist(), batch["target"], strict=True):
            doubtful = probe.doubtful[epoch, row][0]
            assert ((target == probe.expected[epoch, row][0]) | doubtful).all()
            assert doubtful.float().mean() < 0.05
            before = probe.expected.get((epoch - 1, row))
            changed += int(before is not None and bool((target != before[0]).any()))
    assert changed > 0, "labels that never change cannot show that they are fresh"


@pytest.mark.slow
def test_slices_without_consolidation_are_never_labelled(cohort: Path, work: Path, infection_run: Path) -> None:
    probe = Probe()
    module = fit(cohort, work, infection_run / "best.ckpt", probe, Relabel(), 0)
    negative = [b["target"][b["weak_label"] == 0] for _, b in probe.batches]
    positive = [b["target"][b["weak_label"] == 1] for _, b in probe.batches]
    assert sum(len(t) for t in negative) == sum(len(t) for t in positive) > 0
    assert not any(t.any() for t in negative)
    assert any(t.any() for t in positive)
    assert module.located.known.sum() < len(module.located.known)  # z = 0 slices were never sent through UNet-1


def test_per_iteration_labels_what_the_network_is_about_to_see(cohort: Path, work: Path, infection_run: Path) -> None:
    class Check(Callback):
        seen = 0

        @torch.no_grad()
        def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: SliceBatch, batch_idx: int) -> None:
            labels = pl_module.latent_labels(
                batch, pl_module.infected(batch) & (batch["weak_label"] == 1).view(-1, 1, 1, 1)
            )
            assert (batch["target"] == labels).all()
            Check.seen += int(labels.any())

    fit(cohort, work, infection_run / "best.ckpt", Check(), Relabel(every="iteration"), 0)
    assert Check.seen > 0


@pytest.mark.parametrize(
    ("epoch", "labelled", "share"),
    [(0, 0, ""), (0, 1000, ""), (1, 79, "7.9%"), (1, 80, ""), (9, 950, ""), (1, 951, "95.1%"), (5, 0, "0.0%")],
)
@pytest.mark.parametrize("own", [1.0, 0.0], ids=["all positives here", "a rank without positives"])
def test_a_collapse_of_em_is_warned_of(
    epoch: int, labelled: int, share: str, own: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = torch.tensor([labelled, 10, 1000])
    here = (total * own).long()
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda counts: counts.add_(total - here))
    logged: dict[str, object] = {}
    relabel = Relabel()
    monkeypatch.setattr(relabel, "relabel_own", lambda *_: here.clone())
    monkeypatch.setattr(torch.distributed, "barrier", lambda: None)
    shared = SimpleNamespace(is_shared=True)
    module = SimpleNamespace(log=logged.__setitem__, log_dict=logged.update, end_e_step=dict, latent=shared)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        relabel.on_train_epoch_start(SimpleNamespace(current_epoch=epoch, world_size=2, num_nodes=1), module)
    assert logged["e_step/share"] == labelled / 1000
    warned = [str(warning.message).split(" of the")[0] for warning in caught]
    assert warned == ([f"the E-step labelled {share}"] if share else [])


@pytest.mark.parametrize(
    ("shares", "warned"),
    [
        ([0.5, 0.03, 0.47], []),
        ([0.5, 0.0, 0.5], ["group_3 has 0.0% of the latent labels, at most 10.0% before"]),
        ([0.025, 0.015, 0.96], ["group_4 has 96.0% of the latent labels, at most 96.0% before"]),
    ],
)
def test_a_leaf_that_dies_out_or_takes_all_is_warned_of(
    shares: list[float], warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    relabel = Relabel(after=1)
    names = ("group_2", "group_3", "group_4")
    module = SimpleNamespace(log_dict=lambda figures: None, end_e_step=dict, counted_leaves=names)
    for epoch, parts in ((1, [0.45, 0.1, 0.45]), (2, shares)):
        counts = torch.tensor([400, 10, 1000, *(int(1000 * part) for part in parts)])
        monkeypatch.setattr(relabel, "relabel_own", lambda *_, counts=counts: counts)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            relabel.on_train_epoch_start(SimpleNamespace(current_epoch=epoch, world_size=1), module)
    assert [str(warning.message).split(": EM")[0] for warning in caught] == warned


NAN, RISEN = float("nan"), [0.0] * 6 + [0.2, 0.2]


@pytest.mark.parametrize(
    ("shares", "drift"),
    [
        ([], NAN),
        ([1.0, *[0.3] * 6], NAN),  # seven tell no trend
        ([1.0, *[0.3] * 7], 0.0),
        ([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], 0.35 / 0.55 - 1),
        # Eleven: the last two against the two before.
        ([1.0, 0.5, 0.4, 0.3, 0.3, 0.3, 0.3, 0.2, 0.2, 0.21, 0.21], 0.05),
        ([0.1] * 4 + [0.2, 0.2, 0.4, 0.4], 1.0),
        ([0.3] * 7 + [NAN], NAN),
        ([0.3] * 3 + [NAN] + [0.3] * 4, 0.0),  # long ago
        ([0.0] * 8, 0.0),  # labels nothing, and goes on so: a collapse, which another warning names
        (RISEN, float("inf")),
        ([0.0] * 7 + [NAN], NAN),
    ],
)
def test_the_drift_compares_the_last_two_quarters(shares: list[float], drift: float) -> None:
    assert share_drift(shares) == pytest.approx(drift, nan_ok=True)


@pytest.mark.parametrize(
    ("before", "last", "line"),
    [
        (0.200, 0.2099, ""),
        (0.200, 0.2101, "5% higher"),
        (0.200, 0.1901, ""),
        (0.200, 0.1899, "5% lower"),
        (0.400, 0.1000, "75% lower"),
        (0.200, NAN, ""),
        (0.000, 0.0000, ""),
        (0.000, 0.3000, "inf% higher"),
    ],
)
def test_a_training_that_ends_while_labels_move_says_so(before: float, last: float, line: str) -> None:
    relabel = Relabel()
    # A run that was cut off and goes on has the course from before.
    relabel.load_state_dict({"shares": [1.0, 0.6, 0.5, 0.4, before, before, last, last]})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        relabel.on_train_end(SimpleNamespace(), SimpleNamespace())
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == (1 if line else 0)
    assert all(text.startswith("EM has not converged") and f"was {line} than" in text for text in texts)


def test_the_drift_is_in_the_log_the_checkpoint_and_the_figures(cohort: Path, em_run: Path) -> None:
    figures = json.loads((em_run / "metrics.json").read_text())
    course = pd.read_csv(em_run / "metrics.csv")
    assert figures["e_step/drift"] is None, "two E-steps tell no trend"
    assert course["e_step/drift"].isna().all()
    shares = course["e_step/share"].dropna().tolist()
    assert figures["e_step/share"] == pytest.approx(shares[-1])
    kept = load_checkpoint_file(em_run / "last.ckpt")
    assert kept["ground_glass"]["e_step"]["e_step/share"] == pytest.approx(shares[-1])
    assert kept["callbacks"]["Relabel"]["shares"] == pytest.approx(shares)


def test_em_without_relabelling_is_refused(cohort: Path, work: Path, infection_run: Path) -> None:
    with pytest.raises(ValueError, match=r"add callbacks\.relabel\.Relabel"):
        fit(cohort, work, infection_run / "best.ckpt", Callback(), Callback(), 0)  # type: ignore[arg-type]
