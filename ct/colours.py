"""The palette of every figure, picture, page, viewer and DICOM file; class sets name its colours, no other module does.

The colours are those of Okabe and Ito, "Color Universal Design" (2008), and grey: people with every kind of colour
vision tell them apart. The papers draw ground glass green and consolidation red, which one man in twelve confuses;
bluish green and vermilion, an orange red, are the nearest pair that nobody does.
"""

PALETTE: dict[str, str] = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky blue": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#999999",
}
# What is drawn beside classes, whose colours stand in their class sets (`ct.classes`). Yellow and sky blue are for the
# CT, the others for white paper too.
BESIDE_CLASSES: dict[str, str] = {
    "threshold": PALETTE["black"],
    "reader": PALETTE["yellow"],
    "model": PALETTE["sky blue"],
    "unlabelled": PALETTE["grey"],
}
# Of the lobes, the right upper, middle and lower, then the left upper and lower: neighbours are told apart.
LOBE_COLOURS = tuple(PALETTE[name] for name in ("sky blue", "yellow", "blue", "orange", "purple"))


def name_of(colour: str) -> str:
    """Return the name of a colour of the palette."""
    return next(name for name, code in PALETTE.items() if code == colour)


def rgb_of(colour: str) -> tuple[int, int, int]:
    """Turn "#rrggbb" into red, green and blue, 0 to 255 each."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
