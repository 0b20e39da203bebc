"""Line charts as SVG: sharp at every size, and legible in light and dark."""

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
DASHES = ("", "7 4", "2 3", "9 3 2 3")  # so that lines differ without their colours
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # between ticks, times a power of ten


@dataclass(frozen=True, eq=False)
class Line:
    """A line of a chart, with gaps where y is not finite."""

    name: str
    colour: str
    x: ArrayLike
    y: ArrayLike


@dataclass(frozen=True)
class Axes:
    """Ranges of a chart's axes, and places of values in the drawing."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_step: float
    y_step: float

    def across(self, x: float) -> float:
        """Return the place of x, in units of the drawing from its left edge."""
        return LEFT + (x - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)

    def down(self, y: float) -> float:
        """Return the place of y, in units of the drawing from its upper edge."""
        return HEIGHT - BOTTOM - (y - self.y[0]) / (self.y[1] - self.y[0]) * (HEIGHT - TOP - BOTTOM)


def axes_of(lines: Sequence[Line]) -> Axes:
    """Return axes that hold all points of the lines, and zero of y."""
    x = np.concatenate([np.ravel(line.x) for line in lines]).astype(float)
    y = np.concatenate([np.ravel(line.y) for line in lines]).astype(float)
    y = np.append(y[np.isfinite(y)], 0.0)
    low, high = float(y.min()), float(y.max())
    high = high if low < high else 1.0  # all zero: a line at the bottom
    step = _step(low, high)
    left, right = float(x.min()), float(x.max())
    # A single point stands in the middle.
    x_range = (left, right) if left < right else (left - 1.0, right + 1.0)
    y_range = float(np.floor(low / step) * step), float(max(np.ceil(high / step), 1) * step)
    return Axes(x_range, y_range, _step(*x_range, whole=bool((x == x.round()).all())), step)


class Trace(NamedTuple):
    """A line in the drawing.

    Attributes:
        name: Its name in the legend.
        colour: A CSS colour.
        dash: Lengths of its strokes and gaps.
        runs: Its unbroken parts, each the points (across, down).
    """

    name: str
    colour: str
    dash: str
    runs: list[list[tuple[float, float]]]


def line_chart(lines: Sequence[Line], x_label: str, y_label: str, points: bool = False, here: bool = False) -> Markup:
    """Draw a chart of lines.

    Args:
        lines: At least one, with at least one point.
        x_label: Label of the horizontal axis, with its unit.
        y_label: Label of the vertical axis, with its unit.
        points: Whether every point gets a marker, for charts of few points.
        here: Whether to draw an upright line of the class `here` at the left end, which a script moves.

    Returns:
        A legend and an SVG whose text and axes have the page's colours.
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
    """Return a round number, or a whole one, of which some four span the range."""
    rough = max((high - low) / 4.5, 1.0 if whole else 1e-9)
    power = 10.0 ** np.floor(np.log10(rough))
    steps = [power * step for step in STEPS if not whole or power * step % 1 == 0]
    return float(next(step for step in steps if step >= rough * (1 - 1e-9)))


def _ticks(low: float, high: float, step: float) -> list[float]:
    return [float(step * number) for number in range(int(np.ceil(low / step - 1e-9)), int(high / step + 1e-9) + 1)]
