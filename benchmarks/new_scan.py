"""Seconds from the file of 300 slices of 512 x 512 to masks and volumes, beside two other ways, as one JSON line.

The claim: twice as fast as a slice-by-slice loop and as lungmask's inference with a network of the same size, in at
most 2 GiB. Ours is what `make predict` does up to there: reading, checks, lungs by classical image processing, the
prepared grid, UNet-1 of the paper's size, masks on the scan's own grid as files, measurements and flags, but not the
page of the scan, which the others do not write. The loop reads the same file with nibabel, takes the lungs
from the same classical method, and for every slice with lung makes the stack of seven, shrinks it to 256 x 256, asks
the same network in the same precision, and enlarges the answer; that our prepared grid has slices of 5 mm, a fifth as
many, is most of the difference. lungmask (LMInferer, its own reading by SimpleITK,
preprocessing, batches and postprocessing) gets a network of the same layers for one slice, without context, whose
answer is replaced by a threshold, so that its postprocessing meets lungs and not noise; it finds lungs only, so neither
the search for lungs nor a second mask is in its time. `own network` is lungmask with its own, larger one. All weights
are random: no weight is downloaded. Peak memory is that of the whole of `make predict` in a process of its own.

    PYTHONPATH=<where lungmask is> python -m benchmarks.new_scan
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from scipy.ndimage import zoom
from torch import Tensor, nn

from benchmarks.timing import interleaved, line, median
from ct.files.write import write_mask
from ct.lungs.classical import classical_lungs
from inference.load import load_module
from inference.scan_list import Source
from inference.segmenter import Segmenter
from lightning_modules.base import network_units
from lightning_modules.infection import InfectionModule
from machine.host_memory import keep_freed_memory
from networks.unet import UNet
from phantom.patient import make_phantom
from training.checkpoint_file import write_checkpoint
from training.precision import fastest_precision

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BF16 = fastest_precision() == "bf16-mixed"
SLICES, SIDE, PREPARED, SPACING_MM = 300, 512, 256, (0.7, 0.7, 1.0)


def write_scan(path: Path) -> None:
    """Write a phantom patient enlarged to a thin-slice scan, with noise, as compressed NIfTI."""
    small = make_phantom(1, "A", positive=True, size=SIDE // 4, slices=SLICES // 10).hu
    rng = np.random.default_rng(0)
    hu = np.repeat(zoom(small.astype(np.float32), (1, 4, 4), order=1), 10, axis=0)
    hu = np.rint(hu + rng.normal(0, 15, hu.shape).astype(np.float32)).astype(np.int16)
    # Array axes (x, y, z) to the left, the back and the head.
    nibabel.save(nibabel.Nifti1Image(hu.T, np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0])), path)


def write_module(path: Path) -> None:
    """Write a checkpoint of stage 1 with random weights, of the paper's size."""
    torch.manual_seed(0)
    module = InfectionModule()
    description = {"task": "infection", "size": PREPARED, "arguments": dict(module.hparams)}
    write_checkpoint({"ground_glass": description, "state_dict": module.state_dict()}, path)


def write_both(folder: Path) -> tuple[Path, Path]:
    """Write a checkpoint and a scan; return their paths."""
    checkpoint, scan = folder / "best.ckpt", folder / "scan.nii.gz"
    write_module(checkpoint)
    write_scan(scan)
    return checkpoint, scan


def ours(checkpoint: Path, scan: Path, folder: Path) -> None:
    """Do `make predict` without the page."""
    result = Segmenter([checkpoint]).segment(Source("scan", scan))
    for name, mask in result.masks.items():
        write_mask(mask, result.scan, folder / f"{name}.nii.gz")


def slice_by_slice(checkpoint: Path, scan: Path, folder: Path) -> dict[str, float]:
    """Segment one slice after the other; return ml."""
    image: Any = nibabel.load(scan)
    hu = np.ascontiguousarray(np.asarray(image.dataobj).T)
    lung = classical_lungs(hu, SPACING_MM[::-1])
    module = load_module(checkpoint).to(DEVICE)
    volume, inside = torch.from_numpy(hu), torch.from_numpy(lung)
    infection = np.zeros(hu.shape, dtype=np.uint8)
    for z in np.flatnonzero(lung.any((1, 2))):
        stack = volume[np.clip(np.arange(z - 3, z + 4), 0, len(volume) - 1)]
        x = network_units(stack) * inside[z]
        x = nn.functional.interpolate(x[None], (PREPARED, PREPARED), mode="area")
        with torch.inference_mode(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=BF16):
            probability = module.segment(x.to(DEVICE))["infection"].cpu()
        whole = nn.functional.interpolate(probability.float(), hu.shape[1:], mode="bilinear")[0, 0]
        infection[z] = ((whole > 0.5) & inside[z]).numpy()
    for name, mask in (("lungs", lung.astype(np.uint8)), ("infection", infection)):
        nibabel.save(nibabel.Nifti1Image(mask.T, image.affine), folder / f"{name}.nii.gz")
    ml = float(np.prod(SPACING_MM)) / 1000
    return {"lung_ml": float(lung.sum()) * ml, "infection_ml": float(infection.sum()) * ml}


class AnswersLungs(nn.Module):
    """A network that is run for its cost and answers with the air of the image as lungs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last).eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (B, 3, H, W) of x (B, 1, H, W) as lungmask scales it."""
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=BF16):
            logits = self.network(x).float()
        air = (x < 0.4).float()
        left = torch.arange(x.shape[3], device=DEVICE) < x.shape[3] // 2
        return torch.cat([1 - air, air * left, air * ~left], 1) + 0 * logits


def lungmask_inference(network: nn.Module, scan: Path, folder: Path) -> float:
    """Run lungmask as its documentation shows it; return ml."""
    import SimpleITK
    from lungmask import LMInferer

    inferer = LMInferer.__new__(LMInferer)
    inferer.__dict__.update(
        fillmodel=None, batch_size=20, volume_postprocessing=True, tqdm_disable=True, device=DEVICE,
        model=AnswersLungs(network).to(DEVICE),
    )  # fmt: skip
    image = SimpleITK.ReadImage(str(scan))
    mask = inferer.apply(image)
    out = SimpleITK.GetImageFromArray(mask)
    out.CopyInformation(image)
    SimpleITK.WriteImage(out, str(folder / "lungmask.nii.gz"), useCompression=True)
    return float((mask > 0).sum()) * float(np.prod(SPACING_MM)) / 1000


def peers(checkpoint: Path, scan: Path, folder: Path) -> tuple[dict[str, Callable[[], Any]], list[str]]:
    """Return the peers by name, and those that are not installed."""
    others: dict[str, Callable[[], Any]] = {"slice_by_slice": lambda: slice_by_slice(checkpoint, scan, folder)}
    try:
        from lungmask.resunet import UNet as Own
    except ImportError:
        return others, ["lungmask"]
    own = Own(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False)
    same = UNet(1, 3, 32)
    others["lungmask"] = lambda: lungmask_inference(same, scan, folder)
    others["lungmask, own network"] = lambda: lungmask_inference(own, scan, folder)
    return others, []


def peak_gib(checkpoint: Path, scan: Path, folder: Path) -> float:
    """Return the peak resident memory of `make predict`, GiB."""
    command = [sys.executable, "-m", "benchmarks.new_scan", "--peak", str(checkpoint), str(scan), str(folder / "peak")]
    process = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    return float(process.stdout.split()[-1])


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--own-network", action="store_true", help="also lungmask with its own, larger network: minutes"
    )
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    keep_freed_memory()  # as `make predict` does; it helps the others as well
    if options.peak:
        checkpoint, scan, out = map(Path, options.peak)
        Segmenter([checkpoint]).predict(Source("scan", scan), out)
        # Not getrusage, whose maximum includes the process that started this one.
        status = Path("/proc/self/status").read_text()
        print(int(status.split("VmHWM:")[1].split()[0]) / 2**20)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        checkpoint, scan = write_both(folder)
        others, missing = peers(checkpoint, scan, folder)
        if not options.own_network:
            others.pop("lungmask, own network", None)
        started = time.perf_counter()
        seconds = interleaved({"ours": lambda: ours(checkpoint, scan, folder), **others}, options.repeats)
        whole_s = time.perf_counter() - started
        peak = peak_gib(checkpoint, scan, folder)
    medians = {name: median(values) for name, values in seconds.items()}
    best = min(medians[name] for name in others)
    details = {"peak_gib": peak, "missing": missing, "precision": fastest_precision(), "whole_s": whole_s}
    line("new_scan", medians["ours"], best, "s", options.repeats, others=medians, **details)


if __name__ == "__main__":
    main()
