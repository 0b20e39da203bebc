"""Segmenter of scans: a model, or an ensemble of one task, with its settings."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ct.lungs.find import FILE, find_lungs
from ct.refusal import Refusal, Sentence, Word
from ct.scan import Scan
from inference.answer_flags import DECLARED_GREYS, ESTIMATED_GREYS, answer_flags
from inference.density import density_warnings, measure_density
from inference.flags import NO_TRAINING_SET, beyond_lungs, find_flags, grey_flags
from inference.load import member_of, module_of, training_set_of
from inference.lobar_scores import lobes_of, measure_scores
from inference.measure import measure, spread
from inference.model_flags import model_flags, model_warnings
from inference.model_names import folder_of, place_of
from inference.outputs.write_outputs import write_outputs
from inference.overlays import mask_of
from inference.result import ModelCard, Result
from inference.scan_list import Source
from inference.scan_masks import segment_scan
from inference.unpacked import read_new_scan, unpacked
from inference.volume_intervals import NAME, OTHER_SETTINGS, read_calibration
from lightning_modules.ensemble import check_members
from training.model_folder import check_file, is_model_folder, read_manifest
from training.weights import identity, read_checkpoint

DEVICES = ("auto", "cpu", "gpu")
IN_MEMORY = "scan"  # the name of a scan that has none
Progress = Callable[[str, float], None]  # called with the current step and the share that is done


def _no_progress(step: str, share: float) -> None:
    """Ignore progress."""


def experiment_of(model: Path) -> str:
    """Return the experiment of a model: the folder of its run folder, or the folder of a model that lies alone."""
    if is_model_folder(model):
        return str(read_manifest(model).get("experiment") or folder_of(model).resolve().name)
    folder = model.resolve().parent
    return folder.parent.name if (folder / "config.yaml").is_file() else folder.name


def torch_device(device: str) -> str:
    """Return PyTorch's name of "auto", "cpu" or "gpu".

    Raises:
        ValueError: It is none of these, or a GPU is asked for and there is none.
    """
    there = torch.cuda.is_available()
    if device not in DEVICES or (device == "gpu" and not there):
        found = Sentence("the device {device!r}", device=device) if device not in DEVICES else Word("no GPU")
        raise Refusal("found {found}; expected one of {devices}", found=found, devices=Word(", ".join(DEVICES)))
    return "cuda" if there and device != "cpu" else "cpu"


@cache
def _load_once(*settings: Any) -> "Segmenter":
    return Segmenter(*settings)


class Segmenter:
    """A model or ensemble that segments scans and writes all outputs.

    Args:
        checkpoints: best.ckpt of a run, a folder that `ground-glass export` wrote, or "default"; several: an ensemble.
        flips: Average over mirrored slices too.
        lung_method: How lungs are segmented where no mask is given: "classical" or "lungmask".
        modules: Modules that networks and priors may come from, beside those of this project: importing one runs it.
        device: "auto" (a GPU where there is one), "cpu" or "gpu".
        intervals: Give volumes the intervals of the calibration beside the first checkpoint, where there is one.

    Raises:
        ValueError: A checkpoint or its calibration cannot be used, or checkpoints are of different tasks.
    """

    def __init__(
        self,
        checkpoints: Sequence[str | Path],
        flips: bool = False,
        lung_method: str = "classical",
        modules: Sequence[str] = (),
        intervals: bool = True,
        device: str = "auto",
    ) -> None:
        self._settings = tuple(map(str, checkpoints)), flips, lung_method, tuple(modules), intervals, device
        places = [place_of(checkpoint) for checkpoint in checkpoints]
        chosen = torch_device(device)
        contents = [read_checkpoint(path) for path in places]
        self.modules = [
            module_of(content, path, modules).to(chosen) for content, path in zip(contents, places, strict=True)
        ]
        check_members(self.modules)
        self.classes = self.modules[0].classes
        self.training = training_set_of(contents[0])
        self.flips, self.lung_method = flips, lung_method
        self.card = ModelCard(
            task=self.modules[0].task,
            experiment=experiment_of(places[0]),
            checkpoints_sha256=tuple(map(identity, places)),
            flips=4 if flips else 1,
            size=self.modules[0].size,
            version=version("ground-glass"),
            members=tuple(map(member_of, contents)),
        )
        calibration = folder_of(places[0]) / NAME
        if intervals and calibration.exists() and is_model_folder(places[0]):
            check_file(calibration)
        self.calibration = read_calibration(calibration, self.card) if intervals and calibration.exists() else None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as its settings: another process loads the model once, however often it is handed it."""
        return _load_once, self._settings

    def predict(self, source: Source, out: Path, progress: Progress = _no_progress) -> Result:
        """Segment a scan, also one in a zip, into a new folder.

        Raises:
            ValueError: The scan or its lungs cannot be used, or `out` exists; nothing is written then.
        """
        if out.exists():
            raise Refusal(
                "{folder} exists already; give --out a new folder, so that no result is overwritten", folder=out
            )
        with unpacked(source.path) as path:
            result = self.segment(replace(source, path=path), progress)
            progress("write", 0.9)
            result = write_outputs(result, out)
        progress("done", 1.0)
        return result

    def segment(self, scan: Source | Scan | str | Path, progress: Progress = _no_progress) -> Result:
        """Segment a scan.

        Args:
            scan: A file, folder or zip to read; a scan in memory; or a `Source`, which names its lung mask too.
            progress: Called with the step that begins and the share that is done.

        Raises:
            ValueError: The scan or its lungs cannot be used.
        """
        if isinstance(scan, Scan):
            return self._segment(scan, Source(IN_MEMORY, Path(IN_MEMORY)), progress)
        source = scan if isinstance(scan, Source) else Source(IN_MEMORY, Path(scan))
        progress("read", 0.0)
        with unpacked(source.path) as path:
            source = replace(source, path=path)
            return self._segment(read_new_scan(path, source.grey_hu), source, progress)

    def _segment(self, scan: Scan, source: Source, progress: Progress) -> Result:
        progress("find the lungs", 0.1)
        lungs = find_lungs(scan, source.lung_mask, self.lung_method)
        scan = replace(scan, repairs=scan.repairs + lungs.repairs)
        segmentation = segment_scan(
            scan,
            lungs.mask,
            self.modules,
            self.flips,
            lambda share: progress("segment", 0.3 + 0.5 * share),
            lungs_given=lungs.source == FILE,
        )
        masks = segmentation.masks
        called = masks["lungs"].astype(np.bool_, copy=False)
        progress("measure", 0.8)
        lobes, lobe_warnings = lobes_of(scan, lungs.mask)
        labels = None if lobes is None else lobes.labels
        measured = measure(scan, masks, self.classes, labels)
        measured |= {"entropy_in_lungs_bits": segmentation.entropy_bits}
        measured |= spread(segmentation.shares, measured["lung_ml"])
        grey_warnings = [ESTIMATED_GREYS if each.estimated else DECLARED_GREYS for each in scan.grey_windows[:1]]
        warnings = [*lungs.warnings, *grey_warnings, *lobe_warnings, *density_warnings(scan)]
        warnings += [*model_warnings(self.card), *beyond_lungs(called, lungs.mask)]
        if not self.training:
            warnings.append(NO_TRAINING_SET)
        if self.calibration and self.calibration.fits(self.card, lungs.source):
            measured |= self.calibration.intervals(measured)
        elif self.calibration:
            warnings.append(OTHER_SETTINGS)
        outermost = self.classes.findings[0].key
        opacity = mask_of(masks, self.classes, outermost)
        measured |= measure_scores(scan, lobes, opacity, segmentation.shares[outermost], measured, outermost)
        measured |= measure_density(scan, called, labels, opacity)
        return Result(
            name=source.name,
            source=source.path,
            scan=scan,
            masks=masks,
            measurements=measured,
            lung_source=lungs.source,
            warnings=tuple(warnings),
            flags=(
                *answer_flags(scan, masks, self.classes, measured, segmentation.shares),
                *grey_flags(scan, asked=source.grey_hu is not None),
                *find_flags(scan, called, segmentation.lung_histogram, segmentation.features, self.training),
                *model_flags(self.card),
            ),
            model=self.card,
            classes=self.classes,
            lobes=labels,
        )
