from pathlib import Path

import pytest

from inference.model_names import checkpoints_in


def test_a_path_that_exists_is_one_and_others_are_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my runs").mkdir()
    for name in ("my runs/best.ckpt", "best.ckpt", "a[1].ckpt", "a1.ckpt", "O'Brien's.ckpt"):
        (tmp_path / name).touch()
    assert checkpoints_in(["my runs/best.ckpt"]) == ["my runs/best.ckpt"]
    assert checkpoints_in(["best.ckpt a1.ckpt"]) == ["best.ckpt", "a1.ckpt"]
    assert checkpoints_in(["'my runs/best.ckpt'  best.ckpt"]) == ["my runs/best.ckpt", "best.ckpt"]
    assert checkpoints_in(["my runs/best.ckpt", "best.ckpt"]) == ["my runs/best.ckpt", "best.ckpt"]
    assert checkpoints_in(["O'Brien's.ckpt"]) == ["O'Brien's.ckpt"]
    assert checkpoints_in(["O'Brien.ckpt"]) == ["O'Brien.ckpt"]  # missing, and said to be
    assert checkpoints_in(["a[1].ckpt"]) == ["a[1].ckpt"]
    assert checkpoints_in(["a*.ckpt"]) == ["a1.ckpt", "a[1].ckpt"]
    assert checkpoints_in(["*/best.ckpt no.ckpt"]) == ["my runs/best.ckpt", "no.ckpt"]
    assert checkpoints_in([""]) == []
