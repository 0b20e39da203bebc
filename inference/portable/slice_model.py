"""The slice network of a model of one finding as ONNX, for the page in the browser, which prepares scans itself.

python -m inference.portable.slice_model --out browser/model [--ckpt default]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from ct.refusal import Refusal
from inference.load import load_module
from inference.model_names import CHECKPOINTS, DEFAULT, place_of
from inference.portable.onnx_model import OPSET
from inference.segmenter import Segmenter
from lightning_modules.infection import InfectionModule
from machine.command_line import run_command
from machine.whole_file import whole_file, write_json

WEIGHTS, ABOUT = "slices.onnx", "about.json"


class _Probability(nn.Module):
    def __init__(self, module: InfectionModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module.segment(x)["infection"]


def write_slice_model(ckpt: str, folder: Path) -> None:
    """Write slices.onnx (x (N, context, size, size) to probability (N, 1, size, size)) and about.json.

    Raises:
        ValueError: The model is not of the task infection, or learned on whole images.
    """
    module = load_module(ckpt)
    if not isinstance(module, InfectionModule):
        raise Refusal("{path} is of the task {task!r}; the page takes one of infection", path=ckpt, task=module.task)
    if module.whole_image:
        raise Refusal("{path} learned on whole images; the page takes a model that learned inside lungs", path=ckpt)
    card, context = Segmenter([place_of(ckpt)]).card, int(module.hparams["context"])
    x = torch.zeros(2, context, module.size, module.size)
    program: Any = torch.onnx.export(
        _Probability(module).eval(),
        (x,),
        dynamo=True,
        opset_version=OPSET,
        input_names=["x"],
        output_names=["probability"],
        dynamic_shapes=({0: torch.export.Dim("slices", min=1, max=4096)},),
        verbose=False,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / WEIGHTS) as temporary:
        onnx.save(program.model_proto, temporary)
    line = f"Model {card.experiment}: {card.card_line}. Version {card.version}."
    about = {"size": module.size, "context": context, "line": line, "sha256": card.checkpoints_sha256[0]}
    write_json(about, folder / ABOUT)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m inference.portable.slice_model", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ckpt", default=DEFAULT, help=CHECKPOINTS)
    options = parser.parse_args(args)
    write_slice_model(options.ckpt, options.out)


if __name__ == "__main__":
    run_command(main)
