"""Measurements as a visitor reads them: cards, a table by region, and the rest."""

from collections.abc import Mapping

import pandas as pd

from ct.patterns import NAME_OF_GROUP, OPACITY_GROUPS

Measured = Mapping[str, float | None]
CARDS = (
    {"lung_ml": "Lungs", "infection_ml": "Opacity", "consolidation_ml": "Consolidation"}
    | {f"group_{group}_ml": NAME_OF_GROUP[group].capitalize() for group in OPACITY_GROUPS}
    | {"severity_score": "Severity", "consolidation_score": "Consolidation score", "wal_percent": "Well-aerated lung"}
)
SIDES = ("left", "right")
REGIONS = (*SIDES, *(f"{side}_{zone}" for side in SIDES for zone in ("upper", "middle", "lower")))
UNITS = {"_ml": "ml", "_percent": "%", "_hu": "HU", "_g": "g", "_bits": "bits", "_coverage": "", "_score": ""}
UNKNOWN = "-"
WHOLE = 1000  # from here on a decimal says nothing


def cards(measured: Measured) -> dict[str, str]:
    """The figures that stand on top, by their label; shares of the lungs in percent."""
    return {label: value_text(key, measured[key]) for key, label in CARDS.items() if key in measured}


def interval_sentence(measured: Measured) -> str:
    """What the calibrated intervals of the volumes are; empty without a calibration."""
    findings = [key.removesuffix("_ml_low") for key in measured if key.endswith("_ml_low")]
    spans = [
        f"{finding_name(finding)} {measured[f'{finding}_ml_low']:.1f} to {measured[f'{finding}_ml_high']:.1f} ml"
        for finding in findings
        if measured[f"{finding}_ml_low"] is not None
    ]
    coverage = measured.get("interval_coverage")
    return f"{100 * (coverage or 0):.0f} % intervals: {'; '.join(spans)}" if spans else ""


def region_table(measured: Measured) -> pd.DataFrame:
    """A row for each side and zone with text in every cell; no row where nothing was measured by region."""
    rows = {}
    for region in REGIONS:
        # The keys of a side begin like those of its zones.
        deeper = tuple(f"{longer}_" for longer in REGIONS if longer.startswith(f"{region}_"))
        keys = [key for key in measured if key.startswith(f"{region}_") and not key.startswith(deeper)]
        rows[region.replace("_", " ")] = {
            _column(key.removeprefix(f"{region}_")): value_text(key, measured[key]) for key in keys
        }
    return pd.DataFrame.from_dict({region: row for region, row in rows.items() if row}, orient="index")


def _column(key: str) -> str:
    if key.endswith("_share"):
        return f"{finding_name(key.removesuffix('_share'))} (share)"
    return f"{finding_name(key.removesuffix('_ml'))} (ml)"


def rest_table(measured: Measured) -> pd.DataFrame:
    """Every measurement that is on no card and of no region, columns name and value."""
    others = [key for key in measured if key not in CARDS and not key.startswith(tuple(f"{r}_" for r in SIDES))]
    rows = [{"measurement": key.replace("_", " "), "value": value_text(key, measured[key])} for key in others]
    return pd.DataFrame(rows, columns=["measurement", "value"])


def value_text(key: str, value: float | None) -> str:
    """A measurement with its unit; a dash where it is undefined."""
    if value is None:
        return UNKNOWN
    if key.endswith(("_score", "_share")):
        return f"{100 * value:.1f} %"
    unit = next((unit for ending, unit in UNITS.items() if key.endswith(ending)), "ml" if "_ml_" in key else "")
    if unit in ("", "bits"):
        return f"{value:.3f} {unit}".rstrip()
    return f"{value:,.1f} {unit}" if abs(value) < WHOLE else f"{value:,.0f} {unit}"


def finding_name(finding: str) -> str:
    """A finding of the measurements' keys in words."""
    names = {f"group_{group}": NAME_OF_GROUP[group] for group in OPACITY_GROUPS}
    return names.get(finding, finding)
