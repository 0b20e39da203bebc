"""Lines over an axis as SVG: sharp at every size, and legible in light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike

from pages.rendering import TEMPLATES

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 12, 46
DASHES = ("", "7 4", "2 3", "9 3 2 3")  # lines differ without their colours too
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # times a power of ten: what ticks are apart


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a chart; where y is not finite it has a gap."""

    name: str
    colour: str
    x: ArrayLike
    y: ArrayLike


@dataclass(frozen=True)
class Axes:
    """What a chart's axes span, and where a value stands in the drawing."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_step: float
    y_step: float

    def across(self, x: float) -> float:
        """Units of the drawing from its left edge."""
        return LEFT + (x - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)

    def down(self, y: float) -> float:
        """Units of the drawing from its upper edge."""
        return HEIGHT - BOTTOM - (y - self.y[0]) / (self.y[1] - self.y[0]) * (HEIGHT - TOP - BOTTOM)


def axes_of(lines: Sequence[Line]) -> Axes:
    """Axes that hold all points of the lines and, upwards, zero."""
    x = np.concatenate([np.ravel(line.x) for line in lines]).astype(float)
    y = np.concatenate([np.ravel(line.y) for line in lines]).astype(float)
    y = np.append(y[np.isfinite(y)], 0.0)
    low, high = float(y.min()), float(y.max())
    high = high if low < high else 1.0  # nothing at all, all along, is a line at zero
    step = _step(low, high)
    wide = (float(x.min()), float(x.max()))
    # A single point stands in the middle; and the highest point does not touch the frame.
    x_range = wide if wide[0] < wide[1] else (wide[0] - 1.0, wide[1] + 1.0)
    y_range = float(np.floor(low / step) * step), float(max(np.ceil(high / step), 1) * step)
    return Axes(x_range, y_range, _step(*x_range, whole=bool((x == x.round()).all())), step)


class Trace(NamedTuple):
    """One line as it is drawn.

    Attributes:
        name: What it shows.
        colour: As CSS has it.
        dash: Lengths of its strokes and gaps.
        runs: Points without a gap between them, across and down.
    """

    name: str
    colour: str
    dash: str
    runs: list[list[tuple[float, float]]]


def line_chart(lines: Sequence[Line], x_label: str, y_label: str, points: bool = False, here: bool = False) -> Markup:
    """Draw lines.

    Args:
        lines: At least one, with at least one point.
        x_label: What the horizontal axis shows, with its unit.
        y_label: The same for the vertical one.
        points: Whether every point gets a marker: for few points.
        here: Whether to draw an upright line of the class `here`, at first at the left end, for a script to move.

    Returns:
        A legend and an SVG that take their colours of text and axes from the page.
    """
    axes = axes_of(lines)
    return TEMPLATES.render(
        "line_chart.html",
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        top=TOP,
        bottom=HEIGHT - BOTTOM,
        x_label=x_label,
        y_label=y_label,
        x_ticks=[(x, axes.across(x)) for x in _ticks(*axes.x, axes.x_step)],
        y_ticks=[(y, axes.down(y)) for y in _ticks(*axes.y, axes.y_step)],
        traces=[_trace(line, DASHES[number % len(DASHES)], axes) for number, line in enumerate(lines)],
        points=points,
        here=here,
    )


def _trace(line: Line, dash: str, axes: Axes) -> Trace:
    places = zip(np.ravel(line.x).astype(float), np.ravel(line.y).astype(float), strict=True)
    runs = [
        [(axes.across(x), axes.down(y)) for x, y in run]
        for finite, run in groupby(places, key=lambda place: bool(np.isfinite(place[1])))
        if finite
    ]
    return Trace(line.name, line.colour, dash, runs)


def _step(low: float, high: float, whole: bool = False) -> float:
    """A round number, or a whole one, of which some four span the range."""
    rough = max((high - low) / 4.5, 1.0 if whole else 1e-9)
    power = 10.0 ** np.floor(np.log10(rough))
    steps = [power * step for step in STEPS if not whole or power * step % 1 == 0]
    return float(next(step for step in steps if step >= rough * (1 - 1e-9)))


def _ticks(low: float, high: float, step: float) -> list[float]:
    return [float(step * number) for number in range(int(np.ceil(low / step - 1e-9)), int(high / step + 1e-9) + 1)]
