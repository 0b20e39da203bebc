"""A checkpoint that would run code wherever it is unpickled."""

import os
from pathlib import Path
from typing import Any

import torch

from training.checkpoint_file import sealed


class Bomb:
    """Makes a file wherever it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def write_bomb(path: Path, trace: Path) -> Path:
    """Write a checkpoint of the right form with a checksum that fits, and a bomb in it that leaves a trace."""
    torch.save({"state_dict": {}, "ground_glass": {"task": "infection"}, "bomb": Bomb(trace)}, path)
    path.write_bytes(sealed(path.read_bytes()))
    return path
