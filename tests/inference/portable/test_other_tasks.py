"""`ground-glass export` with model.onnx, of the tasks that the default model is not of, on masks that are not empty.

Networks have random weights, with biases for which a half of the lungs is marked: no training takes its time, and
nothing rests on what a short one happens to find. A run of the any-label task is of the task opacity once it is stored.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from phantom_scan import save_phantom

from cohort.prepare.prepare_scan import prepare_scan
from ct.files.read import read_scan
from ct.lungs.find import find_lungs
from ct.scan import Scan
from ground_glass.__main__ import main
from inference.load import load_module
from inference.scan_masks import segment_scan
from lightning_modules.base import SegmentationModule
from lightning_modules.consolidation import ConsolidationModule
from lightning_modules.opacity import OpacityModule
from networks.unet import UNet
from training.checkpoint_file import write_checkpoint
from training.model_folder import GRAPH, checksum, read_manifest

onnx = pytest.importorskip("onnx", reason="needs the extra export")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")
pytest.importorskip("onnxscript", reason="needs the extra export")

SIZE = 32
SMALL_UNET = partial(UNet, channels=4)


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scan, np.ndarray]:
    """A phantom scan and its lungs."""
    scan = read_scan(save_phantom(tmp_path_factory.mktemp("scan") / "scan.nii.gz", slices=9))
    return scan, find_lungs(scan).mask


def balanced(module: SegmentationModule, chest: tuple[Scan, np.ndarray]) -> SegmentationModule:
    """Scale each network's logits, and move them so that their medians in the lungs are 0."""
    prepared = prepare_scan(*chest, size=SIZE)
    lung = torch.from_numpy(prepared.lung > 0)
    around = torch.arange(len(lung))[:, None] + torch.arange(module.hparams["context"]) - module.hparams["context"] // 2
    stack = torch.from_numpy(prepared.hu)[around.clamp(0, len(lung) - 1)]
    module.size = SIZE
    with torch.inference_mode():
        x = module.eval().network_input(stack, lung[:, None])
        for name, network in module.named_children():
            if name.endswith("network"):
                logits = network(x).movedim(1, 0)[:, lung]
                head: Any = network.head
                head.weight *= 20
                head.bias.copy_(-20 * (logits - head.bias[:, None]).median(1).values)
    return module


def exported(module: SegmentationModule, folder: Path) -> Path:
    """The folder that the command writes of a module's checkpoint."""
    arguments = dict(module.hparams)
    about = {"task": module.task, "size": SIZE, "arguments": arguments, "validation": {}, "trained_on": {}}
    write_checkpoint({"state_dict": module.state_dict(), "ground_glass": about}, folder / "best.ckpt")
    assert main(["export", str(folder / "best.ckpt"), "-o", str(folder / "model")]) == 0
    return folder / "model"


def answers(folder: Path, chest: tuple[Scan, np.ndarray]) -> dict[str, Any]:
    """The probabilities of model.onnx by name, once its opset and its checksum are as they are stated."""
    scan, lungs = chest
    graph = onnx.load(folder / GRAPH)
    assert {entry.domain: entry.version for entry in graph.opset_import}[""] == 20
    assert read_manifest(folder)["sha256"][GRAPH] == checksum(folder / GRAPH)
    session = onnxruntime.InferenceSession(folder / GRAPH, providers=["CPUExecutionProvider"])
    names = json.loads(session.get_modelmeta().custom_metadata_map["ground_glass"])["outputs"]
    inputs = {"hu": scan.hu, "lungs": lungs, "spacing_mm": np.array(scan.spacing_mm)}
    return dict(zip(names, session.run(None, inputs), strict=True))


@pytest.fixture(autouse=True)
def single_precision_and_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.scan_masks.fastest_precision", lambda: "32-true")
    torch.manual_seed(0)


@pytest.mark.slow
def test_consolidation_lies_inside_infection(chest: tuple[Scan, np.ndarray], tmp_path: Path) -> None:
    from inference.portable.onnx_model import masks_of

    folder = exported(balanced(ConsolidationModule(network=SMALL_UNET), chest), tmp_path)
    theirs = masks_of(answers(folder, chest), chest[1])
    ours = segment_scan(*chest, [load_module(folder)]).masks
    assert list(theirs) == ["infection", "consolidation"]
    for name, mask in theirs.items():
        assert 0.1 < mask.sum() / chest[1].sum() < 0.9
        assert (mask == ours[name]).mean() >= 0.9999
    assert not (theirs["consolidation"] & ~theirs["infection"]).any()
    assert theirs["consolidation"].sum() < theirs["infection"].sum()


@pytest.mark.slow
def test_groups_follow_from_the_outputs_by_the_rule_that_the_file_states(
    chest: tuple[Scan, np.ndarray], tmp_path: Path
) -> None:
    from inference.portable.onnx_model import masks_of

    module = OpacityModule(network=SMALL_UNET, classes="ild", labels="hard", mean_hu=-653.2, std_hu=628.5)
    module.hu_mean.fill_(-653.2)
    module.hu_std.fill_(628.5)
    assert module.classes.outside, "so that voxels outside the lungs have a class too"
    folder = exported(balanced(module, chest), tmp_path)
    probabilities, lungs = answers(folder, chest), chest[1]
    ours = segment_scan(*chest, [load_module(folder)]).masks
    leaves = module.classes.leaves
    levels = np.stack([probabilities[f"group_{index}"] for index in range(len(leaves))])
    inside = np.array([index == 0 or leaf.in_lungs for index, leaf in enumerate(leaves)])
    outside = np.array([index == 0 or index in module.classes.outside for index in range(len(leaves))])
    allowed = np.where(lungs, inside[:, None, None, None], outside[:, None, None, None])
    groups = np.where(allowed, levels, 0).argmax(0)
    assert (groups == ours["groups"]).mean() >= 0.9999
    assert len(np.unique(groups[lungs])) > 2
    assert len(np.unique(groups[~lungs])) > 1
    for name, mask in masks_of(probabilities, lungs).items():
        assert mask.any()
        assert (mask == ours[name]).mean() >= 0.9999
