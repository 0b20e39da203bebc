"""Agreement and speed of model.onnx in onnxruntime beside `predict`, on the same scans with the same lungs, one thread.

    python -m benchmarks.portable [--ckpt default] <scan> ...

Agreement is over all voxels, with `predict` as it computes here (bfloat16 where the CPU has it) and in single
precision; seconds are medians of three, of the network with its resampling there and back, without reading and lungs.
A second table has the same graph with its convolutions in 8 bits, by onnxruntime's quantisation, and the Dice of its
masks against those of model.onnx; static ranges are those of the first scan.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

from benchmarks.timing import interleaved, median
from ct.files.read import read_scan
from ct.lungs.find import find_lungs
from evaluation.tables import markdown
from inference.load import load_module
from inference.portable.onnx_model import masks_of, write_onnx
from inference.scan_masks import segment_scan

REPEATS = 3
Inputs = dict[str, Any]


class OneScan(CalibrationDataReader):  # type: ignore[misc]
    """The scan by which a static quantisation picks its ranges."""

    def __init__(self, inputs: Inputs) -> None:
        self.rest: Iterator[Inputs] = iter([inputs])

    def get_next(self) -> Inputs | None:
        """Return the next inputs."""
        return next(self.rest, None)


def quantised(path: Path, inputs: Inputs) -> dict[str, Path]:
    """Write the graph with its convolutions in 8 bits: ranges of every input (dynamic), or those of one (static)."""
    files = {kind: path.with_name(f"{kind}.onnx") for kind in ("dynamic", "static")}
    quantize_dynamic(path, files["dynamic"], op_types_to_quantize=["Conv"], weight_type=QuantType.QUInt8)
    quantize_static(path, files["static"], OneScan(inputs), op_types_to_quantize=["Conv"], per_channel=True)
    return files


def session_of(path: Path) -> onnxruntime.InferenceSession:
    """Return a session of one thread."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.portable", description=__doc__)
    parser.add_argument("scan", type=Path, nargs="+")
    parser.add_argument("--ckpt", default="default", help="a model (default: the default model)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    module = load_module(options.ckpt)
    scans = [(path.name, scan, find_lungs(scan).mask) for path in options.scan for scan in [read_scan(path)]]
    asked: list[Inputs] = [{"hu": s.hu, "lungs": lungs, "spacing_mm": np.array(s.spacing_mm)} for _, s, lungs in scans]
    with tempfile.TemporaryDirectory() as folder:
        path = write_onnx(module, Path(folder))
        sessions = {"onnx": session_of(path)}
        sessions |= {kind: session_of(file) for kind, file in quantised(path, asked[0]).items()}
    names = [output.name for output in sessions["onnx"].get_outputs()]
    rows, rows_of_8_bits = [], []
    for (title, scan, lungs), inputs in zip(scans, asked, strict=True):
        ways: dict[str, Callable[[], Any]] = {"ours": partial(segment_scan, scan, lungs, [module])}
        ways |= {kind: partial(session.run, None, inputs) for kind, session in sessions.items()}
        seconds = interleaved(ways, REPEATS)
        masks = {
            kind: masks_of(dict(zip(names, session.run(None, inputs), strict=True)), lungs)
            for kind, session in sessions.items()
        }
        here = segment_scan(scan, lungs, [module]).masks
        with patch("inference.scan_masks.fastest_precision", lambda: "32-true"):
            single = segment_scan(scan, lungs, [module]).masks
        for name, mask in masks["onnx"].items():
            volumes = [float(each.sum()) * scan.voxel_ml for each in (here[name], single[name], mask)]
            agreement = [f"{(mask == each[name]).mean():.4%}" for each in (here, single)]
            times = [f"{median(seconds[way]):.2f}" for way in ("ours", "onnx")]
            rows.append([title, name, *agreement, *(f"{volume:.2f}" for volume in volumes), *times])
            for kind in ("dynamic", "static"):
                other = masks[kind][name]
                marked = int(other.sum() + mask.sum())
                dice = f"{2 * int((other & mask).sum()) / marked:.3f}" if marked else "-"
                rows_of_8_bits.append([title, name, kind, dice, f"{median(seconds[kind]):.2f}", times[1]])
    header = ["scan", "finding", "agree", "agree (single)", "predict ml", "single ml", "ONNX ml", "predict s", "ONNX s"]
    print(markdown(header, rows))
    print(markdown(["scan", "finding", "8 bits", "Dice with ONNX", "8 bits s", "ONNX s"], rows_of_8_bits))


if __name__ == "__main__":
    main()
