"""A segmented scan -> its files, all of them or none."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ct.write import write_mask
from inference.result import Result
from inference.without_names import without_names

NUMBERS = "measurements.json"


def write_outputs(result: Result, out: Path) -> None:
    """Write every output of a scan; the folder appears whole or not at all.

    Args:
        result: The segmented scan.
        out: The folder to make.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    # Named after the scan, so that what a killed run left is taken away when the scan is tried again.
    temporary = out.with_name(f".{out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        for name, mask in result.masks.items():
            write_mask(mask, result.scan, temporary / f"{name}.nii.gz")
        text = json.dumps(numbers(result), indent=2, allow_nan=False)
        (temporary / NUMBERS).write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def numbers(result: Result) -> dict[str, Any]:
    """What measurements.json says; nothing in it comes from names or headers of files."""
    return {
        "name": result.name,
        **result.measurements,
        "flags": list(result.flags),
        "lung_source": result.lung_source,
        "verdict": "repaired" if result.scan.repairs else "pass",
        "repairs": [without_names(repair) for repair in result.scan.repairs],
        "warnings": list(result.warnings),
        "model": asdict(result.model),
    }
