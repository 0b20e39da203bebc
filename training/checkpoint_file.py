"""Checkpoint files: written whole or not at all, with their checksum inside, read without running any code in them."""

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_warn

from ct.refusal import Refusal, kind_of
from machine.whole_file import whole_file

# The checksum is the comment of the zip file that PyTorch writes: it cannot be parted from its checkpoint, neither by a
# kill between two writes nor by a user who copies one file of two.
LABEL = b"sha256 of the rest, comment empty: "
COMMENT = len(LABEL) + 64
END_OF_ZIP, END_OF_ZIP_BYTES = b"PK\x05\x06", 22


class CheckpointFiles(TorchCheckpointIO):
    """How the trainer reads and writes checkpoints: `write_checkpoint` and `load_checkpoint_file`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        # Whatever the caller asks for: nothing of ours needs code from a checkpoint.
        return load_checkpoint_file(Path(path), map_location)


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint and its checksum, whole or not at all.

    Raises:
        ValueError: If it cannot be written; what was at `path` before is still there.
    """
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, alone=True) as temporary, temporary.open("wb") as file:
            file.write(sealed(buffer.getvalue()))
            file.flush()
            os.fsync(file.fileno())  # or a crash of the machine could leave the new name with empty bytes
    except OSError as error:
        raise Refusal(
            "{path} cannot be written ({why}); make room or mend the folder, then start the same "
            "command again: it goes on from the last checkpoint",
            path=path,
            why=kind_of(error),
        ) from error


def load_checkpoint_file(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Load a checkpoint after its checksum, tensors and plain values only.

    Raises:
        ValueError: If there is no such file, it is damaged, it holds anything that would run code, or its weights are
            not finite. Whoever uses a checkpoint reads it here.
    """
    try:
        check_whole(path)
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except ValueError:
        raise
    except Exception as error:  # torch raises many kinds, and none names the file
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise Refusal(
            "{path} cannot be read as a checkpoint ({reason}); expected a best.ckpt of a run", path=path, reason=reason
        ) from error
    if not isinstance(checkpoint, dict):
        raise Refusal(
            "{path} holds a {kind}, expected a best.ckpt or last.ckpt of a run",
            path=path,
            kind=type(checkpoint).__name__,
        )
    if not finite_weights(checkpoint.get("state_dict", {})):
        raise Refusal(
            "{path} holds weights that are not finite (NaN or infinite), since its training diverged: it is "
            "no model; use another, or train it again with a lower learning rate (FRESH=1 starts over)",
            path=path,
        )
    return checkpoint


def finite_weights(state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return whether the weights and running statistics of all networks are finite, as a scalar on their device.

    Other values may be undefined, such as thresholds that were never picked. The host does not wait for the device.

    Args:
        state: A module's state; its networks are the attributes `network` and `<name>_network`.
    """
    weights = [value for key, value in state.items() if key.partition(".")[0].endswith("network")]
    return torch.stack([value.isfinite().all() for value in weights]).all() if weights else torch.tensor(True)


def newest_whole(paths: list[Path]) -> Path | None:
    """Return the first file that is whole, with a warning for each before it that is not.

    Args:
        paths: Newest first; what does not exist is passed over.

    Raises:
        ValueError: If there are some and all are damaged.
    """
    damages: list[str] = []
    for path in paths:
        if path.is_file():
            try:
                check_whole(path)
            except ValueError as error:
                damages.append(str(error))
            else:
                for damage in damages:
                    rank_zero_warn(f"{damage}; going on from {path} instead")
                return path
    if damages:
        raise Refusal(
            "no checkpoint of this run can be read: {damages}; or start over with FRESH=1", damages="; ".join(damages)
        )
    return None


def sealed(zipped: bytes) -> bytes:
    """Return a zip file without a comment with its checksum as comment."""
    assert zipped[-END_OF_ZIP_BYTES:].startswith(END_OF_ZIP)
    digest = hashlib.sha256(zipped).hexdigest().encode()
    return zipped[:-2] + COMMENT.to_bytes(2, "little") + LABEL + digest


def check_whole(path: Path) -> None:
    """Compare a file with its checksum; one by another program, without any, passes.

    Raises:
        ValueError: If they differ, or what should be there is cut off.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - COMMENT, 0))
        tail = file.read()
        if tail.startswith(LABEL):
            file.seek(0)
            digest = _sha256(file, size - COMMENT - 2)
            digest.update(b"\0\0")
            if digest.hexdigest().encode() == tail[len(LABEL) :]:
                return
        elif tail[-END_OF_ZIP_BYTES:].startswith(END_OF_ZIP) and tail.endswith(b"\0\0"):
            return
    raise Refusal(
        "{path} cannot be read as a checkpoint (damaged: its bytes do not fit its checksum); expected a "
        "whole best.ckpt or last.ckpt of a run: copy it again or use another",
        path=path,
    )


def _sha256(file: Any, length: int) -> Any:
    digest = hashlib.sha256()
    while length > 0:
        block = file.read(min(length, 1 << 20))
        digest.update(block)
        length -= len(block)
    return digest
