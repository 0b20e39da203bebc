"""What all figures share: where they are drawn, how they are saved, and what tells their lines apart."""

from pathlib import Path
from typing import Any

import matplotlib

# Figures are written to files, also where there is no display. Whoever draws imports this module.
matplotlib.use("Agg")
from matplotlib import pyplot as plt

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
    """Return the marker of a finding; those of other class sets than the papers' take what there is."""
    return FINDING_MARKER.get(finding) or MARKERS[sum(map(ord, finding)) % len(MARKERS)]


def rank_of(finding: str) -> int:
    """Return where a finding stands in a figure that shows several; unknown ones come last."""
    return list(FINDING_MARKER).index(finding) if finding in FINDING_MARKER else len(FINDING_MARKER)


# One per line of a figure, beside its colour, so that it can be read in black and white.
MARKERS: tuple[str, ...] = ("o", "s", "^", "D", "v", "P", "X", "*")
LINE_STYLES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
HATCHES: tuple[str, ...] = ("", "///", "...", "xxx", "\\\\\\", "ooo")
# Sites, runs and settings, which have no colour of their own: none is that of a finding (after Tol's "muted" scheme).
LINE_COLOURS: tuple[str, ...] = ("#332288", "#882255", "#999933", "#88CCEE", "#663300", "#777777", "#DDCC77")


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
