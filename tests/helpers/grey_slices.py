"""Grey slices of known windows: of a phantom, and of the real volumes beside the checkout."""

from functools import cache

from benchmarks.grey_pictures import as_grey, draw_window
from benchmarks.grey_windows import cut_to_lungs, errors_hu, real_slices
from phantom.patient import Phantom, make_phantom

__all__ = ["as_grey", "chest", "cut_to_lungs", "draw_window", "errors_hu", "real_slices"]


@cache
def chest() -> Phantom:
    """A phantom of 12 slices of 96 pixels a side, with opacities."""
    return make_phantom(4, "A", True, 0.3, 96, 12)
