"""Curves of Dice by CPU time: means over folds, the time until the best peer's best Dice, table and picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct.refusal import Refusal
from evaluation.report.drawing import DOTS_PER_INCH, LINE_COLOURS, MARKERS
from evaluation.tables import markdown

# isort: split
from matplotlib import pyplot as plt

OURS = "ours"
LABELS = {
    OURS: "ours",
    "basic_unet": "MONAI BasicUNet",
    "dynunet": "MONAI DynUNet",
    "smp_unet_resnet34": "smp UNet-ResNet34",
    "nnunet_2d": "nnU-Net v2 2D",
}
STYLES = dict(zip(LABELS, ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))), strict=True))


@dataclass(frozen=True, eq=False)
class Curve:
    """The trainings of one method with one budget, by checkpoint.

    Attributes:
        method: Its key in LABELS.
        budget_s: CPU seconds of each.
        folds: Which folds.
        cpu_s: (folds, checkpoints), when they were evaluated.
        dice: (folds, checkpoints), the mean over the held-out patients.
        steps: (folds, checkpoints), steps of the optimizer until then.
    """

    method: str
    budget_s: float
    folds: tuple[int, ...]
    cpu_s: NDArray[np.float64]
    dice: NDArray[np.float64]
    steps: NDArray[np.int64]

    @property
    def mean_cpu_s(self) -> NDArray[np.float64]:
        """The mean over folds of the time of each checkpoint."""
        return self.cpu_s.mean(0)

    @property
    def mean_dice(self) -> NDArray[np.float64]:
        """The mean over folds of the Dice at each checkpoint."""
        return self.dice.mean(0)

    @property
    def label(self) -> str:
        """What figures call it."""
        return f"{LABELS[self.method]}, {self.budget_s:g} s"

    def first_reaches(self, dice: float) -> float | None:
        """Return when the mean over folds is at least a Dice for the first time; None where it never is."""
        reached = np.flatnonzero(self.mean_dice >= dice)
        return float(self.mean_cpu_s[reached[0]]) if len(reached) else None


def curves_of(points: Sequence[dict[str, Any]]) -> list[Curve]:
    """Gather the curves of all methods and budgets, over the folds that all of them have begun.

    A fold that one of them lacks would compare different patients. Checkpoints that a fold has not reached yet, or has
    passed within one long step, are left out of that method's curve.

    Raises:
        Refusal: There is no fold that all have begun.
    """
    of_training: dict[tuple[str, float], dict[int, dict[int, dict[str, Any]]]] = {}
    for point in points:
        folds = of_training.setdefault((point["method"], point["budget_s"]), {})
        folds.setdefault(point["fold"], {})[point["checkpoint"]] = point
    common = sorted(set.intersection(*map(set, of_training.values()))) if of_training else []
    if not common:
        begun = {f"{method}, {budget:g} s": sorted(folds) for (method, budget), folds in of_training.items()}
        raise Refusal("the trainings have no fold in common ({begun}); expected points of one fold at least from each",
                      begun=begun)  # fmt: skip
    curves = []
    for (method, budget), folds in of_training.items():
        checkpoints = sorted(set.intersection(*(set(folds[fold]) for fold in common)))
        if checkpoints:
            rows = [[folds[fold][checkpoint] for checkpoint in checkpoints] for fold in common]
            arrays = [
                np.array([[point[key] for point in row] for row in rows]) for key in ("cpu_s", "dice_mean", "steps")
            ]
            curves.append(Curve(method, budget, tuple(common), *arrays))
    order = list(LABELS)
    return sorted(curves, key=lambda curve: (order.index(curve.method), curve.budget_s))


def best_peer(curves: Sequence[Curve]) -> tuple[Curve, float, float] | None:
    """Return the peer with the highest mean Dice at any time, that Dice, and when it had it; None without peers."""
    peers = [curve for curve in curves if curve.method != OURS]
    if not peers:
        return None
    peer = max(peers, key=lambda curve: float(curve.mean_dice.max()))
    best = int(peer.mean_dice.argmax())
    return peer, float(peer.mean_dice[best]), float(peer.mean_cpu_s[best])


def table(curves: Sequence[Curve]) -> str:
    """Return the Markdown table of all curves: steps, best and last Dice, and the time until the best peer's best."""
    peer = best_peer(curves)
    target = f"s until {peer[1]:.3f}" if peer else "s until a peer's best"
    header = [
        "method, budget in CPU s",
        "folds",
        "steps",
        "best Dice",
        "at s",
        "last Dice",
        target,
        "of the peer's time",
    ]
    rows = []
    for curve in curves:
        reached = curve.first_reaches(peer[1]) if peer else None
        best = int(curve.mean_dice.argmax())
        rows.append(
            [
                curve.label,
                str(len(curve.folds)),
                f"{curve.steps[:, -1].mean():.0f}",
                f"{curve.mean_dice[best]:.3f}",
                f"{curve.mean_cpu_s[best]:.0f}",
                f"{curve.mean_dice[-1]:.3f}",
                "never" if reached is None else f"{reached:.0f}",
                "" if reached is None or peer is None else f"{reached / peer[2]:.2f}",
            ]
        )
    return markdown(header, rows)


def draw(curves: Sequence[Curve], path: Path, title: str = "") -> None:
    """Draw every fold thin and the mean over folds thick, against CPU seconds, with the best peer's best Dice.

    Args:
        curves: At least one.
        path: The picture.
        title: Its title.
    """
    figure, axis = plt.subplots(figsize=(7.2, 5.4), layout="constrained")
    for curve in curves:
        place = list(LABELS).index(curve.method)
        style: dict[str, Any] = {"color": LINE_COLOURS[place % len(LINE_COLOURS)], "linestyle": STYLES[curve.method]}
        for seconds, dice in zip(curve.cpu_s, curve.dice, strict=True):
            axis.plot(seconds, dice, linewidth=0.7, alpha=0.6, **style)
        budgets = [other.budget_s for other in curves if other.method == curve.method]
        end: dict[str, Any] = {
            "marker": MARKERS[budgets.index(curve.budget_s) % len(MARKERS)],
            "markevery": [-1],
            "markersize": 7,
        }
        axis.plot(curve.mean_cpu_s, curve.mean_dice, linewidth=2.4, label=curve.label, **style, **end)
    if peer := best_peer(curves):
        axis.axhline(peer[1], color="0.4", linewidth=0.8, label=f"best of a peer: {peer[1]:.3f}")
    axis.set(xlabel="CPU seconds of training", ylabel="Dice of infection, mean over held-out patients", ylim=(0, 1))
    axis.set_xlim(left=0)
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, handlelength=4, frameon=False)
    axis.set_title(title, fontsize=10)
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)
