"""Several trained modules that answer as one: their mean probability, over mirrored slices too."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from ct.refusal import Refusal
from lightning_modules.base import SegmentationModule
from lightning_modules.consolidation import ConsolidationModule
from networks.contract import Network

NO_FLIP: tuple[int, ...] = ()
FLIPS: tuple[tuple[int, ...], ...] = (NO_FLIP, (-1,), (-2,), (-2, -1))  # axes of (B, C, H, W) that are reversed
PROBE_HU = (-2000, -1024, -700, -200, 0, 300, 2000)

Answer = Callable[[Tensor], Tensor]  # x (B, context, H, W) -> probability (B, C, H, W)


class MeanNetwork(Network):
    """Logits of the mean of several answers, each to a slice as it is and, with `flips`, mirrored in three ways.

    Args:
        members: The modules whose answers they are.
        answers: One a member, their probabilities: of one class, or of all, which then sum to 1.
        flips: Whether mirrored slices are answered too.
    """

    def __init__(self, members: nn.ModuleList, answers: Sequence[Answer], flips: bool) -> None:
        super().__init__()
        self.members, self.answers = members, tuple(answers)
        self.flips = FLIPS if flips else FLIPS[:1]

    @property
    def deepest(self) -> nn.Module:
        network: Network = self.members[0].network  # type: ignore[assignment]
        return network.deepest

    def forward(self, x: Tensor) -> Tensor:
        parts = [answer(x.flip(flip)).float().flip(flip) for answer in self.answers for flip in self.flips]
        mean = torch.stack(parts).mean(0)
        # Where all are sure beyond float32, the loss still needs finite logits.
        return mean.logit() if mean.shape[1] == 1 else mean.clamp(min=torch.finfo(mean.dtype).tiny).log()


def check_members(modules: Sequence[SegmentationModule]) -> None:
    """Refuse modules that cannot be averaged.

    Raises:
        Refusal: They are of different tasks, class sets or sizes, or see different parts of an image.
    """
    tasks = {module.task for module in modules}
    if len(tasks) > 1:
        raise Refusal(
            "the checkpoints are of different tasks ({tasks}); an ensemble needs one task",
            tasks=", ".join(sorted(tasks)),
        )
    if any(module.classes != modules[0].classes for module in modules):
        raise Refusal("the checkpoints look for different classes; an ensemble needs one class set")
    sizes = {module.size for module in modules}
    if len(sizes) > 1:
        raise Refusal(
            "the checkpoints see slices of different sizes ({sizes} pixels); an ensemble averages on one grid; "
            "give it runs of one prepared size",
            sizes=sorted(sizes),
        )
    if any(module.whole_image != modules[0].whole_image for module in modules):
        raise Refusal(
            "some of the checkpoints learned on whole images and some inside lungs; an ensemble needs members that see "
            "the same"
        )


def averaged(modules: Sequence[SegmentationModule], flips: bool = False) -> SegmentationModule:
    """Return a module that answers a prepared slice as `predict` does with these checkpoints.

    It is the first one with other networks: what is no network, such as thresholds picked on validation, is that one's.

    Args:
        modules: Trained modules, at least one.
        flips: Average over the four ways to mirror a slice too.

    Raises:
        Refusal: They cannot be averaged (see `check_members`), see other numbers of slices, or scale HU otherwise, so
            that they need an input each; those of one training set do not.
    """
    check_members(modules)
    first, members = modules[0], nn.ModuleList(modules)
    _check_inputs(modules)
    answer = deepcopy(first)
    answer.network_input = first.network_input  # type: ignore[method-assign]  # scaled as in training, whatever the data
    if isinstance(answer, ConsolidationModule):
        regions, findings = ([_part(module, name) for module in modules] for name in ("infection", "consolidation"))
        answer.infection_network = MeanNetwork(members, regions, flips)
        answer.network = MeanNetwork(members, findings, flips)
    else:
        answer.network = MeanNetwork(members, list(modules), flips)
    return answer.eval()


def _part(module: SegmentationModule, name: str) -> Answer:
    return lambda x: module.segment(x)[name]


def _check_inputs(modules: Sequence[SegmentationModule]) -> None:
    contexts = {module.hparams["context"] for module in modules}
    probe = torch.tensor(PROBE_HU, dtype=torch.int16).view(1, 1, 1, -1)
    inside = torch.ones_like(probe, dtype=torch.bool)
    inputs = [module.network_input(probe, inside) for module in modules]
    if len(contexts) > 1 or not all(torch.equal(x, inputs[0]) for x in inputs):
        raise Refusal(
            "the checkpoints see other inputs (context {contexts}, or HU scaled by other training sets), so one input "
            "does not do for all; test an ensemble of trainings on one training split",
            contexts=sorted(contexts),
        )
