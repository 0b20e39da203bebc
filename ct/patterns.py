"""The class and group codes of paper L3 with their names; no other module knows them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UNLABELLED = -1
MIN_CODE = -1
MAX_CODE = 10

NAME_OF_CODE: dict[int, str] = {
    -1: "unlabelled",
    0: "background",
    1: "left lung",
    2: "right lung",
    3: "pleural effusion",
    4: "lymphadenopathy",
    5: "pure ground-glass opacity",
    6: "ground glass with smooth interlobular septal thickening",
    7: "crazy paving",
    8: "organizing pneumonia pattern",
    9: "atoll sign",
    10: "consolidation",
}

GROUP_OF_CODE: dict[int, int] = {-1: -1, 0: 0, 1: 1, 2: 1, 3: 0, 4: 0, 5: 2, 6: 3, 7: 3, 8: 4, 9: 4, 10: 4}

NAME_OF_GROUP: dict[int, str] = {
    -1: "unlabelled",
    0: "background",
    1: "lungs",
    2: "pure ground glass",
    3: "ground glass with septal lines",
    4: "consolidation",
}

# What networks of paper L3 predict; -1 is not a class but the absence of a label.
GROUPS: tuple[int, ...] = (0, 1, 2, 3, 4)
OPACITY_GROUPS: tuple[int, ...] = (2, 3, 4)

# What runs are judged by; the truth of the -200 HU threshold is consolidation.
GROUPS_OF_FINDING: dict[str, tuple[int, ...]] = {
    "infection": OPACITY_GROUPS,
    "consolidation": OPACITY_GROUPS[-1:],
    "threshold": OPACITY_GROUPS[-1:],
    "opacity": OPACITY_GROUPS,
} | {f"group_{group}": (group,) for group in OPACITY_GROUPS}

INFECTION_CODES: tuple[int, ...] = (5, 6, 7, 8, 9, 10)
CONSOLIDATION_CODES: tuple[int, ...] = (8, 9, 10)


def groups_of(codes: npt.NDArray[np.integer]) -> npt.NDArray[np.int8]:
    """Turn class codes into group codes.

    Args:
        codes: Integer array of any shape with class codes -1..10.

    Returns:
        int8 array of the same shape with group codes -1..4.

    Raises:
        ValueError: A code lies outside -1..10.
    """
    return _look_up(codes, GROUP_OF_CODE)


def infection_of(codes: npt.NDArray[np.integer]) -> npt.NDArray[np.int8]:
    """Mark codes 5..10 as 1, -1 as -1 and all others as 0; same shape, int8 (see `groups_of` for errors)."""
    return _look_up(codes, _binary_table(INFECTION_CODES))


def consolidation_of(codes: npt.NDArray[np.integer]) -> npt.NDArray[np.int8]:
    """Mark codes 8..10 as 1, -1 as -1 and all others as 0; same shape, int8 (see `groups_of` for errors)."""
    return _look_up(codes, _binary_table(CONSOLIDATION_CODES))


def _binary_table(positive: tuple[int, ...]) -> dict[int, int]:
    return {code: -1 if code == UNLABELLED else int(code in positive) for code in GROUP_OF_CODE}


def _look_up(codes: npt.NDArray[np.integer], value_of_code: dict[int, int]) -> npt.NDArray[np.int8]:
    if codes.size and (codes.min() < MIN_CODE or codes.max() > MAX_CODE):
        raise ValueError(f"found pattern codes from {codes.min()} to {codes.max()}; expected {MIN_CODE}..{MAX_CODE}")
    table = np.array([value_of_code[code] for code in range(MIN_CODE, MAX_CODE + 1)], dtype=np.int8)
    return table[codes.astype(np.int16) - MIN_CODE]
