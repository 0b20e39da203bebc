"""Style shared by all figures: markers and colours, slices with their sides, and how figures are saved."""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

# Figures are written to files, also where there is no display. Whoever draws imports this module.
matplotlib.use("Agg")
from matplotlib import pyplot as plt

Extent = tuple[float, float, float, float]  # left, right, bottom, top

DOTS_PER_INCH = 150
WINDOW_HU = (-1000, 350)  # the lung window of paper L3

# The findings in the order in which figures show them; their colours are in `ct.classes`.
FINDING_MARKER: dict[str, str] = {
    "infection": "o",
    "consolidation": "s",
    "threshold": "^",
    "opacity": "o",
    "group_2": "D",
    "group_3": "v",
    "group_4": "s",
}


def marker_of(finding: str) -> str:
    """Return the marker of a finding; of another class set than the papers', one of MARKERS by its name."""
    return FINDING_MARKER.get(finding) or MARKERS[sum(map(ord, finding)) % len(MARKERS)]


def rank_of(finding: str) -> int:
    """Return the place of a finding in a figure that shows several; those of other class sets come last."""
    return list(FINDING_MARKER).index(finding) if finding in FINDING_MARKER else len(FINDING_MARKER)


# One for each line of a figure, beside its colour, so that it can be read in black and white.
MARKERS: tuple[str, ...] = ("o", "s", "^", "D", "v", "P", "X", "*")
LINE_STYLES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
HATCHES: tuple[str, ...] = ("", "///", "...", "xxx", "\\\\\\", "ooo")
# Of sites, runs and settings: no finding has any of these (after Tol's "muted" scheme).
LINE_COLOURS: tuple[str, ...] = ("#332288", "#882255", "#999933", "#88CCEE", "#663300", "#777777", "#DDCC77")


def point_styles() -> Iterator[tuple[str, str]]:
    """Yield marker and colour of one site, run or setting after the other, without end."""
    return zip(cycle(MARKERS), cycle(LINE_COLOURS))


def crop_to(mask: NDArray[np.bool_], margin_pixels: int = 3) -> tuple[slice, slice]:
    """Return the index of the smallest rectangle around a mask (H, W), with a margin; the whole slice if empty."""
    spans = []
    for axis, length in zip((1, 0), mask.shape, strict=True):
        inside = np.flatnonzero(mask.any(axis))
        first, last = (int(inside[0]), int(inside[-1])) if inside.size else (0, length - 1)
        spans.append(slice(max(first - margin_pixels, 0), min(last + margin_pixels + 1, length)))
    return spans[0], spans[1]


def extent_of(shape: tuple[int, ...], scan: Any) -> tuple[Extent, str]:
    """Return the sides of a slice and their unit: mm, or pixels where the spacing is unknown.

    Args:
        shape: (H, W) of the slice.
        scan: The scan's row of a table, with spacing_y_mm and spacing_x_mm.
    """
    spacing = np.array([scan["spacing_y_mm"], scan["spacing_x_mm"]], float)
    unit, spacing = ("mm", spacing) if np.isfinite(spacing).all() else ("pixels", np.ones(2))
    height, width = spacing * shape
    return (0, width, height, 0), unit


def outline(axis: Any, mask: NDArray[np.bool_], extent: Extent, **style: Any) -> None:
    """Outline a mask (H, W) on a slice that imshow drew with the same extent."""
    if mask.any() and not mask.all():
        left, right, bottom, top = extent
        # `origin` makes contour place the pixel centres where imshow, with row 0 on top, does.
        axis.contour(mask, levels=[0.5], extent=(left, right, top, bottom), origin="lower", **style)


def save(figure: Any, path: Path) -> None:
    """Write a figure as <path>.png and <path>.pdf, and close it.

    Args:
        figure: A matplotlib figure.
        path: Where to, without a suffix; its folder is made if needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Laid out once: otherwise every file would be, which takes longer than drawing it.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    figure.savefig(path.with_suffix(".png"), dpi=DOTS_PER_INCH)
    # Without the time of day, so that the same figures are the same files.
    figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
    plt.close(figure)
