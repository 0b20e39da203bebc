"""Ground Glass as a library: `ground_glass.load_model("default").segment(path)`.

What stands here keeps its name and meaning from version to version. Importing it takes no time: PyTorch is imported by
the first call.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.segmenter import Segmenter

__all__ = ["load_model"]
__version__ = version("ground-glass")


def load_model(
    model: str | Path | Sequence[str | Path] = "default",
    *,
    flips: bool = False,
    lungs: str = "classical",
    device: str = "auto",
    modules: Sequence[str] = (),
) -> Segmenter:
    """Load a model that segments scans.

    Args:
        model: "default", which is part of the package; a run or its best.ckpt; a folder that `ground-glass export`
            wrote; or several of these, which make an ensemble.
        flips: Average over mirrored slices too: four times the work.
        lungs: How lungs are found where no mask is given: "classical" or "lungmask".
        device: "auto" (a GPU where there is one), "cpu" or "gpu".
        modules: Modules of your own that the model's network may come from; they are imported, and so run.

    Returns:
        The model; its `segment` takes a path or a `ct.scan.Scan` and returns an `inference.result.Result`.

    Raises:
        ValueError: There is no such model, or it cannot be used; the sentence says why and what to do.
    """
    from inference.segmenter import Segmenter

    models = [model] if isinstance(model, str | Path) else list(model)
    return Segmenter(models, flips, lungs, modules, device=device)
