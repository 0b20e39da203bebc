"""Sensitivity for faint ground glass by its size and contrast, as one JSON line and a table in Markdown.

Balls of ground glass are added to scans without any infection: phantoms that no training has seen, or a normal scan of
the user's own. A ball counts as found if a quarter of it is called infected.

    python -m benchmarks.faint_lesions --ckpt models/default/best.ckpt [--scan normal.nii.gz]
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from tqdm import tqdm

from ct.files.read import read_scan
from ct.files.write import write_scan_nifti
from ct.lungs.find import find_lungs
from ct.scan import Scan
from inference.load import load_module
from inference.scan_masks import segment_scan
from lightning_modules.base import SegmentationModule
from phantom.grid import Frame
from phantom.realistic.patient import make_realistic

DIAMETERS_MM, CONTRASTS_HU = (10, 15, 20, 30), (50, 100, 150, 200, 300)
FOUND_SHARE = 0.25
SEED = 7_000_000  # far from any cohort's
SIZE = 160
BALLS_AT_ONCE, EDGE_MM, APART_MM = 5, 3.0, 10.0


@dataclass(frozen=True, eq=False)
class Ball:
    """A ball of ground glass: its diameter in mm, its contrast in HU, and its share of each voxel (Z, Y, X)."""

    diameter_mm: int
    contrast_hu: int
    share: NDArray[np.float32]


def place_balls(
    rng: np.random.Generator, scan: Scan, lung: NDArray[np.bool_], sizes: list[tuple[int, int]]
) -> list[Ball]:
    """Place balls of given (diameter, contrast) in the lungs, apart from each other; those that find no room are left.

    The centre lies within the lungs by a third of the diameter at least, so that some touch the pleura.
    """
    depth = distance_transform_edt(lung, sampling=scan.spacing_mm)
    zyx = [np.arange(n) * mm for n, mm in zip(lung.shape, scan.spacing_mm, strict=True)]
    free = np.ones(lung.shape, np.bool_)
    balls = []
    for diameter, contrast in sizes:
        places = np.flatnonzero(free & (depth > diameter / 3))
        if not places.size:
            continue
        centre = np.unravel_index(rng.choice(places), lung.shape)
        squares = [(axis - axis[at]) ** 2 for axis, at in zip(zyx, centre, strict=True)]
        distance = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])
        share = np.clip((diameter / 2 - distance) / EDGE_MM + 0.5, 0, 1).astype(np.float32) * lung
        balls.append(Ball(diameter, contrast, share))
        free &= distance > diameter / 2 + max(DIAMETERS_MM) / 2 + APART_MM
    return balls


def found_balls(
    module: SegmentationModule, scan: Scan, lung: NDArray[np.bool_], rng: np.random.Generator
) -> Iterator[tuple[int, int, bool]]:
    """Yield diameter, contrast and whether it was found, of a ball of each kind that has room."""
    sizes = [(diameter, contrast) for diameter in DIAMETERS_MM for contrast in CONTRASTS_HU]
    rng.shuffle(sizes)
    for start in range(0, len(sizes), BALLS_AT_ONCE):
        balls = place_balls(rng, scan, lung, sizes[start : start + BALLS_AT_ONCE])
        hu = scan.hu + sum(ball.contrast_hu * ball.share for ball in balls)
        marked = replace(scan, hu=np.round(hu).astype(scan.hu.dtype))
        infection = segment_scan(marked, find_lungs(marked).mask, [module]).masks["infection"]
        for ball in balls:
            voxels = ball.share > 0.5
            yield ball.diameter_mm, ball.contrast_hu, bool(infection[voxels].mean() >= FOUND_SHARE)


def phantom_scan(number: int, folder: Path) -> Scan:
    """Make a clear phantom and read it as any scan."""
    phantom = make_realistic((SEED, number), "clear", SIZE)
    path = folder / f"{number}.nii.gz"
    write_scan_nifti(phantom.hu, Frame(phantom.hu.shape, phantom.spacing_mm).affine, path)
    return read_scan(path)


def table(found: dict[tuple[int, int], list[bool]]) -> str:
    """Return the sensitivities as a table in Markdown, a row a contrast."""
    head = "| contrast, HU | " + " | ".join(f"{diameter} mm" for diameter in DIAMETERS_MM) + " |"
    rows = [
        f"| {contrast} | "
        + " | ".join(f"{np.mean(found[d, contrast]):.2f}" if found.get((d, contrast)) else "-" for d in DIAMETERS_MM)
        + " |"
        for contrast in CONTRASTS_HU
    ]
    return "\n".join([head, "| ---: |" + " ---: |" * len(DIAMETERS_MM), *rows])


def main() -> None:
    """Print the table and the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ckpt", required=True)
    parser.add_argument("--scan", type=Path, help="a scan without infection; phantoms otherwise")
    parser.add_argument("--repeats", type=int, default=8, help="phantoms, or times the balls are placed (8)")
    options = parser.parse_args()
    module = load_module(options.ckpt)
    found: dict[tuple[int, int], list[bool]] = {}
    shares = []
    with TemporaryDirectory() as folder:
        for number in tqdm(range(options.repeats), "faint lesions", unit="scan", file=sys.stderr, disable=None):
            scan = read_scan(options.scan) if options.scan else phantom_scan(number, Path(folder))
            lung = find_lungs(scan).mask
            shares.append(float(segment_scan(scan, lung, [module]).masks["infection"].sum() / lung.sum()))
            for diameter, contrast, is_found in found_balls(module, scan, lung, np.random.default_rng([SEED, number])):
                found.setdefault((diameter, contrast), []).append(is_found)
    print(table(found))
    sensitivity = {f"{d} mm, {c} HU": float(np.mean(values)) for (d, c), values in sorted(found.items())}
    line = {"name": "faint_lesions", "balls": sum(map(len, found.values())), "infected_share_without": np.mean(shares)}
    print(json.dumps(line | {"sensitivity": sensitivity}))


if __name__ == "__main__":
    main()
