"""Segment one scan as the command line does."""

from pathlib import Path

from inference.scan_list import Source
from inference.segmenter import Segmenter


def predict(checkpoint: Path, scan: Path, out: Path, lung_mask: Path | None = None, flips: bool = False) -> Path:
    """Write all outputs of a scan into a new folder `out`, which is returned."""
    Segmenter([checkpoint], flips).predict(Source(out.name, scan, lung_mask=lung_mask), out)
    return out
