"""Output files of a segmented scan, written all or none."""

import json
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ct.files.write import write_mask
from ct.refusal import Sentence
from inference.outputs.dicom_seg import write_segmentation
from inference.outputs.scan_page import write_scan_page
from inference.outputs.structured_report import write_measurements_report
from inference.result import Result
from machine.whole_file import whole_folder

NUMBERS, PAGE = "measurements.json", "report.html"
LOBES = "lobes.nii.gz"
SEGMENTATION, REPORT = "segmentation.dcm", "measurements.dcm"
FLAGGED = "flagged: the result may be wrong, see measurements.json"


def write_outputs(result: Result, out: Path) -> Result:
    """Write every output of a scan; the folder appears whole or not at all.

    Args:
        result: The segmented scan.
        out: The folder to make.

    Returns:
        The result, with the warnings that arose while writing.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(out) as temporary:
        for name, mask in result.masks.items():
            write_mask(mask, result.scan, temporary / f"{name}.nii.gz", FLAGGED if result.flags else "")
        if result.lobes is not None:
            write_mask(result.lobes.view(np.uint8), result.scan, temporary / LOBES, FLAGGED if result.flags else "")
        if is_dicom(result):
            result = replace(result, warnings=result.warnings + write_dicom(result, temporary))
        text = json.dumps(numbers(result), indent=2, allow_nan=False)
        (temporary / NUMBERS).write_text(text + "\n", encoding="utf-8")
        write_scan_page(result, temporary / PAGE)
    return result


def write_dicom(result: Result, folder: Path) -> tuple[Sentence, ...]:
    """Write the segmentation and the structured report of a scan that was read from DICOM; return warnings."""
    with warnings.catch_warnings():
        # Tags of patient and study are kept as the scanner wrote them, also where they bend the standard.
        warnings.filterwarnings("ignore", category=UserWarning, module="pydicom|highdicom")
        new_warnings = write_segmentation(result, folder / SEGMENTATION)
        write_measurements_report(result, folder / SEGMENTATION, folder / REPORT)
    return new_warnings


def is_dicom(result: Result) -> bool:
    """Tell whether the scan was read from DICOM, whose headers the DICOM outputs refer to."""
    return bool(result.scan.frames)


def numbers(result: Result) -> dict[str, Any]:
    """Return the content of measurements.json, which takes nothing from names or headers of files."""
    return {
        "name": result.name,
        **result.measurements,
        "flags": list(result.flags),
        "lung_source": result.lung_source,
        **_estimated_greys(result),
        "verdict": "repaired" if result.scan.repairs else "pass",
        "repairs": [repair.public for repair in result.scan.repairs],
        "warnings": [warning.public for warning in result.warnings],
        "model": asdict(result.model) | {"card": result.model.card_line},
    }


def _estimated_greys(result: Result) -> dict[str, Any]:
    """Return what grey 0 and 255 of each slice were estimated to be and how sure that is; nothing for other scans."""
    windows = result.scan.estimated_windows
    if not windows:
        return {}
    return {f"grey_{name}": [getattr(each, name) for each in windows] for name in ("low_hu", "high_hu", "error_hu")}
