"""Rows of a GPU, measured on the CPU at the smallest sizes."""

import re
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_rows, new_scan
from benchmarks.gpu_rows import HEADER, Size, card, e_step_row, predict_row, together, training_row
from benchmarks.prepared_example import write_prepared
from benchmarks.training_step import scans_of

TINY = Size(pixels=32, channels=2, steps=2, scans=2, repeats=1, num_workers=0)
cpu_only = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card")


@cpu_only
def test_a_machine_without_a_card_is_told_so() -> None:
    with pytest.raises(ValueError, match=r"finds no CUDA card on this machine; run this where"):
        gpu_rows.main([])
    with pytest.raises(ValueError, match="finds no CUDA card"):
        card()


def test_a_card_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "Card X")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(gpu_rows, "fastest_precision", lambda: "bf16-mixed")
    assert (card()["card"], card()["cards"], card()["precision"]) == ("Card X", "2", "bf16-mixed")


def test_cards_that_the_user_chose_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_rows._cards() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert gpu_rows._cards() == ["3", "5"]


@cpu_only
@pytest.mark.slow
def test_training_and_e_step_rows() -> None:
    training, e_step = training_row(TINY), e_step_row(TINY)
    assert len(training.cells) == len(HEADER)
    assert re.fullmatch(r"\d\.\d\d \(\d+ of \d+ samples/s\)", training.measured)
    assert re.fullmatch(r"\d+\.\d\dx \(\d\.\d\d s of \d\.\d\d s\)", e_step.measured)


@cpu_only
@pytest.mark.slow
def test_predict_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_scan, "SLICES", 40)
    monkeypatch.setattr(new_scan, "SIDE", 128)
    monkeypatch.setattr(new_scan, "PREPARED", 32)
    monkeypatch.setattr(new_scan, "SPACING_MM", (2.8, 2.8, 7.5))
    row = predict_row(TINY)
    assert row.claim == "scan of 40 x 128 x 128, file to masks and volumes"
    assert re.fullmatch(r"\d+\.\dx \(\d+\.\d s of \d+\.\d s\)", row.measured)


@cpu_only
@pytest.mark.slow
def test_two_processes_train_together(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared", scans=2 * scans_of(TINY.steps), size=TINY.pixels)
    assert together(2, prepared, TINY) > 0
