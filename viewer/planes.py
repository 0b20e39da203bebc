"""A scan and its masks as one packet of bytes, and the part of the page that draws them in planes in the browser."""

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
from inference.layers import Layer

# The browser keeps three or four bytes for every voxel.
MOST_PIXELS = 256
WINDOWS_HU = (  # level and width as radiologists set them
    {"name": "lung", "level": -600, "width": 1500},
    {"name": "mediastinum", "level": 40, "width": 400},
    {"name": "bone", "level": 400, "width": 1800},
)
STRENGTH, LUNG_STRENGTH = 0.5, 0.0
HERE = Path(__file__).parent
SCRIPTS = ("solid.js", "planes.js")
_planes = st.components.v2.component(
    "planes",
    html=(HERE / "templates" / "planes.html").read_text(encoding="utf-8"),
    css=(HERE / "planes.css").read_text(encoding="utf-8"),
    js="\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
)


def show_planes(packet: bytes, name: str) -> None:
    """Draw a scan with its masks; windows, masks and places are changed in the browser alone.

    Args:
        packet: Of `pack`.
        name: Of the scan in this visit: another one starts anew.
    """
    _planes(key=f"planes-{name}", data=packet)


def step_of(scan: Scan) -> int:
    """Every how many pixels of a row and a column are shown."""
    return max(1, math.ceil(max(scan.hu.shape[1:]) / MOST_PIXELS))


def pack(scan: Scan, layers: Sequence[Layer], truth: Sequence[Layer], name: str) -> bytes:
    """Pack a scan for planes.js: a uint32 length, JSON of that length, and gzipped voxels, all little endian.

    Args:
        scan: The scan.
        layers: What the model found; the first one, the lungs, holds all others.
        truth: What a reader drew, of the same classes; empty without one.
        name: Of the scan in this visit.

    Returns:
        Of voxels: int16 HU (Z, Y, X); uint8 classes (0: none, 1: the first layer, ...); and with a truth uint8 of it.
    """
    step = step_of(scan)
    thinned = (slice(None), slice(None, None, step), slice(None, None, step))
    hu = np.ascontiguousarray(scan.hu[thinned], "<i2")
    # A reader may have drawn the infection alone, which a model takes apart.
    names = list(dict.fromkeys(layer.name for layer in [*layers, *truth]))
    classes = {layer.name: layer for layer in [*truth, *layers]}
    about = {
        "scan": name,
        "shape": hu.shape,
        "spacing": [mm * factor for mm, factor in zip(scan.spacing_mm, (1, step, step), strict=True)],
        "affine": _affine(scan, step),
        "start": _start(layers, truth, step),
        "windows": WINDOWS_HU,
        "layers": [
            {"name": name, "rgb": rgb_of(classes[name].colour), "strength": STRENGTH if number else LUNG_STRENGTH}
            for number, name in enumerate(names)
        ],
        "reader": bool(truth),
    }
    head = json.dumps(about).encode()
    voxels = [hu.tobytes(), _labels(layers, names, thinned).tobytes()]
    if truth:
        voxels.append(_labels(truth, names, thinned).tobytes())
    # Lightly: the bytes travel within one machine, and a visitor waits for them.
    return len(head).to_bytes(4, "little") + head + gzip.compress(b"".join(voxels), compresslevel=1, mtime=0)


def _affine(scan: Scan, step: int) -> list[list[float]] | None:
    """Rows that map (x, y, z, 1) of the thinned grid to RAS mm; None where a pixel has no size."""
    if not scan.spacing_known:
        return None
    rows: list[list[float]] = (scan.affine @ np.diag([step, step, 1.0, 1.0]))[:3].tolist()
    return rows


def _labels(layers: Sequence[Layer], names: Sequence[str], thinned: Any) -> NDArray[np.uint8]:
    labels = np.zeros(layers[0].mask[thinned].shape, np.uint8)
    for layer in layers:
        labels[layer.mask[thinned]] = names.index(layer.name) + 1
    return labels


def _start(layers: Sequence[Layer], truth: Sequence[Layer], step: int) -> list[int]:
    """The voxel to begin with: in the axial slice with most of what was drawn or else found, or else of the lungs."""
    marked = ([layer.mask for layer in some if layer.mask.any()] for some in (truth, layers[1:], layers))
    masks = next(some for some in marked if some)
    z = int(np.argmax(sum(mask.sum((1, 2)) for mask in masks)))
    y, x = np.argwhere(np.any([mask[z] for mask in masks], axis=0)).mean(0).astype(int).tolist()
    return [z, y // step, x // step]
