"""Pseudonyms of patients: the same for one cohort wherever it is prepared, and not to be undone by trying names."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from pathlib import Path

from machine.file_lock import locked


def pseudonym(patient_id: str, salt: str) -> str:
    """Return 12 hex digits that stand for a patient."""
    return hashlib.sha256(f"{salt}{patient_id}".encode()).hexdigest()[:12]


def cohort_salt(cohort_csv: Path, out_dir: Path) -> str:
    """Return the cohort's salt, drawn at its first use; without one, pseudonyms could be undone by trying names.

    It lies beside cohort.csv, as secret as the patient ids there, so that a cohort that is prepared in two places, or
    again after its prepared folder was lost, gets the same pseudonyms and byte by byte the same index. Only where that
    folder cannot be written it lies in `out_dir`.

    Args:
        cohort_csv: The cohort.
        out_dir: The folder of its prepared scans.

    Returns:
        32 hex digits.

    Raises:
        OSError: It can be kept in neither folder.
    """
    try:
        return _read_or_draw(cohort_csv.with_name(f".{cohort_csv.stem}.salt"))
    except OSError:
        return _read_or_draw(out_dir / ".salt")


def _read_or_draw(path: Path) -> str:
    if not path.exists():
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}-")  # readable by the owner only
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(secrets.token_hex(16))
            # Whole or not at all, and the first of several commands wins.
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            with locked(path.with_name(f"{path.name}.lock")):
                if not path.exists():
                    os.rename(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    return path.read_text(encoding="utf-8")
