"""Masks of a scan on its own grid, by one model or an ensemble."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cohort.prepare.prepare_scan import PreparedScan, prepare_scan
from ct.classes import ClassSet
from ct.scan import Scan
from inference.expected_dice import expected_dice
from inference.result import Masks
from lightning_modules.base import SegmentationModule
from lightning_modules.ensemble import FLIPS
from lightning_modules.features import pooled_features
from training.precision import fastest_precision
from training.training_set import lung_histogram

# A GPU is busy with many slices only; a CPU is as fast with few, which need less memory.
CPU_BATCH_SIZE, GPU_BATCH_SIZE = 4, 16
LEAF = "group_"  # prefix of the probabilities of single leaves

Maps = dict[str, NDArray[np.float32]]
ShareDone = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Masks of a scan and the uncertainty of the answer.

    Attributes:
        masks: (Z, Y, X) on the scan's canonical grid, as in `inference.result.Result`.
        entropy_bits: Mean over the lungs of the entropy of a voxel's class.
        shares: By finding, the share of the lungs in every single answer (members x flips).
        lung_histogram: Counts of the HU in the prepared lungs, by `training.training_set.lung_histogram`.
        features: float32 (N, C), the first member's deepest features of every slice with lung.
        expected_dice: By nested finding, float64 (Z',): `inference.expected_dice` of every prepared slice.
    """

    masks: Masks
    entropy_bits: float
    shares: dict[str, list[float]]
    lung_histogram: NDArray[np.int64]
    features: NDArray[np.float32]
    expected_dice: dict[str, NDArray[np.float64]]


def segment_scan(
    scan: Scan,
    lung: NDArray[np.bool_],
    modules: Sequence[SegmentationModule],
    flips: bool = False,
    progress: ShareDone | None = None,
    lungs_given: bool = False,
) -> Segmentation:
    """Segment a scan on its canonical grid.

    Modules that learned inside lungs see and answer these. Those that learned on whole images see all of the image, and
    their findings outside lungs that were only found belong to the lungs, since it is such parts that are not found;
    given ones are final.

    Args:
        scan: The scan.
        lung: bool (Z, Y, X) on its canonical grid.
        modules: Trained modules of one task and one prepared size; probabilities are averaged over them.
        flips: Average over the four ways to mirror a slice too.
        progress: Called with the share that is done.
        lungs_given: Whether somebody drew the lungs.

    Returns:
        Masks: bool lungs, infection and, for stage 2, consolidation, each inside the one before; for the multi-class
        task lungs, the unions of leaves, and uint8 groups, the index of the likeliest leaf.
    """
    answers = [(module, flip) for module in modules for flip in (FLIPS if flips else FLIPS[:1])]
    whole_image, classes = modules[0].whole_image, modules[0].classes
    region = np.ones_like(lung) if whole_image else lung
    prepared = prepare_scan(scan, region, size=modules[0].size)
    answered = region if whole_image and not lungs_given else lung
    seen = prepared.lung > 0
    inside = seen if answered is region else prepared.transform.apply_mask(answered) > 0
    mean: Maps = {}
    shares: dict[str, list[float]] = {}
    for number, (module, flip) in enumerate(answers):
        with pooled_features(module.network) as batches:
            answer = _probabilities(prepared, module, flip, _part(progress, number / len(answers), len(answers)))
        if number == 0:
            features = torch.cat(batches).cpu().numpy()
        for finding, share in _shares(answer, inside, classes).items():
            shares.setdefault(finding, []).append(share)
        _add(mean, answer, 1 / len(answers))
    masks, lungs = _masks(prepared, mean, answered, classes), inside
    if whole_image:
        masks["lungs"] = lung | _any_finding(masks)
        lungs = prepared.transform.apply_mask(masks["lungs"]) > 0
        of_lungs = float(inside.sum() / lungs.sum())
        shares = {name: [share * of_lungs for share in values] for name, values in shares.items()}
    # By what it sees: the training set's lungs were all of its images, too.
    histogram = lung_histogram(prepared.hu, seen)
    return Segmentation(masks, _entropy_bits(mean, lungs), shares, histogram, features, _expected_dice(mean, inside))


def _any_finding(masks: Masks) -> NDArray[np.bool_]:
    return np.logical_or.reduce([mask > 0 for name, mask in masks.items() if name != "lungs"])


def _expected_dice(mean: Maps, lung: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    promised, outer = {}, lung
    for name, probability in mean.items():
        if not name.startswith(LEAF):
            inside = np.where(outer, probability, 0)
            outer = inside > 0.5
            promised[name] = expected_dice(inside, outer)
    return promised


def _part(progress: ShareDone | None, start: float, parts: int) -> ShareDone:
    return lambda share: progress(start + share / parts) if progress else None


def _add(mean: Maps, answer: Maps, weight: float) -> None:
    for name, probability in answer.items():
        probability *= weight
        if name in mean:
            mean[name] += probability
        else:
            mean[name] = probability


def _probabilities(
    prepared: PreparedScan, module: SegmentationModule, flip: tuple[int, ...], progress: ShareDone
) -> Maps:
    """Return float32 (Z', size, size) by name on the prepared grid; slices that are not computed stay 0."""
    maps: Maps = {}
    for rows, x in _inputs(prepared, module, progress):
        with torch.inference_mode(), torch.autocast(x.device.type, torch.bfloat16, fastest_precision() == "bf16-mixed"):
            answer = module.segment(x.flip(flip))
        for name, probability in answer.items():
            volume = maps.setdefault(name, np.zeros(prepared.hu.shape, dtype=np.float32))
            volume[rows.numpy()] = probability[:, 0].float().flip(flip).cpu().numpy()
    return maps


def _inputs(
    prepared: PreparedScan, module: SegmentationModule, progress: ShareDone
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield rows of slices that can hold a finding, batch by batch, with the network's input."""
    context = module.hparams["context"]
    volume, lung = torch.from_numpy(prepared.hu), torch.from_numpy(prepared.lung > 0)
    everywhere = bool(module.classes.outside)
    rows = torch.nonzero(lung.flatten(1).any(1) | everywhere)[:, 0]
    offsets = torch.arange(-(context // 2), context // 2 + 1)
    done = 0
    for z in torch.split(rows, CPU_BATCH_SIZE if module.device.type == "cpu" else GPU_BATCH_SIZE):
        stack = volume[(z[:, None] + offsets).clamp(0, len(volume) - 1)]
        yield z, module.network_input(stack.to(module.device), lung[z][:, None].to(module.device))
        done += len(z)
        progress(done / len(rows))


def _masks(prepared: PreparedScan, mean: Maps, lung: NDArray[np.bool_], classes: ClassSet) -> Masks:
    """Return masks on the canonical grid."""
    masks: Masks = {"lungs": lung}
    outer, likeliest = lung, np.zeros(lung.shape if any(name.startswith(LEAF) for name in mean) else 0, np.float32)
    for name, probability in mean.items():
        # Interpolated as a probability and cut afterwards: smoother than a nearest-neighbour mask.
        slices = prepared.transform.restore_slices(probability)
        if name.startswith(LEAF):
            index = int(name.removeprefix(LEAF))
            leaves = masks.setdefault("groups", np.zeros(lung.shape, np.uint8))
            for indices, best, inside, level in zip(leaves, likeliest, lung, slices, strict=True):
                allowed = _allowed(classes, index, inside)
                better = allowed & (level > best)
                indices[better] = index
                np.maximum(best, level, out=best, where=allowed)
        else:
            mask = np.zeros(lung.shape, np.bool_)
            for target, inside, level in zip(mask, outer, slices, strict=True):
                np.logical_and(inside, level > 0.5, out=target)
            masks[name] = outer = mask
    return masks


def _allowed(classes: ClassSet, index: int, lung: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where a leaf can lie: inside the lungs or outside; background also outside, if another leaf is."""
    if index == 0:
        return np.ones_like(lung) if classes.outside else lung
    return lung if classes.leaves[index].in_lungs else ~lung & (index in classes.outside)


def _shares(answer: Maps, lung: NDArray[np.bool_], classes: ClassSet) -> dict[str, float]:
    """Return each finding's share of the lungs in one answer, on the prepared grid."""
    inside = {name: probability[lung] for name, probability in answer.items()}
    findings, outer = {}, np.ones(int(lung.sum()), np.bool_)
    for name, probability in inside.items():
        if not name.startswith(LEAF):
            outer = outer & (probability > 0.5)
            findings[name] = outer
    leaves = {int(name.removeprefix(LEAF)): p for name, p in inside.items() if name.startswith(LEAF)}
    if leaves:
        allowed = [index for index in leaves if index == 0 or classes.leaves[index].in_lungs]
        likeliest = np.array(allowed)[np.argmax(np.stack([leaves[index] for index in allowed]), 0)]
        findings |= {classes.leaves[index].key: likeliest == index for index in classes.foreground if index in allowed}
    return {name: float(mask.mean()) for name, mask in findings.items()}


def _entropy_bits(mean: Maps, lung: NDArray[np.bool_]) -> float:
    """Return the mean entropy of a voxel's class inside the lungs.

    The classes are the leaves, or for nested findings (consolidation lies in infection): no finding, each finding
    without the next, and the innermost.
    """
    if any(name.startswith(LEAF) for name in mean):
        levels = [probability[lung] for name, probability in mean.items() if name.startswith(LEAF)]
    else:
        nested = [np.ones(int(lung.sum()), np.float32)]
        for probability in mean.values():
            nested.append(np.minimum(nested[-1], probability[lung]))
        inner = [*nested[1:], np.zeros_like(nested[0])]
        levels = [outside - inside for outside, inside in zip(nested, inner, strict=True)]
    total = np.maximum(sum(levels), np.float32(1e-12))
    shares = [level / total for level in levels]
    terms = [np.where(share > 0, -share * np.log2(np.maximum(share, 1e-12)), 0).mean() for share in shares]
    entropy = float(sum(terms))
    assert math.isfinite(entropy)
    return max(entropy, 0.0)
