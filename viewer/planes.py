"""Planes of a scan with its masks, drawn in the browser from one packet of bytes."""

import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from ct.colours import rgb_of
from ct.scan import Scan
from ct.window_presets import WINDOW_PRESETS
from inference.overlays import Overlay
from pages.page import PICTURE_CONTROLS

# The browser keeps three or four bytes for every voxel.
MOST_PIXELS = 256
STRENGTH, LUNG_STRENGTH = 0.5, 0.0
HERE = Path(__file__).parent
SCRIPTS = ("solid.js", "planes.js")
_planes = st.components.v2.component(
    "planes",
    html=(HERE / "templates" / "planes.html").read_text(encoding="utf-8"),
    css=(HERE / "planes.css").read_text(encoding="utf-8"),
    js="\n".join([PICTURE_CONTROLS, *((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)]),
)


def show_planes(packet: bytes, name: str) -> None:
    """Draw a scan with its masks; windows, masks and positions change in the browser alone.

    Args:
        packet: Bytes of `pack`.
        name: Name of the answer in this visit; a new name starts anew.
    """
    _planes(key=f"planes-{name}", data=packet)


def step_of(scan: Scan) -> int:
    """Return the step in pixels at which rows and columns are shown."""
    return max(1, math.ceil(max(scan.hu.shape[1:]) / MOST_PIXELS))


def pack(scan: Scan, overlays: Sequence[Overlay], truth: Sequence[Overlay], name: str) -> bytes:
    """Pack a scan for planes.js: a uint32 length, JSON of that length, and gzipped voxels, all little endian.

    Args:
        scan: The scan.
        overlays: The model's overlays; the lungs come first and lie below the others.
        truth: The reader's overlays, in the same classes; empty without a reader.
        name: Name of the answer in this visit.

    Returns:
        The packet. Its voxels are int16 HU (Z, Y, X), the uint8 label map (0: none, 1: the first overlay, ...), and for
        a reader the uint8 label map of the truth.
    """
    step = step_of(scan)
    thinned = (slice(None), slice(None, None, step), slice(None, None, step))
    hu = np.ascontiguousarray(scan.hu[thinned], "<i2")
    # A reader may have marked the infection as a whole, of which a model marks parts.
    names = list(dict.fromkeys(overlay.name for overlay in [*overlays, *truth]))
    by_name = {overlay.name: overlay for overlay in [*truth, *overlays]}
    header = {
        "scan": name,
        "shape": hu.shape,
        "spacing": [mm * factor for mm, factor in zip(scan.spacing_mm, (1, step, step), strict=True)],
        "affine": _affine(scan, step),
        "start": _start(overlays, truth, step),
        "windows": WINDOW_PRESETS,
        "overlays": [
            {"name": name, "rgb": rgb_of(by_name[name].colour), "strength": STRENGTH if number else LUNG_STRENGTH}
            for number, name in enumerate(names)
        ],
        "reader": bool(truth),
    }
    encoded = json.dumps(header).encode()
    voxels = [hu.tobytes(), _labels(overlays, names, thinned).tobytes()]
    if truth:
        voxels.append(_labels(truth, names, thinned).tobytes())
    # Lightly: the bytes stay on this machine, and a visitor waits for them.
    return len(encoded).to_bytes(4, "little") + encoded + gzip.compress(b"".join(voxels), compresslevel=1, mtime=0)


def _affine(scan: Scan, step: int) -> list[list[float]] | None:
    """Return the rows that map (x, y, z, 1) of the thinned grid to RAS mm; None without a known spacing."""
    if not scan.spacing_known:
        return None
    rows: list[list[float]] = (scan.affine @ np.diag([step, step, 1.0, 1.0]))[:3].tolist()
    return rows


def _labels(overlays: Sequence[Overlay], names: Sequence[str], thinned: Any) -> NDArray[np.uint8]:
    labels = np.zeros(overlays[0].mask[thinned].shape, np.uint8)
    for overlay in overlays:
        labels[overlay.mask[thinned]] = names.index(overlay.name) + 1
    return labels


def _start(overlays: Sequence[Overlay], truth: Sequence[Overlay], step: int) -> list[int]:
    """Return the first voxel to show, in the axial slice with most of the truth, or else of the findings or lungs."""
    candidates = ([each.mask for each in group if each.mask.any()] for group in (truth, overlays[1:], overlays))
    masks = next(masks for masks in candidates if masks)
    z = int(np.argmax(sum(mask.sum((1, 2)) for mask in masks)))
    y, x = np.argwhere(np.any([mask[z] for mask in masks], axis=0)).mean(0).astype(int).tolist()
    return [z, y // step, x // step]
