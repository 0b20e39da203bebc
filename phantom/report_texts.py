"""Radiology reports of the phantom, which state or deny consolidation in varied sentences."""

import numpy as np
from numpy.typing import NDArray

from ct.classes import L3
from phantom.lesions import EFFUSION, LYMPH_NODE

_STATED = (
    "Patchy consolidation in the {place}.",
    "There is a consolidation with air bronchograms in the {place}.",
    "The {place} is partly consolidated.",
    "Peripheral consolidation, most marked in the {place}.",
    "Consolidative changes of the {place} are present.",
    "Areas of consolidation are seen, predominantly in the {place}.",
)
_DENIED = (
    "No focal consolidation.",
    "There is no evidence of consolidation.",
    "The lungs show no consolidated areas.",
    "Consolidation is not seen.",
    "No consolidation or cavitation.",
    "The parenchyma is free of consolidation.",
)
_GROUND_GLASS = (
    "Ground-glass opacities, predominantly in the {place}.",
    "Multifocal peripheral ground-glass attenuation, most marked in the {place}.",
    "Hazy ground-glass opacity with fine reticulation in the {place}.",
)
_CLEAR = ("The lungs are clear.", "Normal aeration of both lungs.")
_EFFUSION = ("Small pleural effusion.", "Pleural fluid layers dorsally.")
_NO_EFFUSION = ("No pleural effusion.", "The pleural spaces are clear.")
_NODES = ("Mildly enlarged mediastinal lymph nodes.",)
_IMPRESSION = ("Findings consistent with viral pneumonia.", "Appearances are typical of COVID-19 pneumonia.")


def report_text(codes: NDArray[np.int8], rng: np.random.Generator) -> str:
    """Write a report about a reader's pattern map.

    Args:
        codes: (Z, Y, X) canonical pattern map, codes of paper L3.
        rng: Source of the wording.

    Returns:
        A few sentences; exactly one of them is about consolidation.
    """
    infection, dense = np.isin(codes, L3.codes_of("infection")), np.isin(codes, L3.codes_of("consolidation"))
    faint = infection & ~dense
    findings = [_say(rng, _GROUND_GLASS, faint)] if faint.any() else []
    if not infection.any():
        findings.append(str(rng.choice(_CLEAR)))
    findings.append(_say(rng, _STATED, dense) if dense.any() else str(rng.choice(_DENIED)))
    findings.append(str(rng.choice(_EFFUSION if (codes == EFFUSION).any() else _NO_EFFUSION)))
    if (codes == LYMPH_NODE).any():
        findings.append(str(rng.choice(_NODES)))
    rng.shuffle(findings)
    lines = ["CT chest without contrast.", "Findings: " + " ".join(findings)]
    if infection.any():
        lines.append("Impression: " + str(rng.choice(_IMPRESSION)))
    return "\n".join(lines) + "\n"


def _say(rng: np.random.Generator, sentences: tuple[str, ...], region: NDArray[np.bool_]) -> str:
    """Choose a sentence and fill in the lobe where most of the region lies."""
    z, _, x = (np.mean(axis) for axis in np.nonzero(region))
    side = "left" if x > (region.shape[2] - 1) / 2 else "right"
    lobe = "lower" if z < 0.55 * region.shape[0] else "upper"
    return str(rng.choice(sentences)).format(place=f"{side} {lobe} lobe")
