"""Tables of measurements for visitors, with words in place of keys and with units."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from ct.classes import Finding
from ct.lungs.lobe_scores import HIGHEST, LOBE_SCORES, SUM
from inference.measure import SIDES
from inference.outputs.scan_lobes import density_table, score_text
from inference.outputs.scan_numbers import ZONES, scores, shown_ml, shown_percent, table_of
from inference.overlays import LOBE_LEGEND

UNKNOWN = "-"
Measured = Mapping[str, float | None]
# Keys of regions in measurements, and their names.
REGIONS = {side: f"{side} lung" for side in SIDES} | {
    f"{side}_{zone}": f"{side} lung, {zone} third" for side in SIDES for zone in ZONES
}
LOBES = {lobe.key: lobe.name for lobe in LOBE_LEGEND}
ABOUT = (
    "All is measured on the grid of the scan itself, inside the lungs; a dash stands for what cannot be known. HU: how "
    "dense the tissue is on average (air -1000, water 0). Mass: of the tissue without its air. SD: how far the answers "
    "differ that were averaged. Interval: where the volume that a reader would draw lies, as often as it states, for "
    "scans like those it was made from. Severity: share of the lungs with infection. Entropy: how undecided the model "
    "is, 0 where it is sure."
)


def volumes_table(measured: Measured, findings: Sequence[Finding]) -> pd.DataFrame:
    """Return volumes, shares, HU and masses as text: a row for the lungs and for each finding."""
    return table_of(measured, findings).set_index("").map(_number)


def _number(value: float | str) -> str:
    """Return a number with as many digits as are worth reading; a dash where it is undefined."""
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.0f}" if abs(value) >= 10 or value == 0 else f"{value:.1f}"


def region_table(measured: Measured, findings: Sequence[Finding]) -> pd.DataFrame:
    """Return a row of text for each side, third and lobe; no rows where these were not measured."""
    rows = {
        name: {"lung": shown_ml(measured[f"{region}_lung_ml"])}
        | {finding.name: _amount(measured, f"{region}_{finding.key}") for finding in findings}
        for region, name in (REGIONS | LOBES).items()
        if f"{region}_lung_ml" in measured and (region in REGIONS or measured[f"{region}_lung_ml"] is not None)
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _amount(measured: Measured, key: str) -> str:
    """Return a finding's share of a region, and its volume where it is known."""
    volume, share = shown_ml(measured[f"{key}_ml"]), shown_percent(measured[f"{key}_share"])
    return f"{share} ({volume})" if measured[f"{key}_ml"] is not None else share


def scores_table(measured: Measured) -> pd.DataFrame:
    """Return the papers' scores, the entropy, and the CT severity score of the lobes: a row each, column value."""
    names = {SUM: "CT severity score"} | {LOBE_SCORES[lobe]: f"{name}, score" for lobe, name in LOBES.items()}
    texts = {f"{name} (0 to {HIGHEST[key]})": score_text(measured, key) for key, name in names.items()}
    known = {name: text for name, text in texts.items() if text != UNKNOWN}
    return pd.DataFrame.from_dict(scores(measured) | known, orient="index", columns=["value"])


def densities(measured: Measured) -> pd.DataFrame:
    """Return densities as text: a row for each region of which any is known."""
    table = density_table(measured)
    return table.set_index("").map(_number) if len(table) else table
