"""Checkpoints as files: whole or not at all, damage is noticed, and nothing in one is ever run."""

import errno
import os
import pickle
from pathlib import Path

import pytest
import torch
from bomb import Bomb, write_bomb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.checkpoint_file import (
    CheckpointFiles,
    check_whole,
    load_checkpoint_file,
    newest_whole,
    write_checkpoint,
)

CHECKPOINT = {"state_dict": {"w": torch.arange(7.0)}, "epoch": 3, "name": "é"}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "best.ckpt"
    write_checkpoint(CHECKPOINT, path)
    read = load_checkpoint_file(path)
    assert torch.equal(read.pop("state_dict")["w"], torch.arange(7.0))
    assert read == {"epoch": 3, "name": "é"}
    assert [file.name for file in path.parent.iterdir()] == ["best.ckpt"]
    check_whole(path)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_noticed(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint(CHECKPOINT, path)
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        bit = 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
    else:
        path.write_bytes(content[:place])
    with pytest.raises(ValueError, match="cannot be read as a checkpoint") as caught:
        load_checkpoint_file(path)
    assert str(path) in str(caught.value)


def test_a_checkpoint_without_checksum_is_read(tmp_path: Path) -> None:
    torch.save(CHECKPOINT, tmp_path / "old.ckpt")  # by an older version
    assert load_checkpoint_file(tmp_path / "old.ckpt")["epoch"] == 3


def test_a_damaged_checkpoint_falls_back_with_a_warning(tmp_path: Path) -> None:
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    assert newest_whole([last, previous]) is None
    write_checkpoint(CHECKPOINT, last)
    write_checkpoint(CHECKPOINT, previous)
    assert newest_whole([last, previous]) == last
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=r"last\.ckpt cannot be read .* going on from .*previous\.ckpt instead"):
        assert newest_whole([last, previous]) == previous
    previous.write_bytes(b"")
    with pytest.raises(ValueError, match="start over with FRESH=1"):
        newest_whole([last, previous])


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint(CHECKPOINT, path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for broken in (full, lambda descriptor: (_ for _ in ()).throw(KeyboardInterrupt)):
        monkeypatch.setattr(os, "fsync", broken)
        with pytest.raises((ValueError, KeyboardInterrupt)):
            write_checkpoint({"other": 1}, path)
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("ask", [None, False, True])
def test_a_bomb_does_not_go_off(tmp_path: Path, ask: bool | None) -> None:
    path, trace = tmp_path / "bomb.ckpt", tmp_path / "trace"
    check_whole(write_bomb(path, trace))
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        CheckpointFiles().load_checkpoint(path, weights_only=ask)
    path.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        CheckpointFiles().load_checkpoint(path, weights_only=ask)
    assert not trace.exists()
    torch.save(Bomb(trace), path)
    torch.load(path, weights_only=False)
    assert trace.exists(), "the bomb would have gone off"
