"""The any-label task: classes learned from masks of any classes, readers and patient-level labels, by one EM."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from batch import SliceBatch
from ct.refusal import Refusal, Word, word_of
from lightning_modules.augment import Augmentation, affine_grid, warp
from lightning_modules.base import Keep, SegmentationModule, network_units
from lightning_modules.latent import LeafStore, Pass, PixelStore
from lightning_modules.opacity import AIR_HU, OpacityModule
from losses.dice import leaf_dice_loss
from losses.em import SAYS_NOTHING, TINY, Prior, posterior, temper_part, unpack_leaves, weigh_part
from losses.fitted_priors import BINS, Learned, count_by_grey
from losses.soft_label import Weighting, soft_label_loss
from networks.contract import NetworkFactory
from networks.unet import UNet


@dataclass(frozen=True)
class WeighedFinding:
    """A finding whose presence in a scan says, by a prior, where it is.

    Attributes:
        finding: Key of a finding or leaf of the class set.
        prior: phi(z, x), as in paper EM.
        within: Key of the finding that it is a part of: the prior tells leaves of that one apart. Blank: of all.
    """

    finding: str
    prior: Prior
    within: str = ""


class AnyLabelModule(OpacityModule):
    """Multi-class segmenter for cohorts whose sites have different labels (docs/any_label.md).

    A pixel's target is what its readers say; else its latent label, where a patient-level label speaks; else the
    posterior of the moment over the leaves that masks leave possible. It segments like, and is stored as, a model of
    the multi-class task.

    Args:
        network: As in OpacityModule.
        context: As in OpacityModule.
        classes: As in OpacityModule.
        pretrained: As in OpacityModule.
        labels: As in OpacityModule.
        noise_model: As in OpacityModule.
        priors: The findings whose patient-level labels place them by a prior.
        e_step: `hard` keeps the likeliest leaf of the posterior as the latent label, `soft` the posterior.
        temper: Power of the network's odds between opacities in the posterior, 0 to 1 (see `losses.em.temper_part`): 1
            is plain EM; less keeps leaves alive that masks do not tell apart.
        annealed: Share of the training over which `temper` rises to 1; 0 leaves it as it is.
        loss: `divergence` of paper L3, or `dice` (equation 11, over the batch and all leaves of findings).
        weighting: As in OpacityModule.
        weight_exponent: As in OpacityModule.
        window_hu: As in OpacityModule.
        mean_hu: As in OpacityModule.
        std_hu: As in OpacityModule.
        keep: As in OpacityModule; the `best` epoch is chosen by validation masks, which is no weak supervision.
        augmentation: Augmentation of training batches.
    """

    def __init__(
        self,
        network: NetworkFactory = UNet,
        context: int = 1,
        classes: str | dict[str, Any] = "l3",
        pretrained: str = "",
        labels: Literal["soft", "hard"] = "hard",
        noise_model: str = "",
        priors: list[WeighedFinding] | None = None,
        e_step: Literal["hard", "soft"] = "soft",
        temper: float = 1.0,
        annealed: float = 0.0,
        loss: Literal["divergence", "dice"] = "divergence",
        weighting: Weighting = "pixel",
        weight_exponent: float = 1.0,
        window_hu: tuple[float, float] = (-1000.0, 350.0),
        mean_hu: float | None = None,
        std_hu: float | None = None,
        keep: Keep = "last",
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__(
            network, context, classes, pretrained, labels, noise_model, "mean", weighting, weight_exponent, window_hu,
            mean_hu, std_hu, keep, augmentation,
        )  # fmt: skip
        self.weighed = list(priors or ())
        if not 0 <= temper <= 1:
            raise Refusal("model.temper is {temper}; expected a number from 0 to 1", temper=temper)
        if not 0 <= annealed <= 1:
            raise Refusal("model.annealed is {annealed}; expected a share from 0 to 1", annealed=annealed)
        self.e_step, self.temper, self.annealed, self.loss = e_step, temper, annealed, loss
        for weighed in self.weighed:
            self._check(weighed)
        self.latent: LeafStore | None = None
        self.e_step_figures: dict[str, float] = {}
        # Of every weighed finding, how much of it and of the rest of its region has each grey value, in this E-step.
        self.greys: Tensor | None = None

    def _check(self, weighed: WeighedFinding) -> None:
        unions = self.classes.unions
        for option, key in (("finding", weighed.finding), ("within", weighed.within)):
            if key not in unions and (option, key) != ("within", ""):
                raise Refusal(
                    "model.priors: {option} is {key!r}; expected one of {keys}, findings and leaves of the class set",
                    option=word_of(option, ("finding", "within")),
                    key=key,
                    keys=", ".join(unions),
                )
        if not set(self.part(weighed)) < set(self.whole(weighed)):
            text = "model.priors: {finding!r} is not a part of {within!r}; name a finding that holds it and more"
            raise Refusal(text, finding=weighed.finding, within=weighed.within)

    def part(self, weighed: WeighedFinding) -> tuple[int, ...]:
        """Return the leaves of a weighed finding."""
        return self.classes.unions[weighed.finding]

    def whole(self, weighed: WeighedFinding) -> tuple[int, ...]:
        """Return the leaves among which its prior tells."""
        return self.classes.unions[weighed.within] if weighed.within else self.classes.indices

    # -- labels --------------------------------------------------------------------------------------------------------

    def labels(self, scans: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
        bits = scans[[f"has_{key}" for key in self.classes.unions]].to_numpy() >= 0
        masks = scans[["has_pattern_mask", "has_infection_mask"]].to_numpy() == 1
        needed: dict[str, NDArray[np.bool_]] = {
            Word("a mask, a report or a patient-level label (has_<finding>)"): masks.any(1) | bits.any(1)
        }
        for weighed in self.weighed:
            positive = scans[f"has_{weighed.finding}"].to_numpy() == 1
            if not positive.any():
                text = "model.priors: no training scan is known to have {finding!r}; add has_<finding> or reports"
                raise Refusal(text, finding=weighed.finding)
        return needed

    def shows_finding(self, target: NDArray[Any]) -> bool:
        """Tell whether some pixel is known to be an opacity of whatever kind; target holds a bit for each leaf."""
        opaque = sum(1 << leaf for leaf in self.classes.opacities)
        return bool(((target & ~np.int16(opaque)) == 0).any())

    # -- M-step --------------------------------------------------------------------------------------------------------

    def on_after_batch_transfer(self, batch: SliceBatch, dataloader_idx: int) -> SliceBatch:
        if self.trainer.training and self.weighed and self.latent is None:
            raise Refusal(
                "model.priors are given but nothing relabels: add callbacks.relabel.Relabel to trainer.callbacks"
            )
        return self.augment(batch) if self.trainer.training else super().to_input(batch)

    def to_input(self, batch: SliceBatch) -> SliceBatch:
        """Add x alone: the E-step does not ask what readers say."""
        return SegmentationModule.to_input(self, batch)

    def augment(self, batch: SliceBatch) -> SliceBatch:
        """Add x and the distribution of every pixel's label, latent ones too, and move all together."""
        mean, _ = self.targets(batch["target"], batch["border"], batch["votes"])
        known = batch["target"] >= 0
        if self.latent is not None:
            q, labelled = self.latent.unpack(batch["latent"])
            mean, known = torch.where(labelled & ~known, q, mean), known | labelled
        grid = affine_grid(self.draw_affine(len(known)), batch["image"].shape)
        hu, lung = batch["image"], batch["lung"]
        air = self.network_input(torch.full((), AIR_HU, device=hu.device), lung)
        batch["x"] = warp(self.network_input(hu, lung) - air, grid, "bilinear") + air
        masks = warp(torch.cat([lung, batch["allowed"]], 1).float(), grid, "nearest").to(torch.int16)
        anything = (1 << len(self.classes.leaves)) - 1
        batch["lung"] = masks[:, :1].bool()
        batch["allowed"] = torch.where(masks[:, 1:] == 0, anything, masks[:, 1:])  # what enters is unlabelled
        batch["mean"] = warp(mean, grid, "bilinear")
        # A pixel that is mixed with one that has no distribution has none.
        known = warp(known.float(), grid, "bilinear") > 0.999
        batch["target"] = torch.where(known, batch["mean"].argmax(1, keepdim=True), -1).to(torch.int8)
        return batch

    def training_step(self, batch: SliceBatch, batch_idx: int) -> Tensor:
        logits, known = self.network(self.vary(batch)), batch["target"] >= 0
        allowed = unpack_leaves(batch["allowed"], self.outputs)
        with torch.no_grad():
            now = self.posterior(logits.float().softmax(1), allowed)
            q = torch.where(known, batch["mean"], now)
        informed = known | ~allowed.all(1, keepdim=True)
        if self.loss == "dice":
            loss = leaf_dice_loss(logits, q, informed, self.classes.foreground)
        else:
            loss = soft_label_loss(logits, q, informed, self.class_frequency, *self.weights)
        inside, outside = self._in_and_out()
        with torch.no_grad():
            predicted = logits[:, inside].float().logsumexp(1) > logits[:, outside].float().logsumexp(1)
            opaque = torch.where(allowed[:, outside].any(1), -1, 1)
            opaque = torch.where(allowed[:, inside].any(1), opaque, 0)
        self.log_step(batch, predicted, torch.where(known[:, 0], self.opaque(batch["target"][:, 0]), opaque), loss)
        return loss

    def posterior(self, p: Tensor, allowed: Tensor) -> Tensor:
        """Return the posterior of every pixel's leaf by the network and its masks, both (B, C, H, W)."""
        return temper_part(posterior(p, allowed), self.classes.opacities, self.power)

    @property
    def power(self) -> float:
        """Power of the odds at this step: deterministic annealing EM raises it as the labels are learned."""
        if not self.annealed:
            return self.temper
        done = self.global_step / self.trainer.estimated_stepping_batches
        return self.temper + (1 - self.temper) * min(1.0, done / self.annealed)

    # -- E-step, called by callbacks.relabel ---------------------------------------------------------------------------

    @property
    def counted(self) -> int:
        """How many numbers `relabel` counts."""
        return 3 + len(self.classes.opacities)

    @property
    def counted_leaves(self) -> tuple[str, ...]:
        """Keys of the leaves whose latent labels are counted."""
        return tuple(self.classes.leaves[index].key for index in self.classes.opacities)

    def prepare_latent(self, num_slices: int, size: int, folder: Path | None = None) -> tuple[PixelStore, ...]:
        """Make room for the latent labels of a train table; see `ConsolidationModule.prepare_latent`."""
        file = folder / "latent" if folder else None
        self.latent = LeafStore(num_slices, self.outputs, (size, size), self.e_step == "soft", self.device, file)
        return (self.latent,)

    def relabelled(self, scans: pd.DataFrame) -> NDArray[np.bool_]:
        """Tell which scans get latent labels, bool (N,): those known to have a weighed finding."""
        positive = [scans[f"has_{weighed.finding}"].to_numpy() == 1 for weighed in self.weighed]
        return np.any(positive, 0) if positive else np.zeros(len(scans), np.bool_)

    def e_step_passes(self, rows: NDArray[np.int64]) -> Iterator[Pass]:
        """Yield the one pass over the rows (n,) to be labelled."""
        yield "E-step", rows, self.relabel

    @torch.no_grad()
    def latent_labels(self, batch: SliceBatch, count: int) -> tuple[Tensor, Tensor]:
        """Return the posterior by the current weights, masks and priors, and where a prior speaks.

        Args:
            batch: With x, as it stands.
            count: Slices that count, for the fit of priors.

        Returns:
            q, float32 (B, C, H, W), and bool (B, 1, H, W): in scans that have the finding, what is more likely than not
            the finding that it is a part of, with more than one leaf of that possible.
        """
        was_training = self.network.training
        self.network.eval()
        allowed = unpack_leaves(batch["allowed"], self.outputs)
        q = self.posterior(self(batch["x"]), allowed)
        self.network.train(was_training)
        centre = batch["x"].shape[1] // 2
        x = network_units(batch["x"][:, centre : centre + 1].float() * self.hu_std + self.hu_mean)
        unlabelled = batch["target"] < 0
        speaks = torch.zeros_like(unlabelled)
        for number, weighed in enumerate(self.weighed):
            part, whole = list(self.part(weighed)), list(self.whole(weighed))
            z = batch["bits"][:, list(self.classes.unions).index(weighed.finding)]
            here = (z == 1).view(-1, 1, 1, 1) & unlabelled & (allowed[:, whole].sum(1, keepdim=True) > 1)
            here &= q[:, whole].sum(1, keepdim=True) > 0.5
            if weighed.prior.sees_network:
                rest = [leaf for leaf in whole if leaf not in part]
                odds = _log_of_likeliest(q, part) - _log_of_likeliest(q, rest)
                phi = weighed.prior.given_network(z, x, odds, here)
            else:
                phi = weighed.prior(z, x)
            phi = phi.where((z == 1).view(-1, 1, 1, 1), SAYS_NOTHING)
            q = weigh_part(q, phi, part, whole)
            self._count_greys(number, x[:count], q[:count], here[:count])
            speaks |= here
        return q, speaks

    def _no_greys(self) -> Tensor:
        return torch.zeros(len(self.weighed), 2, BINS, dtype=torch.float64, device=self.device)

    def _count_greys(self, number: int, x: Tensor, q: Tensor, region: Tensor) -> None:
        """Count what the prior of a weighed finding is fitted to."""
        if self.greys is None:
            self.greys = self._no_greys()
        weighed = self.weighed[number]
        of_whole = q[:, list(self.whole(weighed))].sum(1, keepdim=True).clamp(min=TINY)
        share = (q[:, list(self.part(weighed))].sum(1, keepdim=True) / of_whole)[region]
        self.greys[number, 0] += count_by_grey(x[region], share)
        self.greys[number, 1] += count_by_grey(x[region], 1 - share)

    def relabel(self, batch: SliceBatch, count: int) -> Tensor:
        """Store new latent labels; return, for the first `count` slices, pixels labelled as the first weighed finding,
        changed, and in the region, then labelled as each of `counted_leaves`, int64 (counted,)."""
        assert self.latent is not None, "prepare_latent makes it"
        rows = batch["slice_index"]
        before = self.latent.likeliest(rows)
        q, speaks = self.latent_labels(batch, count)
        self.latent.set(rows, q, speaks)
        after = self.latent.likeliest(rows)
        changed = (after != before).flatten(1).sum(1)
        changed = self.latent.note_changes(rows, changed, self.current_epoch)
        return self._counts(after[:count], changed[:count])

    def relabel_batch(self, batch: SliceBatch) -> Tensor:
        """Give a training batch new labels, as the network is about to see it; return counts as `relabel` does."""
        q, speaks = self.latent_labels(batch, len(batch["x"]))
        if self.e_step == "hard":
            q = torch.nn.functional.one_hot(q.argmax(1), self.outputs).movedim(-1, 1).float()
        batch["mean"] = torch.where(speaks, q, batch["mean"])
        leaves = torch.where(speaks, q.argmax(1, keepdim=True), -1)
        batch["target"] = torch.where(speaks, leaves.to(torch.int8), batch["target"])
        return self._counts(leaves[:, 0], torch.zeros_like(speaks[:, 0]))

    def _counts(self, leaves: Tensor, changed: Tensor) -> Tensor:
        of_leaves = torch.bincount(leaves.flatten() + 1, minlength=self.outputs + 1)[1:]
        labelled = of_leaves[list(self.part(self.weighed[0]))].sum() if self.weighed else of_leaves.sum()
        counts = torch.stack([labelled, changed.sum(), of_leaves.sum()])
        return torch.cat([counts, of_leaves[list(self.classes.opacities)]])

    def end_e_step(self) -> dict[str, float]:
        """Fit the priors that are learned to the posterior; return their parameters. Every rank must call it."""
        greys = self._no_greys() if self.greys is None else self.greys
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(greys)
        self.greys = None
        figures: dict[str, float] = {}
        for number, weighed in enumerate(self.weighed):
            if isinstance(weighed.prior, Learned):
                prior = weighed.prior.refitted(*greys[number])
                self.weighed[number] = replace(weighed, prior=prior)
                figures |= {f"e_step/{weighed.finding}/b2": prior.b2, f"e_step/{weighed.finding}/k2": prior.k2}
        return figures

    # -- results and checkpoints ---------------------------------------------------------------------------------------

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        figures = self.e_step_figures.items()
        self.test_metrics |= {key: value if math.isfinite(value) else None for key, value in figures}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["ground_glass"]["e_step"] = self.e_step_figures

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.e_step_figures = dict(checkpoint["ground_glass"].get("e_step", {}))
        for number, weighed in enumerate(self.weighed):
            b2, k2 = (self.e_step_figures.get(f"e_step/{weighed.finding}/{name}") for name in ("b2", "k2"))
            if isinstance(weighed.prior, Learned) and b2 is not None and k2 is not None:
                self.weighed[number] = replace(weighed, prior=replace(weighed.prior, b2=b2, k2=k2))


def _log_of_likeliest(q: Tensor, leaves: list[int]) -> Tensor:
    """Return the logarithm of the largest probability of some leaves, (B, 1, H, W)."""
    return q[:, leaves].amax(1, keepdim=True).clamp(min=TINY).log()
