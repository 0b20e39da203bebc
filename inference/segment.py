"""A new scan to masks on its own grid and measurements.

python -m inference.segment --ckpt runs/unet_em/latest/best.ckpt --scan <DICOM folder | NIfTI> --out <folder>
"""

import argparse
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ct.lungs_of_scan import METHODS, find_lungs
from ct.patterns import GROUPS
from ct.prepare_scan import PreparedScan, prepare_scan
from ct.read import read_scan
from ct.scan import Scan
from ct.write import write_mask
from inference.load import load_module
from lightning_modules.base import SegmentationModule
from lightning_modules.precision import fastest_precision

# A GPU is busy with many slices only; a CPU is as fast with few, which need less memory.
CPU_BATCH_SIZE, GPU_BATCH_SIZE = 4, 16
GROUP = "group_"


Masks = dict[str, NDArray[np.bool_] | NDArray[np.uint8]]


def segment_scan(scan: Scan, lung: NDArray[np.bool_], module: SegmentationModule) -> Masks:
    """Masks of a scan on its canonical grid.

    Args:
        scan: The scan.
        lung: bool (Z, Y, X) on its canonical grid.
        module: A trained module.

    Returns:
        (Z, Y, X) by name: bool lungs, infection and, for stage 2, consolidation, each inside the one before; for the
        multi-class task lungs, infection (groups 2 to 4) and uint8 groups, the code of the likeliest inside the lungs.
    """
    prepared = prepare_scan(scan, lung, size=module.size)
    masks: Masks = {"lungs": lung}
    outer, likeliest = lung, np.zeros(lung.shape, np.float32)
    for name, probability in _probabilities(prepared, module).items():
        # Interpolated as a probability and cut afterwards: smoother than a nearest-neighbour mask.
        slices = prepared.transform.restore_slices(probability)
        if name.startswith(GROUP):
            groups = masks.setdefault("groups", np.zeros(lung.shape, np.uint8))
            for codes, best, inside, level in zip(groups, likeliest, lung, slices, strict=True):
                codes[inside & (level > best)] = int(name.removeprefix(GROUP))
                np.maximum(best, level, out=best)
        else:
            found = [inside & (level > 0.5) for inside, level in zip(outer, slices, strict=True)]
            masks[name] = outer = np.stack(found)
    return masks


def _probabilities(prepared: PreparedScan, module: SegmentationModule) -> dict[str, NDArray[np.float32]]:
    """float32 (Z', size, size) by name, on the prepared grid; slices without lung are 0 and not computed."""
    context = module.hparams["context"]
    volume = torch.from_numpy(prepared.hu)
    lung = torch.from_numpy(prepared.lung > 0)
    rows = torch.nonzero(lung.flatten(1).any(1))[:, 0]
    offsets = torch.arange(-(context // 2), context // 2 + 1)
    found: dict[str, NDArray[np.float32]] = {}
    bf16 = fastest_precision() == "bf16-mixed"
    batch_size = CPU_BATCH_SIZE if module.device.type == "cpu" else GPU_BATCH_SIZE
    for z in tqdm(torch.split(rows, batch_size), "segment", unit="batch", leave=False):
        stack = volume[(z[:, None] + offsets).clamp(0, len(volume) - 1)]
        x = module.network_input(stack.to(module.device), lung[z][:, None].to(module.device))
        with torch.inference_mode(), torch.autocast(module.device.type, torch.bfloat16, enabled=bf16):
            for name, probability in module.segment(x).items():
                out = found.setdefault(name, np.zeros(prepared.hu.shape, dtype=np.float32))
                out[z.numpy()] = probability[:, 0].float().cpu().numpy()
    return found


def measure(scan: Scan, masks: Masks) -> dict[str, float | None]:
    """Volumes in ml, severity and consolidation score (paper EM, equations 14 and 15), on the scan's own grid.

    With groups (paper L3) also their volumes and the share of well-aerated lung, and consolidation is group 4. Volumes
    are None where the spacing is unknown.
    """
    voxels = {name: int(mask.sum()) for name, mask in masks.items() if name != "groups"}
    lung = voxels["lungs"]
    if "groups" in masks:
        counts = np.bincount(masks["groups"][masks["lungs"] > 0], minlength=len(GROUPS))
        voxels |= {f"{GROUP}{group}": int(counts[group]) for group in GROUPS[1:]}
    ml = {name: count * scan.voxel_ml if scan.spacing_known else None for name, count in voxels.items()}
    dense = voxels.get("consolidation", voxels.get(f"{GROUP}{GROUPS[-1]}"))
    scores: dict[str, float | None] = {"severity_score": voxels["infection"] / lung}
    if dense is not None:
        scores["consolidation_score"] = dense / lung
    if "groups" in masks:
        scores["wal_percent"] = 100 * (1 - voxels["infection"] / lung)
    return {"lung_ml": ml.pop("lungs")} | {f"{name}_ml": value for name, value in ml.items()} | scores


def predict(
    checkpoint: str | Path,
    scan_path: str | Path,
    out: str | Path,
    lung_mask: str | Path | None = None,
    lung_method: str = "classical",
) -> Path:
    """Segment one scan and write masks and measurements; the folder appears whole or not at all.

    Args:
        checkpoint: best.ckpt of a run.
        scan_path: A DICOM folder or file, a NIfTI or an NRRD file.
        out: The folder to make.
        lung_mask: A lung mask on the scan's grid; without it the lungs are found.
        lung_method: How they are found: "classical" or "lungmask".

    Returns:
        The folder.

    Raises:
        ValueError: If the checkpoint, the scan or its lungs cannot be used, or `out` exists.
    """
    out = Path(out)
    if out.exists():
        raise ValueError(f"{out} exists already; give --out a new folder, so that no result is overwritten")
    module = load_module(checkpoint).to("cuda" if torch.cuda.is_available() else "cpu")
    scan = read_scan(scan_path)
    lungs = find_lungs(scan, Path(lung_mask) if lung_mask else None, lung_method)
    masks = segment_scan(scan, lungs.mask, module)
    provenance: dict[str, Any] = {
        "lung_source": lungs.source,
        "verdict": "repaired" if scan.repairs else "pass",
        "repairs": list(scan.repairs),
        "warnings": list(lungs.warnings),
        "checkpoint_sha256": hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        for name, mask in masks.items():
            write_mask(mask, scan, temporary / f"{name}.nii.gz")
        text = json.dumps(measure(scan, masks) | provenance, indent=2, allow_nan=False)
        (temporary / "measurements.json").write_text(text + "\n")
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def main(args: list[str] | None = None) -> None:
    """The command line of `make predict`."""
    parser = argparse.ArgumentParser(prog="make predict", description="Segment a chest CT.")
    parser.add_argument("--ckpt", required=True, help="best.ckpt of a run")
    parser.add_argument("--scan", required=True, help="DICOM folder, NIfTI or NRRD file")
    parser.add_argument("--out", required=True, help="folder to write; must not exist")
    parser.add_argument("--lung-mask", help="lung mask on the scan's grid (default: the lungs are found)")
    parser.add_argument("--lungs", choices=METHODS, default="classical", help="how to find them (default: classical)")
    options = parser.parse_args(args)
    missing = [name.upper() for name in ("ckpt", "scan", "out") if not getattr(options, name)]
    if missing:
        parser.exit(
            2, f"error: {', '.join(missing)} not given; make predict CKPT=<best.ckpt> SCAN=<scan> OUT=<folder>\n"
        )
    try:
        out = predict(options.ckpt, options.scan, options.out, options.lung_mask, options.lungs)
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    print((out / "measurements.json").read_text() + f"written to {out}")


if __name__ == "__main__":
    main()
