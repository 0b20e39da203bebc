"""What a visitor brought -> files -> a segmented scan: the one place that knows how `inference` is called."""

import hashlib
import json
import threading
import zipfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ct.read import read_mask, read_scan
from ct.scan import Scan
from inference.result import Masks, ModelCard, Result
from inference.segment import predict
from lightning_modules.weights import read_checkpoint

Progress = Callable[[str, float], None]
# Visitors wait for each other: two scans at once would need twice the memory and take as long.
ONE_AT_A_TIME = threading.Lock()


def receive(files: Sequence[tuple[str, bytes]], folder: Path) -> Path:
    """Lay uploaded files into an empty folder.

    Args:
        files: Name, as the browser says it, and bytes of each: a zip of a DICOM series, a NIfTI or NRRD file, or the
            files of a DICOM series.
        folder: Where to.

    Returns:
        The scan to read: a file, or a folder of DICOM files.

    Raises:
        ValueError: A zip cannot be unpacked.
    """
    folder.mkdir(parents=True)
    for number, (name, content) in enumerate(files):
        # Files of several folders may have one name.
        place = Path(name).name if len(files) == 1 else f"{number:05d}-{Path(name).name}"
        (folder / place).write_bytes(content)
    if len(files) > 1:
        return folder
    path = next(folder.iterdir())
    if path.suffix.lower() != ".zip":
        return path
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: no zip file; expected a zip of one DICOM series") from error
    path.unlink()
    return folder


def segment(checkpoint: Path, source: Path, out: Path, name: str, progress: Progress) -> Result:
    """Segment a scan and write all its outputs.

    Args:
        checkpoint: best.ckpt of a run.
        source: The scan: a DICOM folder or file, a NIfTI or an NRRD file.
        out: The folder of the outputs, not there yet.
        name: What the outputs call the scan.
        progress: Told what is being done and which share of all, 0 to 1, is over.

    Raises:
        ValueError: The scan cannot be used, in one sentence; nothing is written then.
    """
    progress("waiting for the scan of another visitor", 0.0)
    with ONE_AT_A_TIME:
        progress("segmenting", 0.1)
        predict(checkpoint, source, out)
    progress("reading the masks", 0.9)
    scan = read_scan(source)
    about = json.loads((out / "measurements.json").read_text(encoding="utf-8"))
    return Result(
        name=name,
        source=source,
        scan=scan,
        masks=_read_masks(out, scan),
        measurements={key: value for key, value in about.items() if value is None or isinstance(value, int | float)},
        lung_source=about["lung_source"],
        warnings=tuple(about["warnings"]),
        flags=(),
        model=_card(checkpoint),
    )


def _read_masks(out: Path, scan: Scan) -> Masks:
    stored: dict[str, Any] = {
        path.name.removesuffix(".nii.gz"): read_mask(path, scan) for path in sorted(out.glob("*.nii.gz"))
    }
    return {name: mask.astype(np.uint8 if name == "groups" else np.bool_) for name, mask in stored.items()}


def _card(checkpoint: Path) -> ModelCard:
    about: dict[str, Any] = read_checkpoint(checkpoint)["ground_glass"]
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    experiment = checkpoint.resolve().parent.parent.name
    return ModelCard(about["task"], experiment, (digest,), 1, about["size"], version("ground-glass"))
