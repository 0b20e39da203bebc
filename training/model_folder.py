"""A model as a folder that any program reads: model.safetensors, and manifest.json with all that its weights mean.

A best.ckpt is a zip of PyTorch's; these are tensors and text. Both hold the same, and every door takes either.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from ct.classes import EM, L3
from ct.refusal import Refusal, Word, kind_of
from machine.whole_file import whole_file, write_json
from training.checkpoint_file import finite_weights

WEIGHTS, GRAPH, CALIBRATION, MANIFEST = "model.safetensors", "model.onnx", "calibration.json", "manifest.json"
CHECKED = (WEIGHTS, GRAPH, CALIBRATION)  # the manifest has the checksum of each that is there
FORMAT = "ground-glass model 1"
TRAINING_SET = "training_set."  # prefix of the tensors that describe the training set
# Tasks whose class set is paper EM's: their modules take none.
TASKS_OF_EM = ("infection", "consolidation")
LUNGS = "found by thresholds and shapes (`ct.lungs.classical`), or given"
WHOLE_IMAGE = "every pixel of the image"
LIBRARIES = ("torch", "monai", "numpy", "ground-glass")
UNITS = {
    "infection": "(HU + 1024) / 110, and 0 outside the lungs",
    "consolidation": "(HU + 1024) / 110, and 0 outside the lungs",
    "opacity": "(HU clipped to window_hu - hu_mean) / hu_std",
}


def is_model_folder(path: Path) -> bool:
    """Tell whether a path is such a folder, or its manifest or weights."""
    return path.is_dir() or path.name in (WEIGHTS, MANIFEST)


def learned_on_whole_images(about: Mapping[str, Any]) -> bool:
    """Return whether every pixel counted as lung in all that a model learned from.

    Args:
        about: `ground_glass` of its checkpoint; older ones do not say, and count as no.
    """
    counts = about.get("trained_on", {})
    return 0 < counts.get("whole_images", 0) == counts.get("scans")


def described(checkpoint: Mapping[str, Any], sha256: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of a model, but for the checksums of its files.

    Args:
        checkpoint: As `training.weights.read_checkpoint` returns it.
        sha256: The hash by which results and calibrations name the model: of its best.ckpt.
        more: Sections that this module knows nothing of, such as licence and test figures; plain values.
    """
    about = checkpoint["ground_glass"]
    arguments, counted = dict(about["arguments"]), about.get("training") or {}
    own_classes = arguments.pop("classes", None)
    classes = own_classes or (EM if about["task"] in TASKS_OF_EM else L3).plain()
    manifest = {
        "format": FORMAT,
        "task": about["task"],
        "architecture": arguments.pop("network"),
        "classes": classes,
        "arguments": arguments,
        "preprocessing": {
            "size_px": about["size"],
            "context_slices": arguments.get("context", 1),
            "slice_mm": "slices thinner than 4 mm became slices of about 5 mm, thicker ones stayed",
            "in_plane": "padded to a square in mm, then resampled to size_px x size_px (area averaging or linear)",
            "units": UNITS.get(about["task"], "as the task's module makes them"),
            "lungs": WHOLE_IMAGE if learned_on_whole_images(about) else LUNGS,
        },
        "trained_on": about.get("trained_on", {}),
        "training_set": {name: value for name, value in counted.items() if isinstance(value, int)},
        "validation": about.get("validation", {}),
        "written_with": {name: version(name) for name in LIBRARIES},
        "checkpoint_sha256": sha256,
        **more,
    }
    plain: dict[str, Any] = json.loads(json.dumps(manifest))  # tuples become lists, as they are read back
    return plain


def weights_of(checkpoint: Mapping[str, Any]) -> bytes:
    """Return the content of model.safetensors: the same bytes for the same model."""
    values = checkpoint["ground_glass"].get("training") or {}
    tensors = dict(checkpoint["state_dict"])
    tensors |= {f"{TRAINING_SET}{name}": torch.as_tensor(v) for name, v in values.items() if not isinstance(v, int)}
    return save_safetensors({name: value.clone().contiguous() for name, value in tensors.items()}, {"format": "pt"})


def write_weights(checkpoint: Mapping[str, Any], folder: Path) -> None:
    """Write model.safetensors into a folder that exists.

    Raises:
        OSError: It cannot be written.
    """
    with whole_file(folder / WEIGHTS) as temporary:
        temporary.write_bytes(weights_of(checkpoint))


def write_manifest(manifest: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write manifest.json, last, with the checksums of the files beside it; return it with these.

    Raises:
        OSError: It cannot be written.
    """
    whole = {**manifest, "sha256": {name: checksum(folder / name) for name in CHECKED if (folder / name).is_file()}}
    write_json(whole, folder / MANIFEST)
    return whole


def write_calibration_of(folder: Path, calibration: Mapping[str, Any]) -> None:
    """Write calibration.json into a model folder, and into its manifest.

    Raises:
        ValueError: The folder is no model.
        OSError: A file cannot be written.
    """
    manifest = read_manifest(folder)
    write_json(calibration, folder / CALIBRATION)
    plain = json.loads(json.dumps(calibration))
    checksums = manifest["sha256"] | {CALIBRATION: checksum(folder / CALIBRATION)}
    write_json(manifest | {"calibration": plain, "sha256": checksums}, folder / MANIFEST)


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_file(path: Path) -> None:
    """Compare a file of a model folder with the manifest beside it; one that the manifest does not name passes.

    Raises:
        ValueError: They differ.
    """
    stated = read_manifest(path).get("sha256", {})
    if path.name in stated and checksum(path) != stated[path.name]:
        raise _damaged(path)


def _damaged(path: Path) -> Refusal:
    return Refusal(
        "{path} is damaged, or of another model than the manifest beside it: its checksum differs; "
        "copy the whole folder again{more}",
        path=path,
        more=Word(", or calibrate the model again" if path.name == CALIBRATION else ""),
    )


def read_manifest(place: Path) -> dict[str, Any]:
    """Return the manifest of a model folder.

    Args:
        place: The folder, or one of its files.

    Raises:
        ValueError: There is none, or it is not of this format.
    """
    path = (place if place.is_dir() else place.parent) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found = manifest.get("format") if isinstance(manifest, dict) else None
    except (OSError, ValueError) as error:
        raise Refusal(
            "{folder} is no model ({why}); expected the best.ckpt of a run, or a folder with {manifest} and {weights}",
            folder=path.parent,
            why=kind_of(error),
            manifest=MANIFEST,
            weights=WEIGHTS,
        ) from error
    if found != FORMAT:
        raise Refusal(
            "{path} is of the format {found!r}; expected {format!r}: use the version that wrote it",
            path=path,
            found=str(found)[:80],
            format=FORMAT,
        )
    return manifest


def read_model(place: Path) -> dict[str, Any]:
    """Read a model folder as `training.weights.read_checkpoint` reads a best.ckpt: plain values and tensors only.

    Raises:
        ValueError: A file is missing, damaged or of another format, or the weights are not finite.
    """
    manifest = read_manifest(place)
    path = (place if place.is_dir() else place.parent) / WEIGHTS
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest["sha256"][WEIGHTS]:
            raise _damaged(path)
        if path.with_name(GRAPH).is_file():  # whoever runs it looks at nothing else
            check_file(path.with_name(GRAPH))
        tensors = load_safetensors(content)
        described = {
            name.removeprefix(TRAINING_SET): tensors.pop(name)
            for name in list(tensors)
            if name.startswith(TRAINING_SET)
        }
        classes = {} if manifest["task"] in TASKS_OF_EM else {"classes": manifest["classes"]}
        about = {
            "task": manifest["task"],
            "size": manifest["preprocessing"]["size_px"],
            "arguments": {"network": manifest["architecture"], **classes, **manifest["arguments"]},
            "trained_on": manifest["trained_on"],
            "validation": manifest["validation"],
        }
        if described:
            about["training"] = {**manifest["training_set"], **described}
    except (OSError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise Refusal(
            "{path} cannot be read with its manifest ({why}: {error}); copy the whole folder again",
            path=path,
            why=kind_of(error),
            error=error,
        ) from error
    if not finite_weights(tensors):
        raise Refusal("{path} holds weights that are not finite (NaN or infinite); use another model", path=path)
    return {"state_dict": tensors, "ground_glass": about}
