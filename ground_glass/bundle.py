"""The parts of a MONAI bundle: its network, what segments a folder of scans, and its two configurations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

CONFIGS, DOCS = "configs", "docs"
README = f"{DOCS}/README.md"
AUTHORS = "Ground Glass contributors, and whoever trained the weights"
SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"


def network(folder: str | Path) -> nn.Module:
    """Return the network of a model folder with its weights: slices (B, context, H, W) in network units to logits."""
    from inference.load import load_module

    return load_module(folder).network


def segment_folder(folder: str | Path, dataset_dir: str | Path, output_dir: str | Path) -> None:
    """Segment every scan of a folder, as `ground-glass predict` does.

    Args:
        folder: The model folder.
        dataset_dir: Holds the scans.
        output_dir: Gets a folder for each of them, and the tables of all.

    Raises:
        ValueError: The model or the folder cannot be used.
    """
    from inference.many_scans import segment_batch
    from inference.segmenter import Segmenter

    print(segment_batch(Segmenter([folder]), Path(dataset_dir), Path(output_dir)))


def inference_config() -> dict[str, Any]:
    """Return inference.json: `python -m monai.bundle run --config_file configs/inference.json --bundle_root .`."""
    return {
        "imports": ["$from ground_glass.bundle import segment_folder"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/scans'",
        "output_dir": "$@bundle_root + '/eval'",
        "network_def": {"_target_": "ground_glass.bundle.network", "folder": "@bundle_root"},
        "run": ["$segment_folder(@bundle_root, @dataset_dir, @output_dir)"],
    }


def readme(manifest: Mapping[str, Any]) -> str:
    """Return the README that MONAI's specification has in the docs of a bundle: for people, what it is and its use."""
    version, pre = manifest["written_with"]["ground-glass"], manifest["preprocessing"]
    context, size = pre["context_slices"], pre["size_px"]
    return f"""# Ground Glass: {manifest.get("experiment") or manifest["task"]}

A segmenter of lung opacities in chest CT (task `{manifest["task"]}`). For research: no medical device, and no diagnosis
may rest on it. `model_card.md` in the bundle's root says what it was trained on, with figures and limits.

## Use

The package ground-glass {version} has to be installed. It reads scans, checks them, finds the lungs, and writes masks
on each scan's own grid. In the bundle's root, with scans (DICOM folders, NIfTI, NRRD, MetaImage) in `scans`:

    python -m monai.bundle run --config_file configs/inference.json --bundle_root . --dataset_dir scans --output_dir out

The masks are those of `ground-glass predict scans -o out --ckpt .`. `network_def` in `configs/inference.json` is the
network alone, which `configs/metadata.json` describes: {context} slices of {size} x {size} pixels, with values
{pre["units"]}, to logits.

## Files

The weights are `model.safetensors`, and `manifest.json` says what they mean: they stand in for `models/model.pt`,
and nothing in them is run when they are loaded. `model.onnx`, if it is there, goes from HU to probabilities.

## Licence and authors

The weights' licence: {manifest.get("licence") or "not stated"}.
Authors: {AUTHORS}.
"""


def metadata(manifest: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """Return metadata.json of a model.

    Args:
        manifest: The model's.
        channels: Of the network's output.
    """
    size, context = manifest["preprocessing"]["size_px"], manifest["preprocessing"]["context_slices"]
    task = manifest["task"]
    names = [leaf["name"] for leaf in manifest["classes"]["leaves"]] if task == "opacity" else [task]
    plane = {"spatial_shape": [size, size], "dtype": "float32", "value_range": []}
    image = {"type": "image", "format": "hounsfield", "modality": "CT", "num_channels": context, **plane}
    image |= {"is_patch_data": False, "channel_def": {str(number): "slice" for number in range(context)}}
    answer = {"type": "image", "format": "segmentation", "num_channels": channels, **plane}
    answer |= {"is_patch_data": False, "channel_def": dict(zip(map(str, range(channels)), names, strict=True))}
    return {
        "schema": SCHEMA,
        "version": manifest["written_with"]["ground-glass"],
        "changelog": {manifest["written_with"]["ground-glass"]: f"weights of {manifest['checkpoint_sha256'][:12]}"},
        "monai_version": manifest["written_with"]["monai"],
        "pytorch_version": manifest["written_with"]["torch"],
        "numpy_version": manifest["written_with"]["numpy"],
        "required_packages_version": {"ground-glass": manifest["written_with"]["ground-glass"]},
        "optional_packages_version": {},
        "name": f"Ground Glass {manifest.get('experiment') or manifest['task']}",
        "task": f"Segmentation of {', '.join(names)} in chest CT",
        "description": "See model_card.md. Scans are prepared and restored by the package ground-glass.",
        "authors": AUTHORS,
        "copyright": manifest.get("licence") or "not stated",
        "intended_use": "Research. No medical device.",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": answer}},
    }
