"""What a visitor picked -> a segmented scan: the one place that knows how `inference` is called."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from inference.result import Result
from inference.scan_list import Source
from inference.segmenter import Segmenter

Progress = Callable[[str, float], None]
# Visitors wait for each other: two scans at once would need twice the memory and take as long.
ONE_AT_A_TIME = threading.Lock()


def segment(
    checkpoint: Path, flips: bool, scan: Path, out: Path, name: str, progress: Progress, modules: Sequence[str] = ()
) -> Result:
    """Segment a scan and write all its outputs.

    Args:
        checkpoint: best.ckpt of a run.
        flips: Average over mirrored slices too.
        scan: A DICOM folder or file, a NIfTI or an NRRD file.
        out: The folder of the outputs, not there yet.
        name: What the outputs call the scan.
        progress: Told what is being done and which share of all, 0 to 1, is over.
        modules: Modules of the user's own from which the checkpoint's network or prior may come.

    Raises:
        ValueError: The checkpoint or the scan cannot be used, in one sentence; nothing is written then.
    """
    progress("wait for the scan of another visitor", 0.0)
    with ONE_AT_A_TIME:
        return Segmenter([checkpoint], flips, modules=modules).predict(Source(name, scan), out, progress)
