"""The any-label module: its targets and losses in the limits that docs/any_label.md states, and its E-step."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from batch import SliceBatch
from ct.classes import L3
from lightning_modules.any_label import AnyLabelModule, WeighedFinding
from lightning_modules.augment import Augmentation
from lightning_modules.latent import LeafStore
from lightning_modules.opacity import OpacityModule
from losses.em import Phi2
from losses.fitted_priors import BINS, Learned
from networks.unet import UNet

STILL = Augmentation(rotation_deg=0, shift=0, zoom=0, flip=False)
KEYS = list(L3.unions)
ANYTHING, OPAQUE, CLEAR = 0b11111, 0b11100, 0b00011
SIDE = 16


def batch_of(allowed: list[int], target: list[int], bits: dict[str, int] | None = None, seed: int = 0) -> SliceBatch:
    """Two slices; the columns of each go through the allowed leaves and targets that are given."""
    rng = np.random.default_rng(seed)
    columns = np.arange(SIDE) % len(allowed)
    shape = (2, 1, SIDE, SIDE)
    bit = torch.tensor([[(bits or {}).get(key, -1) for key in KEYS]] * 2, dtype=torch.int8)
    leaves = torch.tensor(target, dtype=torch.int8)[columns].expand(shape).clone()
    return SliceBatch(
        image=torch.from_numpy(rng.integers(-900, 200, shape).astype(np.int16)),
        lung=torch.ones(shape, dtype=torch.bool),
        target=leaves,
        weak_label=torch.tensor([-1, -1], dtype=torch.int8),
        slice_index=torch.tensor([2, 0]),
        border=torch.zeros(2, 2, SIDE, SIDE, dtype=torch.uint8),
        votes=torch.zeros(2, 5, SIDE, SIDE, dtype=torch.uint8),
        allowed=torch.tensor(allowed, dtype=torch.int16)[columns].expand(shape).clone(),
        bits=bit,
    )


def module_of(kind: type[Any] = AnyLabelModule, **options: Any) -> Any:
    torch.manual_seed(0)
    module = kind(partial(UNet, channels=4), labels="hard", augmentation=STILL, mean_hu=-600.0, std_hu=300.0, **options)
    module.hu_mean.fill_(-600.0)
    module.hu_std.fill_(300.0)
    module.class_frequency.copy_(torch.tensor([0.5, 0.3, 0.1, 0.06, 0.04]))
    module._trainer = SimpleNamespace(training=True, world_size=1, global_step=0, global_rank=0, current_epoch=0)
    module.log_step = lambda *args: None
    module.vary = lambda batch: batch["x"]
    module.draw_affine = lambda count: torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).expand(count, -1, -1)
    return module


@pytest.fixture(autouse=True)
def _no_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpacityModule, "trainer", property(lambda self: self._trainer))
    monkeypatch.setattr(OpacityModule, "data", property(lambda self: SimpleNamespace(pixel_mm=1.0)))
    monkeypatch.setattr(OpacityModule, "global_step", 0)
    monkeypatch.setattr(OpacityModule, "global_rank", 0)


def probabilities(module: Any, batch: SliceBatch) -> Tensor:
    module.train()
    x = (batch["image"].float().clamp(-1000, 350) + 600) / 300
    with torch.no_grad():
        return module.network(x).float().softmax(1).double()


def loss_of(module: Any, batch: SliceBatch) -> float:
    module.train()
    augmented = module.augment(batch.copy())
    return float(module.training_step(augmented, 0).detach())


def test_fully_labelled_pixels_are_supervised_training() -> None:
    batch = batch_of([1 << leaf for leaf in (0, 1, 2, 3, 4)], [0, 1, 2, 3, 4])
    assert loss_of(module_of(), batch) == pytest.approx(loss_of(module_of(OpacityModule), batch), rel=1e-5)


def test_votes_alone_are_paper_l3() -> None:
    batch = batch_of([1 << leaf for leaf in (1, 2, 3, 4)], [1, 2, 3, 4])
    batch["votes"] = torch.randint(0, 4, batch["votes"].shape, generator=torch.Generator().manual_seed(1)).to(
        torch.uint8
    )
    expected = loss_of(module_of(OpacityModule), batch)
    assert loss_of(module_of(), batch) == pytest.approx(expected, rel=1e-5)
    batch["votes"].zero_()
    assert loss_of(module_of(), batch) != pytest.approx(expected, rel=1e-2), "votes must count"


def test_without_bits_it_is_training_on_partial_labels() -> None:
    """The value is the weighted -log of the allowed probability, and pixels that allow anything count nothing."""
    module = module_of()
    allowed = [ANYTHING, OPAQUE, CLEAR, 0b01100, 0b10000]
    batch = batch_of(allowed, [-1, -1, -1, -1, 4])
    p = probabilities(module, batch).numpy()
    weight, total, count = 1 - module.class_frequency.double().numpy(), 0.0, 0
    for b, h, w in np.ndindex(2, SIDE, SIDE):
        leaves = [leaf for leaf in range(5) if allowed[w % 5] >> leaf & 1]
        if len(leaves) == 5:
            continue
        mass = p[b, leaves, h, w].sum()
        q = p[b, leaves, h, w] / mass
        total += (weight[leaves] * q).sum() * -np.log(mass)
        count += 1
    assert loss_of(module, batch) == pytest.approx(total / count, rel=1e-3)


def test_the_gradient_of_a_partial_label_is_that_of_the_marginal_likelihood() -> None:
    module = module_of(weight_exponent=0.0)  # all classes alike
    batch = module.augment(batch_of([OPAQUE, CLEAR, 0b01100], [-1, -1, -1]))
    module.training_step(batch, 0).backward()
    gradient = [parameter.grad.clone() for parameter in module.network.parameters()]
    module.zero_grad()
    logits = module.network(batch["x"]).float()
    allowed = (batch["allowed"] >> torch.arange(5).view(1, -1, 1, 1) & 1).bool()
    (-torch.log_softmax(logits, 1).masked_fill(~allowed, -torch.inf).logsumexp(1)).mean().backward()
    for got, parameter in zip(gradient, module.network.parameters(), strict=True):
        assert torch.allclose(got, parameter.grad, rtol=1e-3, atol=1e-6)


PRIOR = WeighedFinding("consolidation", Phi2(7.5, 1.0), "infection")


def latent_by_hand(module: Any, batch: SliceBatch, prior: Phi2) -> tuple[Any, Any]:
    """q and where the prior speaks, pixel by pixel."""
    module.eval()
    with torch.no_grad():
        p = module.network((batch["image"].float().clamp(-1000, 350) + 600) / 300).float().softmax(1).double().numpy()
    x = (np.clip(batch["image"][:, 0].numpy().astype(float), -1000, 350) + 1024) / 110
    q, speaks = np.zeros_like(p), np.zeros(p[:, 0].shape, bool)
    for b, h, w in np.ndindex(speaks.shape):
        allowed = [leaf for leaf in range(5) if int(batch["allowed"][b, 0, h, w]) >> leaf & 1]
        q[b, allowed, h, w] = p[b, allowed, h, w] / p[b, allowed, h, w].sum()
        whole = q[b, 2:, h, w].sum()
        here = len([leaf for leaf in allowed if leaf >= 2]) > 1 and whole > 0.5 and batch["target"][b, 0, h, w] < 0
        if batch["bits"][b, KEYS.index("consolidation")] == 1:
            phi = min(1.0, 1 / (1 + np.exp(-prior.k2 * (x[b, h, w] - prior.b2))) + 0.5)
            factor = np.array([1 - phi, 1 - phi, phi])
            total = (q[b, 2:, h, w] * factor).sum()
            if total:  # masks that rule out all that the prior leaves know more
                q[b, 2:, h, w] *= factor * whole / total
            speaks[b, h, w] = here
    return q, speaks


@pytest.mark.parametrize("z", [1, 0, -1])
def test_the_latent_labels_are_the_posterior_where_the_prior_speaks(z: int) -> None:
    module = module_of(priors=[PRIOR])
    batch = batch_of([ANYTHING, OPAQUE, CLEAR, 0b01100, 0b10000], [-1, -1, -1, -1, 4], {"consolidation": z})
    q, speaks = module.latent_labels(module.to_input(batch), 2)
    expected, where = latent_by_hand(module, batch, Phi2(7.5, 1.0))
    near = np.abs(expected[:, 2:].sum(1) - 0.5) < 1e-4
    assert ((speaks[:, 0].numpy() == where) | near).all()
    assert speaks.any() == (z == 1)
    assert np.allclose(q.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("e_step", ["hard", "soft"])
def test_latent_labels_are_stored_joined_and_counted(e_step: str) -> None:
    module = module_of(priors=[PRIOR], e_step=e_step)
    module.prepare_latent(4, SIDE)
    batch = batch_of([ANYTHING, OPAQUE, CLEAR, 0b10000], [-1, -1, -1, 4], {"consolidation": 1})
    q, speaks = module.latent_labels(module.to_input(batch.copy()), 2)
    counts = module.relabel(module.to_input(batch.copy()), 1).tolist()
    leaves = torch.where(speaks[:, 0], q.argmax(1), -1)[0]
    of_leaves = [int((leaves == leaf).sum()) for leaf in (2, 3, 4)]
    assert counts == [of_leaves[2], int(speaks[0].sum()), int(speaks[0].sum()), *of_leaves]
    module._trainer.current_epoch = 1
    assert module.relabel(module.to_input(batch.copy()), 2).tolist()[1] == 0, "the same weights label alike"
    joined = module.augment(module.on_before_batch_transfer(batch.copy(), 0))
    inside = speaks.clone()
    _, known = module.latent.get(batch["slice_index"])
    assert torch.equal(known, speaks)
    mean = torch.where(inside, joined["mean"], 0)
    expected = torch.nn.functional.one_hot(q.argmax(1), 5).movedim(-1, 1).float() if e_step == "hard" else q
    assert torch.allclose(mean, torch.where(inside, expected, 0), atol=1 / 255 + 1e-3)
    assert torch.equal(joined["target"] >= 0, speaks | (batch["target"] >= 0))


def test_what_one_rank_and_two_ranks_fit_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    learned = WeighedFinding("consolidation", Learned(6.0, 0.5), "infection")
    batch = batch_of([ANYTHING, OPAQUE], [-1, -1], {"consolidation": 1})
    alone, rank = module_of(priors=[learned]), module_of(priors=[learned])
    alone.latent_labels(alone.to_input(batch.copy()), 2)
    # The first rank has the first slice; what the second counted comes by all_reduce.
    rank.latent_labels(rank.to_input(batch.copy()), 1)
    others = alone.greys - rank.greys
    assert others.sum() > 0
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.add_(others))
    rank._trainer.world_size = 2
    assert rank.end_e_step() == pytest.approx(alone.end_e_step())
    assert alone.weighed[0].prior.b2 != 6.0
    # A rank without any slice takes part too.
    empty = module_of(priors=[learned])
    empty._trainer.world_size = 2
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.add_(torch.ones(1, 2, BINS)))
    assert set(empty.end_e_step()) == {"e_step/consolidation/b2", "e_step/consolidation/k2"}


def test_per_iteration_replaces_the_targets_of_the_batch() -> None:
    module = module_of(priors=[PRIOR], e_step="hard")
    module.prepare_latent(4, SIDE)
    batch = batch_of([ANYTHING, OPAQUE, 0b10000], [-1, -1, 4], {"consolidation": 1})
    batch = module.augment(module.on_before_batch_transfer(batch, 0))
    q, speaks = module.latent_labels(batch, 2)
    counts = module.relabel_batch(batch)
    assert counts[2] == speaks.sum() > 0
    assert torch.equal(torch.where(speaks, batch["target"], 9), torch.where(speaks, q.argmax(1, keepdim=True), 9))


@pytest.mark.parametrize(
    ("weighed", "message"),
    [
        (WeighedFinding("lesion", Phi2()), "finding is 'lesion'; expected one of infection, consolidation, group_2"),
        (WeighedFinding("consolidation", Phi2(), "lung"), "within is 'lung'"),
        (WeighedFinding("infection", Phi2(), "consolidation"), "'infection' is not a part of 'consolidation'"),
        (WeighedFinding("consolidation", Phi2(), "group_4"), "'consolidation' is not a part of 'group_4'"),
    ],
)
def test_a_prior_of_what_is_no_part_is_refused(weighed: WeighedFinding, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnyLabelModule(priors=[weighed])


def test_priors_without_a_relabelling_callback_are_refused() -> None:
    module = module_of(priors=[PRIOR])
    with pytest.raises(ValueError, match=r"add callbacks\.relabel\.Relabel"):
        module.on_after_batch_transfer(batch_of([ANYTHING], [-1]), 0)


def test_annealing_raises_the_power_to_plain_em_and_keeps_it_there(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(temper=0.5, annealed=0.4)
    module._trainer.estimated_stepping_batches = 100
    powers = []
    for step in (0, 10, 20, 40, 90):
        monkeypatch.setattr(OpacityModule, "global_step", step)
        powers.append(module.power)
    assert powers == pytest.approx([0.5, 0.625, 0.75, 1.0, 1.0])
    # The network's odds of 4 to 1 between two opacities count as 4 ** power there.
    p = torch.tensor([0.0, 0.5, 0.0, 0.4, 0.1])[None, :, None, None]
    allowed = torch.tensor([False, False, True, True, True])[None, :, None, None]
    for step, odds in ((0, 2.0), (20, 4**0.75), (90, 4.0)):
        monkeypatch.setattr(OpacityModule, "global_step", step)
        q = module.posterior(p, allowed)[0, :, 0, 0]
        assert float(q[3] / q[4]) == pytest.approx(odds, rel=1e-5)
    assert module_of(temper=0.5).power == 0.5
    with pytest.raises(ValueError, match=r"model\.annealed is 2; expected a share from 0 to 1"):
        module_of(annealed=2)


@pytest.mark.parametrize(("allowed", "shows"), [(OPAQUE, True), (0b10000, True), (CLEAR, False), (0b10001, False)])
def test_a_slice_shows_opacity_where_nothing_else_is_allowed(allowed: int, shows: bool) -> None:
    target = np.full((1, 3, 3), CLEAR, np.int16)
    target[0, 1, 1] = allowed
    assert module_of().shows_finding(target) == shows


@pytest.mark.parametrize("soft", [True, False])
def test_leaves_are_stored_to_a_255th_and_ranks_exchange_them(soft: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    store = LeafStore(5, 5, (3, 7), soft, torch.device("cpu"))
    q = torch.rand(2, 5, 3, 7, generator=rng).pow(3)
    q /= q.sum(1, keepdim=True)
    known = torch.rand(2, 1, 3, 7, generator=rng) < 0.5
    rows = torch.tensor([4, 1])
    store.set(rows, q, known)
    got, where = store.get(rows)
    assert torch.equal(where, known)
    expected = q if soft else torch.nn.functional.one_hot(q.argmax(1), 5).movedim(-1, 1).float()
    assert torch.allclose(got, expected * known, atol=0.012 if soft else 0)
    assert torch.equal(store.likeliest(torch.tensor([0])), torch.full((1, 3, 7), -1))
    calls: list[Callable[..., Any]] = []
    monkeypatch.setattr(torch.distributed, "all_reduce", calls.append)
    store.exchange(torch.tensor([1, 4]), torch.tensor([True, False]))
    assert store.any(torch.tensor([1, 4])).tolist() == [True, False], "the other rank's row is its own to give"
    assert len(calls) == 1
