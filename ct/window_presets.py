"""Grey windows as radiologists set them, by level and width in HU."""

from typing import TypedDict


class WindowPreset(TypedDict):
    """A window by its name.

    Attributes:
        name: What a button says.
        level: HU of the middle grey.
        width: HU between black and white.
    """

    name: str
    level: int
    width: int


WINDOW_PRESETS: tuple[WindowPreset, ...] = (
    {"name": "lung", "level": -600, "width": 1500},
    {"name": "mediastinum", "level": 40, "width": 400},
    {"name": "bone", "level": 400, "width": 1800},
)
