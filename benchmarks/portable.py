"""Agreement and speed of model.onnx in onnxruntime beside `predict`, on the same scans with the same lungs, one thread.

    python -m benchmarks.portable [--ckpt default] <scan> ...

Agreement is over all voxels, with `predict` as it computes here (bfloat16 where the CPU has it) and in single
precision; seconds are medians of three, of the network with its resampling there and back, without reading and lungs.
"""

import argparse
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnxruntime
import torch

from benchmarks.timing import interleaved, median
from ct.files.read import read_scan
from ct.lungs.find import find_lungs
from evaluation.tables import markdown
from inference.load import load_module
from inference.portable.onnx_model import masks_of, write_onnx
from inference.scan_masks import segment_scan

REPEATS = 3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.portable", description=__doc__)
    parser.add_argument("scan", type=Path, nargs="+")
    parser.add_argument("--ckpt", default="default", help="a model (default: the default model)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    module = load_module(options.ckpt)
    with tempfile.TemporaryDirectory() as folder:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        path = write_onnx(module, Path(folder))
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    rows = []
    for path in options.scan:
        scan = read_scan(path)
        lungs = find_lungs(scan).mask
        inputs = {"hu": scan.hu, "lungs": lungs, "spacing_mm": np.array(scan.spacing_mm)}
        seconds = interleaved(
            {
                "ours": lambda scan=scan, lungs=lungs: segment_scan(scan, lungs, [module]),
                "onnx": lambda inputs=inputs: session.run(None, inputs),
            },
            REPEATS,
        )
        portable = masks_of(dict(zip(names, session.run(None, inputs), strict=True)), lungs)
        here = segment_scan(scan, lungs, [module]).masks
        with patch("inference.scan_masks.fastest_precision", lambda: "32-true"):
            single = segment_scan(scan, lungs, [module]).masks
        for name, mask in portable.items():
            volumes = [float(each.sum()) * scan.voxel_ml for each in (here[name], single[name], mask)]
            agreement = [f"{(mask == each[name]).mean():.4%}" for each in (here, single)]
            times = [f"{median(seconds[way]):.2f}" for way in ("ours", "onnx")]
            rows.append([path.name, name, *agreement, *(f"{volume:.2f}" for volume in volumes), *times])
    header = ["scan", "finding", "agree", "agree (single)", "predict ml", "single ml", "ONNX ml", "predict s", "ONNX s"]
    print(markdown(header, rows))


if __name__ == "__main__":
    main()
