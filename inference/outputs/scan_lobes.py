"""Lobes and densities of one scan as a drawing and tables."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from ct.classes import Finding
from ct.lungs.lobe_scores import HIGHEST, LOBE_SCORES, SUM
from inference.outputs import TEMPLATES
from inference.outputs.scan_numbers import FULLEST, shown_percent
from inference.overlays import LOBE_LEGEND, Lobe

Measured = Mapping[str, float | None]

# Outline of each lobe from the front, the patient's right on the left, and where its numbers stand.
OUTLINES = (
    ("M92 12C66 8 40 42 29 100L99 96C101 60 101 26 92 12Z", 70, 62),
    ("M99 100L47 103L78 190C88 186 94 182 97 176C100 150 100 126 99 100Z", 80, 132),
    ("M28 104L43 103L74 191C54 196 30 199 18 196C15 170 19 136 28 104Z", 37, 160),
    (
        "M128 12C154 8 177 36 188 84L141 182C132 180 126 174 125 166C137 152 134 128 122 118C119 80 119 26 128 12",
        150,
        74,
    ),
    ("M189 88C200 130 205 168 202 196C184 199 162 194 145 185Z", 178, 152),
)
# Columns of the table of densities and their keys behind the region's.
DENSITIES = {
    "mean HU": "mean_hu",
    "SD": "sd_hu",
    "Perc15": "percentile_15_hu",
    "LAA-950 (%)": "emphysema_percent",
    "inflated (%)": "inflated_percent",
    "infiltrated (%)": "infiltrated_percent",
    "collapsed (%)": "collapsed_percent",
    "dense (%)": "dense_percent",
    "HAA (%)": "haa_percent",
}
REGIONS = {
    "both lungs": "lung",
    "right lung": "right",
    "left lung": "left",
    **{lobe.name: lobe.key for lobe in LOBE_LEGEND},
    "ventral half": "ventral",
    "dorsal half": "dorsal",
}


class DrawnLobe(NamedTuple):
    """A lobe of the drawing.

    Attributes:
        name: Its name.
        outline: SVG path.
        x: Where its numbers stand.
        y: The same.
        share: Its involved share, as text.
        score: Its score, as text.
        text: Both, and the interval of the score.
        strength: Per cent of the finding's colour that fills it.
        slice: Position in the page's slices of the one that shows most of it.
    """

    name: str
    outline: str
    x: int
    y: int
    share: str
    score: str
    text: str
    strength: float
    slice: int


def draw_lobes(measured: Measured, finding: Finding, slices: Sequence[int]) -> Markup:
    """Return a drawing of the lobes, coloured by the share of a finding; a click shows the slice with most of it.

    Args:
        measured: The scan's measurements.
        finding: The finding.
        slices: For each lobe, the position of that slice in the page's slider.
    """
    shares = [measured.get(f"{lobe.key}_{finding.key}_share") for lobe in LOBE_LEGEND]
    fullest = max(share or 0.0 for share in shares)
    lobes = []
    for lobe, (outline, x, y), share, place in zip(LOBE_LEGEND, OUTLINES, shares, slices, strict=True):
        score = score_text(measured, LOBE_SCORES[lobe.key])
        strength = FULLEST * (share or 0.0) / fullest if fullest else 0.0
        text = f"{shown_percent(share)}, score {score}"
        shown = (shown_percent(share), score.split(" ")[0], text)
        lobes.append(DrawnLobe(lobe.name, outline, x, y, *shown, strength, place))
    return TEMPLATES.render("lobes.html", lobes=lobes, finding=finding)


def score_text(measured: Measured, key: str) -> str:
    """Return a score with its interval as text; a dash where it is unknown."""
    score, low, high = (measured.get(f"{key}{end}") for end in ("", "_low", "_high"))
    if score is None or low is None or high is None:
        return "-"
    return f"{score:.0f} ({low:.0f} to {high:.0f})" if low < high else f"{score:.0f}"


def lobe_table(measured: Measured, findings: Sequence[Finding]) -> pd.DataFrame:
    """Return a row for each lobe, with its volume, the shares of the findings and its score; the sum is the last."""
    rows = []
    for lobe in LOBE_LEGEND:
        shares = {f"{finding.name} (%)": _share(measured, lobe, finding) for finding in findings}
        volume = {"": lobe.name, "volume (ml)": measured.get(f"{lobe.key}_lung_ml")}
        rows.append({**volume, **shares, "score (90 % interval)": score_text(measured, LOBE_SCORES[lobe.key])})
    total = score_text(measured, SUM)
    sizes = [row["volume (ml)"] for row in rows]
    volume_ml = None if None in sizes else sum(size for size in sizes if isinstance(size, float))
    title = f"CT severity score, 0 to {HIGHEST[SUM]}"
    rows.append({"": title, "volume (ml)": volume_ml, "score (90 % interval)": total})
    return pd.DataFrame(rows)


def _share(measured: Measured, lobe: Lobe, finding: Finding) -> float | None:
    share = measured.get(f"{lobe.key}_{finding.key}_share")
    return None if share is None else 100 * share


def density_table(measured: Measured) -> pd.DataFrame:
    """Return a row for each region with its densities, vessels included; regions without any are left out."""
    rows = []
    for name, region in REGIONS.items():
        values = {title: measured.get(f"{region}_{key}") for title, key in DENSITIES.items()}
        if any(value is not None for value in values.values()):
            rows.append({"": name, **{title: np.nan if value is None else value for title, value in values.items()}})
    return pd.DataFrame(rows)


def fullest_slices(lobes: NDArray[np.int8], opacity: NDArray[np.bool_], chosen: NDArray[np.intp]) -> list[int]:
    """Return for each lobe the position in `chosen` of the slice with most opacity in it, or else with most of it.

    Args:
        lobes: int8 (Z, Y, X).
        opacity: bool (Z, Y, X).
        chosen: Indices of slices.
    """
    size = np.zeros((len(chosen), len(LOBE_LEGEND) + 1), dtype=np.int64)
    marked = np.zeros_like(size)
    for row, z in enumerate(chosen):
        size[row] = np.bincount(lobes[z].ravel(), minlength=size.shape[1])
        marked[row] = np.bincount(lobes[z][opacity[z]], minlength=size.shape[1])
    numbers = range(1, size.shape[1])
    return [int((marked if marked[:, number].any() else size)[:, number].argmax()) for number in numbers]
