"""What dciodvfy, the validator of Debian's dicom3tools, says of a file."""

import shutil
import subprocess
from pathlib import Path

import pytest


def validate(path: Path) -> tuple[list[str], list[str]]:
    """Return the errors and the warnings; skip the test where the program is not installed."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    said = subprocess.run([program, "-new", str(path)], capture_output=True, text=True, check=False)
    lines = (said.stdout + said.stderr).splitlines()
    # It ends with the name of the information object that it has recognised; without, it has judged nothing.
    assert any(line in ("Segmentation", "ComprehensiveSR") for line in lines), lines
    return [line for line in lines if line.startswith("Error")], [line for line in lines if line.startswith("Warning")]
