"""A slider through the axial slices of a segmented scan, for a page that has no server behind it."""

import json
from collections.abc import Sequence
from html import escape

from ct.classes import ClassSet
from inference.layers import legend_of
from inference.outputs.scan_pictures import PlanePicture
from inference.result import Masks

# Shown without the script too: then the slice that the viewer starts with is a picture, and the controls stay away.
VIEWER_SCRIPT = """
const shown = JSON.parse(document.getElementById("slices").textContent);
const slider = document.getElementById("slice"), overlay = document.getElementById("overlay");
const pictures = document.querySelectorAll("#viewer img"), here = document.querySelector(".here");
function show() {
  const slice = shown[slider.value];
  pictures[0].src = "data:image/jpeg;base64," + slice.ct;
  pictures[1].src = "data:image/png;base64," + slice.overlay;
  document.getElementById("where").value = slice.said;
  slider.setAttribute("aria-valuetext", slice.said);
  if (here) { here.setAttribute("x1", slice.at); here.setAttribute("x2", slice.at); }
}
slider.addEventListener("input", show);
overlay.addEventListener("change", () => document.body.classList.toggle("bare", !overlay.checked));
for (const controls of document.querySelectorAll(".controls")) controls.hidden = false;
show();
"""
MOST_REM = 36.0  # width of the large picture, and its height
SMALLER_REM = 30.0


def slice_viewer(pictures: Sequence[PlanePicture], said: Sequence[str], at: Sequence[float], start: int) -> str:
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
    data = json.dumps(slices, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<div id="viewer">{stack(pictures[start], f"axial slice: {said[start]}", MOST_REM)}</div>'
        '<div class="controls" hidden><label for="slice">Slice</label>'
        f'<input type="range" id="slice" min="0" max="{len(slices) - 1}" value="{start}" autocomplete="off">'
        '<label><input type="checkbox" id="overlay" checked autocomplete="off"> Overlay</label>'
        f'<output id="where" for="slice">{escape(said[start])}</output></div>'
        f'<script type="application/json" id="slices">{data}</script>'
    )


def stack(picture: PlanePicture, says: str, most_rem: float = SMALLER_REM) -> str:
    """A plane with what was found over it."""
    width = most_rem * min(picture.aspect, 1.0)
    return (
        f'<div class="stack" style="aspect-ratio: {picture.aspect:.4f}; max-width: {width:.1f}rem">'
        f'<img src="data:image/jpeg;base64,{picture.ct}" alt="{escape(says)}">'
        f'<img class="overlay" src="data:image/png;base64,{picture.overlay}" alt=""></div>'
    )


def legend(masks: Masks, classes: ClassSet) -> str:
    """The colours of the overlay and what they mean."""
    named = "".join(
        f'<span><i class="swatch" style="background: {colour}"></i>{escape(name)}</span>'
        for name, colour in legend_of(masks, classes)
    )
    return f'<div class="legend">{named}</div>'
