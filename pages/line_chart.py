"""Lines over an axis as SVG: sharp at every size, and legible in light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import ArrayLike

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


def line_chart(lines: Sequence[Line], x_label: str, y_label: str, points: bool = False, here: bool = False) -> str:
    """Draw lines.

    Args:
        lines: At least one, with at least one point.
        x_label: What the horizontal axis shows, with its unit.
        y_label: The same for the vertical one.
        points: Whether every point gets a marker: for few points.
        here: Whether to draw an upright line of the class `here`, at first at the left end, for a script to move.

    Returns:
        A legend and an <svg> that take their colours of text and axes from the page.
    """
    axes = axes_of(lines)
    parts = _grid(axes)
    for number, line in enumerate(lines):
        parts += _drawn(line, DASHES[number % len(DASHES)], axes, points)
    if here:
        parts.append(f'<line class="here" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts.append(f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    label = f"{y_label} over {x_label}"
    return (
        _legend(lines)
        + f'<svg class="chart whole" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        + "".join(parts)
        + "</svg>"
    )


def _step(low: float, high: float, whole: bool = False) -> float:
    """A round number, or a whole one, of which some four span the range."""
    rough = max((high - low) / 4.5, 1.0 if whole else 1e-9)
    power = 10.0 ** np.floor(np.log10(rough))
    steps = [power * step for step in STEPS if not whole or power * step % 1 == 0]
    return float(next(step for step in steps if step >= rough * (1 - 1e-9)))


def _ticks(low: float, high: float, step: float) -> list[float]:
    return [float(step * number) for number in range(int(np.ceil(low / step - 1e-9)), int(high / step + 1e-9) + 1)]


def _grid(axes: Axes) -> list[str]:
    parts = []
    for y in _ticks(*axes.y, axes.y_step):
        at, kind = f"{axes.down(y):.1f}", "axis" if y == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at}" dy=".35em" text-anchor="end">{y:g}</text>')
    for x in _ticks(*axes.x, axes.x_step):
        at = f"{axes.across(x):.1f}"
        parts.append(f'<line class="axis" x1="{at}" x2="{at}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 5}"/>')
        parts.append(f'<text x="{at}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{x:g}</text>')
    return parts


def _legend(lines: Sequence[Line]) -> str:
    return (
        '<div class="legend">'
        + "".join(_named(line, dash) for line, dash in zip(lines, DASHES * 2, strict=False))
        + "</div>"
    )


def _named(line: Line, dash: str) -> str:
    stroke = f'<line class="line" style="stroke: {line.colour}" stroke-dasharray="{dash}" x2="30" y1="4" y2="4"/>'
    return f'<span><svg class="chart" width="30" height="8">{stroke}</svg>{escape(line.name)}</span>'


def _drawn(line: Line, dash: str, axes: Axes, points: bool) -> list[str]:
    found, pen = [], "M"
    marks = []
    for x, y in zip(np.ravel(line.x).astype(float), np.ravel(line.y).astype(float), strict=True):
        if not np.isfinite(y):
            pen = "M"
            continue
        across, down = f"{axes.across(x):.1f}", f"{axes.down(y):.1f}"
        found.append(f"{pen}{across} {down}")
        marks.append(f'<circle class="point" style="stroke: {line.colour}" cx="{across}" cy="{down}" r="4"/>')
        pen = "L"
    path = f'<path class="line" style="stroke: {line.colour}" stroke-dasharray="{dash}" d="{"".join(found)}"/>'
    return [path, *(marks if points else [])]
