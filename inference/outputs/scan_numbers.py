"""Measurements of one scan as tiles, tables and a map of the lungs' zones."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup

from ct.classes import Finding
from ct.lungs.lobe_scores import HIGHEST, SUM
from inference.measure import SIDES, THIRDS
from inference.outputs import TEMPLATES
from pages.page import cell

ZONES = THIRDS[::-1]  # from the head
# Columns of the table of volumes and the names of their measurements; {} is the key of a finding.
COLUMNS = {"volume (ml)": "{}_ml", "mean HU": "{}_mean_hu", "mass (g)": "{}_mass_g", "SD (ml)": "{}_ml_spread"}
FULLEST = 45.0  # per cent of the finding's colour in the zone that has the most of it


def shown_percent(share: float | None) -> str:
    """Return a share of 1 as per cent, with as many digits as are worth reading."""
    if share is None:
        return "-"
    percent = 100 * share
    if percent in (0, 100) or 10 <= percent <= 99:
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if percent >= 0.1 else "< 0.1 %"


def shown_ml(volume_ml: float | None) -> str:
    """Return a volume with its unit, with as many digits as are worth reading."""
    if volume_ml is None:
        return "-"
    return f"{volume_ml:,.0f} ml" if volume_ml >= 10 or volume_ml == 0 else f"{volume_ml:.1f} ml"


def tiles(measured: Mapping[str, float | None], findings: Sequence[Finding]) -> Markup:
    """Return the few numbers that a reader looks for first, in large type."""
    values = [("lungs", shown_ml(measured.get("lung_ml")), "")]
    for finding in findings:
        share = share_of(measured, finding.key)
        volume_ml = measured.get(f"{finding.key}_ml")
        # Where a pixel has no size only shares are known.
        value = shown_ml(volume_ml) if volume_ml is not None else shown_percent(share)
        of_lungs = f"{shown_percent(share)} of the lungs" if volume_ml is not None else "of the lungs"
        values.append((finding.name, value, ", ".join([of_lungs, *_uncertainty(measured, finding.key)])))
    if (score := measured.get(SUM)) is not None:
        low, high = (measured.get(f"{SUM}_{end}") for end in ("low", "high"))
        values.append(("CT severity score", f"{score:.0f} of {HIGHEST[SUM]}", f"90 % interval {low:.0f} to {high:.0f}"))
    if (wal_percent := measured.get("wal_percent")) is not None:
        values.append(("well-aerated lung", shown_percent(wal_percent / 100), "of the lungs"))
    return TEMPLATES.render("tiles.html", tiles=values)


def share_of(measured: Mapping[str, float | None], key: str) -> float | None:
    """Return a finding's share of both lungs, from its score or its volume; None where neither is known."""
    score = {"infection": "severity_score", "consolidation": "consolidation_score"}.get(key)
    if score and score in measured:
        return measured[score]
    volume_ml, lung_ml = measured.get(f"{key}_ml"), measured.get("lung_ml")
    return volume_ml / lung_ml if volume_ml is not None and lung_ml else None


def _uncertainty(measured: Mapping[str, float | None], key: str) -> list[str]:
    if text := interval(measured, key):
        coverage = measured.get("interval_coverage")
        return [f"{100 * coverage:g} % interval {text} ml" if coverage is not None else f"interval {text} ml"]
    spread = measured.get(f"{key}_ml_spread")
    return [f"SD {spread:,.1f} ml"] if spread is not None else []


def table_of(measured: Mapping[str, float | None], findings: Sequence[Finding]) -> pd.DataFrame:
    """Return a row for the lungs and each finding; columns without any value are left out."""
    keys = {"lungs": "lung"} | {finding.name: finding.key for finding in findings}
    values = {name: [measured.get(pattern.format(key)) for key in keys.values()] for name, pattern in COLUMNS.items()}
    shares = [None, *(_percent(share_of(measured, finding.key)) for finding in findings)]
    values = {"volume (ml)": values.pop("volume (ml)"), "share of the lungs (%)": shares} | values
    columns = {
        name: np.array(column, dtype=float)
        for name, column in values.items()
        if any(value is not None for value in column)
    }
    frame = pd.DataFrame({"": list(keys)} | columns)
    intervals = [interval(measured, key) for key in keys.values()]
    return frame.assign(**{"interval (ml)": [text or "-" for text in intervals]}) if any(intervals) else frame


def interval(measured: Mapping[str, float | None], key: str) -> str:
    """Return the calibrated interval of a volume in ml as text; empty where there is none."""
    low, high = measured.get(f"{key}_ml_low"), measured.get(f"{key}_ml_high")
    if low is None or high is None:
        return ""
    return f"{low:,.0f} to {high:,.0f}" if high >= 10 else f"{low:.1f} to {high:.1f}"


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def scores(measured: Mapping[str, float | None]) -> dict[str, str]:
    """Return the scores that are defined, by the names that the papers give them."""
    names = {
        "severity_score": "severity score (infection in the lungs)",
        "consolidation_score": "consolidation score",
        "wal_percent": "well-aerated lung (%)",
        "entropy_in_lungs_bits": "mean entropy in the lungs (bits)",
    }
    return {name: cell(measured[key]) for key, name in names.items() if measured.get(key) is not None}


class Zone(NamedTuple):
    """A finding in a zone of a lung.

    Attributes:
        share: Its share of the zone, as text.
        volume: Its volume, as text; empty where it is unknown.
        strength: Per cent of the finding's colour that fills the zone.
    """

    share: str
    volume: str
    strength: float


def zones(measured: Mapping[str, float | None], findings: Sequence[Finding]) -> Markup:
    """Return a table per finding: lungs by side and third, coloured by share; empty where no share is known."""
    tables = [
        (finding, _zones(measured, finding))
        for finding in findings
        if any(measured.get(f"{side}_{finding.key}_share") is not None for side in SIDES)
    ]
    return TEMPLATES.render("zones.html", tables=tables, sides=SIDES) if tables else Markup()


def _zones(measured: Mapping[str, float | None], finding: Finding) -> dict[str, list[Zone]]:
    """Return the rows of a finding's table by their names."""
    regions = {f"{zone} third": [f"{side}_{zone}" for side in SIDES] for zone in ZONES}
    shares = [measured.get(f"{region}_{finding.key}_share") or 0.0 for row in regions.values() for region in row]
    rows = {name: [_zone(measured, finding, region, max(shares)) for region in row] for name, row in regions.items()}
    return rows | {"whole lung": [_zone(measured, finding, side, 0.0) for side in SIDES]}


def _zone(measured: Mapping[str, float | None], finding: Finding, region: str, fullest: float) -> Zone:
    share, volume_ml = (measured.get(f"{region}_{finding.key}_{what}") for what in ("share", "ml"))
    strength = FULLEST * (share or 0.0) / fullest if fullest else 0.0
    return Zone(shown_percent(share), "" if volume_ml is None else shown_ml(volume_ml), strength)
