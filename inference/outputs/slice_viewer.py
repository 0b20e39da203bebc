"""A slider through the axial slices of a segmented scan, for a page that has no server behind it."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from ct.classes import ClassSet
from inference.layers import legend_of
from inference.outputs import TEMPLATES
from inference.outputs.scan_pictures import PlanePicture
from inference.result import Masks

VIEWER_SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


def slice_viewer(pictures: Sequence[PlanePicture], said: Sequence[str], at: Sequence[float], start: int) -> Markup:
    """The viewer's markup; `VIEWER_SCRIPT` moves it.

    Args:
        pictures: The slices, from the foot to the head.
        said: What is said of each.
        at: Where each stands in the chart of the profile, in units of its drawing.
        start: Which one is shown first.

    Returns:
        HTML, with the pictures in it.
    """
    slices = [
        {"ct": picture.ct, "overlay": picture.overlay, "said": text, "at": round(place, 1)}
        for picture, text, place in zip(pictures, said, at, strict=True)
    ]
    return TEMPLATES.render("slice_viewer.html", slices=slices, picture=pictures[start], start=start)


def legend(masks: Masks, classes: ClassSet) -> Markup:
    """Return the colours of the overlay and what they mean."""
    layers = [(colour, name) for name, colour in legend_of(masks, classes)]
    return TEMPLATES.render("legend.html", layers=layers)
