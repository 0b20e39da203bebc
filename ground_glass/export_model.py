"""The command `ground-glass export`: a model as files that other programs read, and the documents that go with it."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ct.refusal import Refusal
from ground_glass.bundle import CONFIGS, README, inference_config, metadata, readme
from inference.model_names import CHECKPOINTS, DEFAULT, DEFAULT_MODEL, folder_of, place_of
from machine.whole_file import whole_folder, write_json, write_text

OWN_LICENCE = "Apache-2.0"  # of the default model
# Of a model that lies alone: what was measured of it, and what its run's files would say.
FIGURES, FACTS = "figures.json", "training.json"


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="ground-glass export",
        description="Write a model as safetensors with a manifest, ONNX and MONAI bundle, with its card and methods.",
        epilog="Exit codes: 0 done, or --check found no difference; 1 it found some; 2 the model cannot be used.",
    )
    parser.add_argument("model", nargs="?", default=DEFAULT, help=f"{CHECKPOINTS} (default: the default model)")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder to write, not there yet")
    parser.add_argument("--licence", default="", help="licence of the weights, for the card (SPDX, such as CC-BY-4.0)")
    parser.add_argument("--no-onnx", action="store_true", help="leave model.onnx out")
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing: name what in OUT differs from what the model's files give now, and what was not computed",
    )
    options = parser.parse_args(args)
    try:
        place = place_of(options.model)
        manifest = manifest_of(place, options.licence)
        if options.check:
            return report_differences(place, manifest, options.out)
        return write_all(place, manifest, options.out, onnx=not options.no_onnx)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def manifest_of(place: Path, licence: str = "") -> dict[str, Any]:
    """Return the manifest of a model, with what its run's files say.

    Raises:
        ValueError: The model or its run cannot be used.
    """
    from evaluation.run_facts import facts_of_run
    from training.model_folder import CALIBRATION, described, is_model_folder, read_manifest
    from training.weights import identity, read_checkpoint

    folder = folder_of(place)
    if is_model_folder(place):  # all that its run said is in there
        stored = read_manifest(place)
        return {key: value for key, value in stored.items() if key != "sha256"} | {
            "licence": licence or stored["licence"]
        }
    run = facts_of_run(folder) if (folder / "metrics.json").is_file() else _json(folder / FACTS)
    more: dict[str, Any] = {
        "experiment": run.get("experiment") or folder.resolve().name,
        "licence": licence or (OWN_LICENCE if place == DEFAULT_MODEL else ""),
        "run": run,
    }
    for name, file in (("calibration", CALIBRATION), ("measured", FIGURES)):
        if content := _json(folder / file):
            more[name] = content
    return described(read_checkpoint(place), identity(place), more)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_all(place: Path, manifest: dict[str, Any], out: Path, *, onnx: bool) -> int:
    """Write the folder of a model, whole or not at all.

    Raises:
        ValueError: The folder is there, or a file cannot be made.
    """
    from inference.load import load_module
    from training.model_folder import CALIBRATION, write_manifest, write_weights
    from training.weights import read_checkpoint

    if out.exists():
        raise Refusal("{folder} exists already; name a new folder with -o", folder=out)
    checkpoint = read_checkpoint(place)
    can = importlib.util.find_spec("onnxscript") is not None
    out.parent.mkdir(parents=True, exist_ok=True)
    module = load_module(place)
    with whole_folder(out) as folder:
        write_weights(checkpoint, folder)
        if "calibration" in manifest:
            write_json(manifest["calibration"], folder / CALIBRATION)
        if onnx and can:
            from inference.portable.onnx_model import write_onnx

            write_onnx(module, folder)
        manifest = write_manifest(manifest, folder)
        (folder / CONFIGS).mkdir()
        write_json(inference_config(), folder / CONFIGS / "inference.json")
        write_json(metadata(manifest, module.outputs), folder / CONFIGS / "metadata.json")
        for name, text in documents(manifest).items():
            (folder / name).parent.mkdir(exist_ok=True)
            write_text(text, folder / name)
        files = sorted(path.relative_to(folder) for path in folder.rglob("*.*"))
    print(*(f"{out / name}" for name in files), sep="\n")
    if onnx and not can:
        print('no model.onnx: the extra is not installed (pip install "ground-glass[export]")', file=sys.stderr)
    return 0


def documents(manifest: dict[str, Any]) -> dict[str, str]:
    """Return the documents of a model by their paths in its folder."""
    from evaluation.model_documents import CARD, METHODS, methods, model_card

    return {CARD: model_card(manifest), METHODS: methods(manifest), README: readme(manifest)}


def report_differences(place: Path, manifest: dict[str, Any], out: Path) -> int:
    """Compare an exported model with what its run says now; print what differs, and what was copied, not computed.

    Raises:
        ValueError: There is no exported model.
    """
    from training.model_folder import MANIFEST, read_manifest

    stored = read_manifest(out)
    now = manifest | {key: stored[key] for key in ("written_with", "sha256", "licence")}
    differences = [f"{MANIFEST}: {key}" for key in sorted({*now, *stored}) if now.get(key) != stored.get(key)]
    differences += _other_files(place, stored["sha256"], out)
    for name, text in documents(now).items():
        lines, written = text.splitlines(), (out / name).read_text(encoding="utf-8").splitlines()
        pairs = [(a, b) for a, b in zip(lines, written, strict=False) if a != b]
        differences += [f"{name}: has {b!r}; computed anew it is {a!r}" for a, b in pairs]
        differences += [f"{name}: has {len(written)} lines; anew {len(lines)}"] if len(lines) != len(written) else []
    print(*_copied(manifest), *differences or ["no difference"], sep="\n")
    return 1 if differences else 0


def _other_files(place: Path, stated: dict[str, str], out: Path) -> list[str]:
    """Name the files of an exported model that are not what the manifest states, or hold other weights."""
    from training.model_folder import WEIGHTS, checksum, weights_of
    from training.weights import read_checkpoint

    there = {name: checksum(out / name) if (out / name).is_file() else "" for name in stated}
    lines = [f"{name}: is missing" for name in stated if not there[name]]
    lines += [
        f"{name}: has the SHA-256 {there[name]}; the manifest states {stated[name]}"
        for name in stated
        if there[name] not in ("", stated[name])
    ]
    if there[WEIGHTS] and there[WEIGHTS] != hashlib.sha256(weights_of(read_checkpoint(place))).hexdigest():
        lines.append(f"{WEIGHTS}: has other weights than {place}")
    return lines


def _copied(manifest: dict[str, Any]) -> list[str]:
    """Say which figures were only compared with the file that states them, and what computes each anew."""
    from evaluation.measured_figures import origins

    lines = ["copied, not computed: validation figures, which the checkpoint states; training computes them"]
    lines += [
        f"copied, not computed: {name}, which {FIGURES} states; anew by: {command or 'a command that is not stated'}"
        for name, command in origins(manifest.get("measured") or {})
    ]
    return lines if manifest["validation"] else lines[1:]
