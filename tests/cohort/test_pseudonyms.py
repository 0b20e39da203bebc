import hashlib
import multiprocessing
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest

from cohort.pseudonyms import cohort_salt, pseudonym


def test_the_salt_belongs_to_the_cohort_and_is_the_owners_alone(tmp_path: Path) -> None:
    salt = cohort_salt(tmp_path / "list.csv", tmp_path / "out1")
    assert len(bytes.fromhex(salt)) == 16
    assert cohort_salt(tmp_path / "list.csv", tmp_path / "out2") == salt
    assert cohort_salt(tmp_path / "other.csv", tmp_path / "out1") != salt
    file = tmp_path / ".list.salt"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [".list.salt", ".other.salt"]


def test_pseudonyms_by_hand() -> None:
    assert pseudonym("Miller", "ab") == hashlib.sha256(b"abMiller").hexdigest()[:12]


def test_several_commands_at_once_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with context.Pool(4) as pool:
        salts = pool.starmap(cohort_salt, [(tmp_path / "list.csv", tmp_path)] * 16, chunksize=1)
    assert len(set(salts)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [".list.salt"]


def test_where_the_cohorts_folder_cannot_be_written_it_lies_in_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, out = tmp_path / "cohort", tmp_path / "out"
    cohort.mkdir()
    out.mkdir()
    mkstemp = tempfile.mkstemp

    def read_only(
        dir: Path, **more: Any
    ) -> tuple[int, str]:  # root may write anywhere, so the folder's mode would not do
        if dir == cohort:
            raise PermissionError(13, os.strerror(13), str(dir))
        return mkstemp(dir=dir, **more)

    monkeypatch.setattr(tempfile, "mkstemp", read_only)
    salt = cohort_salt(cohort / "list.csv", out)
    assert cohort_salt(cohort / "list.csv", out) == salt == (out / ".salt").read_text()
