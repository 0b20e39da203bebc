"""Segmented scans for tests of outputs: drawn masks on a scan that was read from a file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ct.classes import EM, L3
from ct.files.read import read_scan
from inference.result import Masks, Member, ModelCard, Result

MEMBER = Member(76, 70, 3, {"consolidation": 0.65}, {"consolidation": 6})
CARD = ModelCard("consolidation", "unet_em", ("ab" * 32,), 1, 256, "0.1.0", (MEMBER,))


def draw(shape: tuple[int, ...], task: str) -> Masks:
    """Return masks of a task, lopsided in every axis, so that any flip or swap moves their centres."""
    draws = np.random.default_rng(0)
    z, y, x = np.indices(shape)
    lungs = (z >= 1) & (y < shape[1] - 1) & (x >= 2)
    slope = (x + 2 * y + 3 * z) / (shape[2] + 2 * shape[1] + 3 * shape[0])
    infection = lungs & (draws.random(shape) < 0.1 + 0.7 * slope)
    if task == "opacity":
        groups = np.where(infection, 2 + (x > 5) + (y > 5), lungs).astype(np.uint8)
        return {"lungs": lungs, "infection": infection, "groups": groups}
    masks: Masks = {"lungs": lungs, "infection": infection}
    return masks | ({"consolidation": infection & (z >= 3) & (y > 4)} if task == "consolidation" else {})


def result_of(source: Path, task: str = "consolidation", flags: Sequence[str] = ()) -> Result:
    """Read a scan and give it masks and the measurements that follow from them."""
    scan = read_scan(source, "scan-1")
    masks = draw(scan.hu.shape, task)
    voxels = {name: int(mask.sum()) for name, mask in masks.items()}
    measurements = {
        "lung_ml": voxels["lungs"] * scan.voxel_ml,
        "infection_ml": voxels["infection"] * scan.voxel_ml,
        "severity_score": voxels["infection"] / voxels["lungs"],
        "wal_percent": 100 - 100 * voxels["infection"] / voxels["lungs"],
    }
    if task == "consolidation":
        measurements["consolidation_score"] = voxels["consolidation"] / voxels["lungs"]
    return Result(
        "scan-1",
        source,
        scan,
        masks,
        measurements,
        "classical",
        (),
        tuple(flags),
        CARD,
        L3 if task == "opacity" else EM,
    )
