"""One colour for one thing, in every figure, picture, page, viewer and DICOM file; no other module names one of these.

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
# Each differs from all that it is drawn beside. Yellow and sky blue are for the CT, the others for white paper too.
# Infection without consolidation is drawn as infection: only a model that tells the groups apart has pure ground glass.
NAME_OF_COLOUR: dict[str, str] = {
    "lungs": "blue",
    "infection": "green",
    "opacity": "green",  # what paper L3 calls the infection
    "consolidation": "vermilion",
    "group_2": "orange",
    "group_3": "purple",
    "group_4": "vermilion",
    "threshold": "black",
    "reader": "yellow",
    "model": "sky blue",
    "background": "black",
    "unlabelled": "grey",
}
COLOUR_OF: dict[str, str] = {thing: PALETTE[name] for thing, name in NAME_OF_COLOUR.items()}
# Of the groups of `ct.patterns` as a model of paper L3 tells them apart.
COLOUR_OF_GROUP: dict[int, str] = {
    -1: COLOUR_OF["unlabelled"],
    0: COLOUR_OF["background"],
    1: COLOUR_OF["lungs"],
} | {group: COLOUR_OF[f"group_{group}"] for group in (2, 3, 4)}


def rgb_of(colour: str) -> tuple[int, int, int]:
    """Turn "#rrggbb" into red, green and blue, 0 to 255 each."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
