import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from callbacks.relabel import check_room
from lightning_modules.latent import LeafStore, MaskStore


def test_masks_come_back_bit_for_bit() -> None:
    store = MaskStore(10, (5, 7), torch.device("cpu"))  # 35 bits: not a multiple of 8
    masks = torch.rand(4, 1, 5, 7) > 0.5
    masks[2] = False
    rows = torch.tensor([7, 0, 3, 9])
    store.set(rows, masks)
    assert (store.get(rows) == masks).all()
    assert store.known.nonzero()[:, 0].tolist() == [0, 3, 7, 9]
    assert store.any(rows).tolist() == [True, True, False, True]
    assert not store.get(torch.tensor([1])).any()
    of_slices = [value for value in vars(store).values() if torch.is_tensor(value) and len(value) == 10]
    assert sum(value.nbytes for value in of_slices) == 10 * (5 + 8 + 1), "a bit a pixel, changes, whether it is known"


@pytest.mark.parametrize("kind", ["masks", "hard leaves", "soft leaves"])
def test_a_file_holds_what_memory_holds_and_is_there_for_the_next(tmp_path: Path, kind: str) -> None:
    def store(file: Path | None) -> MaskStore | LeafStore:
        if kind == "masks":
            return MaskStore(10, (5, 7), torch.device("cpu"), file)
        return LeafStore(10, 4, (5, 7), kind == "soft leaves", torch.device("cpu"), file)

    stores = [store(tmp_path / "latent"), store(None)]
    rows = torch.tensor([7, 0, 3])
    drawn = torch.rand(3, 4, 5, 7)
    for each in stores:
        if isinstance(each, MaskStore):
            each.set(rows, drawn[:, :1] > 0.5)
        else:
            each.set(rows, drawn / drawn.sum(1, keepdim=True), drawn[:, :1] > 0.3)
        assert each.note_changes(rows, torch.tensor([4, 0, 9]), 2).tolist() == [4, 0, 9]
    again = store(tmp_path / "latent")
    everything = torch.arange(10)
    for each in (stores[1], again):
        assert torch.equal(each.read(everything), stores[0].read(everything))
        assert torch.equal(each.any(everything), stores[0].any(everything))
    assert [each.is_shared for each in stores] == [True, False]
    # Cut off in epoch 2 and gone on with: what has changed is what changed the first time.
    assert again.note_changes(rows, torch.tensor([0, 0, 1]), 2).tolist() == [4, 0, 9]
    assert again.note_changes(rows, torch.tensor([0, 0, 1]), 3).tolist() == [0, 0, 1]
    smaller = MaskStore(9, (5, 7), torch.device("cpu"), tmp_path / "latent")
    assert not smaller.any(torch.arange(9)).any(), "the file of another table is none of this one's"


def test_a_file_takes_room_for_the_slices_alone_that_are_labelled(tmp_path: Path) -> None:
    million = MaskStore(1_000_000, (256, 256), torch.device("cpu"), tmp_path / "latent")
    rows = torch.arange(0, 1_000_000, 10_000)
    masks = torch.rand(len(rows), 1, 256, 256) > 0.5
    million.set(rows, masks)
    assert torch.equal(million.get(rows), masks)
    assert (tmp_path / "latent").stat().st_size == 8_192_000_000
    assert (tmp_path / "latent").stat().st_blocks * 512 < 4 * len(rows) * 8192


def test_labels_that_will_not_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2_000_000_000))
    check_room(2_000_000_000, tmp_path)
    (tmp_path / "latent").write_bytes(bytes(1_000_000))
    check_room(2_001_000_000, tmp_path)  # a run that goes on has some of them there
    (tmp_path / "latent").unlink()
    with pytest.raises(
        ValueError, match=r"latent labels need 2\.1 GB more there, and 2\.0 GB are free; make room, or give"
    ):
        check_room(2_100_000_000, tmp_path)
