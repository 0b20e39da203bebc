"""Figures that benchmarks measured of a model (figures.json beside it), as tables with the command behind each."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from evaluation.tables import markdown

COMMANDS = "commands"  # of all, one a benchmark
SENSITIVITY = "sensitivity"  # by diameter and contrast
TITLES = {
    "real_slices": "COVID-CT-MD: a normal scan, and a patient with COVID-19 whose slices radiologists labelled",
    "medseg": "MedSeg: single slices as pictures, HU estimated; all opacities",
    "covid20": "COVID-19-CT-Seg: pictures of slices, contrast enhanced place by place, HU estimated; infection",
    "faint_lesions": "Balls of ground glass put into phantoms without infection (found: a quarter is called infected)",
}
WORDS = {
    "normal002_infected_share": "normal scan: share of the lungs called infected",
    "P002_infected_share": "COVID-19: share of the lungs called infected",
    "auc_infected_share": "labelled slices: AUC of that share",
    "auc_lung_area": "labelled slices: AUC of lung area alone",
    "auc_plain_threshold_share": "labelled slices: AUC of the share above -600 HU",
    "n": "labelled slices",
    "dice_pooled": "Dice, pooled",
    "iou_pooled": "IOU, pooled",
    "rv_pooled": "RV, pooled",
    "dice_by_patient": "Dice, mean of patients",
    "dice_by_slice": "Dice, mean of slices",
    "spearman_of_expected_dice": "rank correlation of the Dice that probabilities promise with the true one",
    "balls": "balls",
    "infected_share_without": "share of the lungs called infected without any ball",
}


def measured_tables(measured: Mapping[str, Any]) -> str:
    """Return the tables, Markdown: a title, the figures and the command for each measurement."""
    parts = []
    for name, figures in _measurements(measured):
        rows = [
            [WORDS.get(key, key.replace("_", " ")), _number(value)]
            for key, value in figures.items()
            if key not in ("name", SENSITIVITY)
        ]
        parts += [f"{TITLES.get(name, name)}:", markdown(["figure", "value"], rows)]
        if SENSITIVITY in figures:
            parts.append(_grid(figures[SENSITIVITY]))
    commands = [f"- {name}: {f'`{command}`' if command else 'not stated'}" for name, command in origins(measured)]
    if commands:
        parts += ["Computed anew by, in a checkout of the sources:", "\n".join(commands)]
    return "\n\n".join(part.strip() for part in parts)


def origins(measured: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the name of every measurement and the command that computes it anew; "" where none is stated."""
    commands = measured.get(COMMANDS, [])
    return [
        (name, next((command for command in commands if f"benchmarks.{figures.get('name')} " in f"{command} "), ""))
        for name, figures in _measurements(measured)
    ]


def _measurements(measured: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((name, figures) for name, figures in measured.items() if isinstance(figures, Mapping))


def _number(value: Any) -> str:
    if not isinstance(value, float) or value == 0:
        return f"{value:g}" if isinstance(value, float) else str(value)
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.3g}"


def _grid(sensitivity: Mapping[str, float]) -> str:
    """Return shares by "<diameter>, <contrast>" with a row for each contrast and a column for each diameter."""
    kinds = [re.split(r",\s*", kind) for kind in sensitivity]
    diameters, contrasts = (list(dict.fromkeys(kind[place] for kind in kinds)) for place in (0, 1))
    rows = [
        [contrast, *(_number(sensitivity.get(f"{diameter}, {contrast}", "-")) for diameter in diameters)]
        for contrast in contrasts
    ]
    return markdown(["found, by contrast and diameter", *diameters], rows)
