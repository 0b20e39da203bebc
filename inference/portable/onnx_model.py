"""ONNX file of a model: HU, lungs and spacing in, probabilities on the scan's own grid out."""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch

from inference.portable.whole_scan import WholeScan
from lightning_modules.base import SegmentationModule
from machine.whole_file import whole_file
from training.model_folder import GRAPH, LUNGS, WHOLE_IMAGE

OPSET = 20
INPUTS = ("hu", "lungs", "spacing_mm")
RULE = (
    "Masks: in the order of the outputs, each lies inside the one before, the first inside the lungs, where its "
    "probability is above 0.5. Outputs group_<n> are leaves of the class set: of those that can lie at a voxel (inside "
    "the lungs, or outside), the likeliest."
)


def write_onnx(module: SegmentationModule, folder: Path) -> Path:
    """Write model.onnx.

    Its inputs are `hu` int16 (Z, Y, X) in canonical orientation (feet to head, front to back, right to left), `lungs`
    bool (Z, Y, X) and `spacing_mm` float64 (3,) of z, y, x; its outputs float32 (Z, Y, X), named as `module.segment`
    names them. Sizes are dynamic. Metadata say how masks come of them.

    Args:
        module: A trained module, in eval mode on the CPU.
        folder: It exists.
    """
    whole = WholeScan(module).eval()
    # Sizes that none of them equals another's, or the exporter would take them for one.
    example = (torch.zeros(21, 50, 45, dtype=torch.int16), torch.ones(21, 50, 45, dtype=torch.bool))
    spacing = torch.tensor([2.0, 3.0, 3.5], dtype=torch.float64)
    z, y, x = (torch.export.Dim(name, min=least, max=1 << 14) for name, least in (("z", 1), ("y", 2), ("x", 2)))
    grid = {0: z, 1: y, 2: x}
    with torch.inference_mode():
        names = list(whole(*example, spacing))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        program = torch.onnx.export(
            whole,
            (*example, spacing),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=names,
            dynamic_shapes=(grid, grid, None),
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    lungs = WHOLE_IMAGE if module.whole_image else LUNGS
    described = {"outputs": names, "rule": RULE, "task": module.task, "size_px": module.size, "lungs": lungs}
    onnx.helper.set_model_props(graph, {"ground_glass": json.dumps(described)})
    onnx.checker.check_model(graph, full_check=True)
    with whole_file(folder / GRAPH) as temporary:
        onnx.save(graph, temporary)
    return folder / GRAPH


def masks_of(probabilities: dict[str, np.ndarray], lungs: np.ndarray) -> dict[str, np.ndarray]:
    """Return the nested masks of `RULE`, for whoever runs model.onnx.

    Args:
        probabilities: The outputs by name, in order, float32 (Z, Y, X); `group_<n>` are left out.
        lungs: bool (Z, Y, X).
    """
    masks, outer = {}, lungs
    for name, probability in probabilities.items():
        if not name.startswith("group_"):
            masks[name] = outer = outer & (probability > 0.5)
    return masks
