"""Stored pixels of DICOM files, decoded in this process or in a child.

Damaged JPEG bytes can make gdcm end the whole process or never return. So what needs gdcm is decoded in a child, whose
crash becomes one sentence about one file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import AllTransferSyntaxes

from ct.files.dicom.tags import one_sentence, read_dataset
from ct.refusal import Refusal, Sentence, word_of
from machine.package import ROOT, here

MODULE = here("ct.files.dicom.decoder")  # this one, as a child runs it
SYNTAXES = {syntax.name for syntax in AllTransferSyntaxes}
# A slice takes some ten milliseconds; the first one also waits for the child to start.
SECONDS_PER_FRAME = 60.0

Selection = Sequence[tuple[Path, Sequence[int]]]


def stored_frames(selection: Selection) -> Iterator[npt.NDArray[Any]]:
    """Decode frames one after the other.

    Args:
        selection: Files, each with the numbers of its frames to decode, from 0.

    Yields:
        Stored values (rows, columns).

    Raises:
        ValueError: A frame cannot be decoded.
    """
    for file, indices in selection:
        dataset = read_dataset(file, pixels=True)
        syntax = dataset.file_meta.TransferSyntaxUID
        problem = "the pixels ({syntax}) cannot be decoded"
        name = word_of(syntax.name, SYNTAXES)
        with one_sentence(file, problem, syntax=name):
            decoded = get_decoder(syntax).iter_array(dataset, indices=indices)
        for _ in indices:
            with one_sentence(file, problem, syntax=name):
                stored, _properties = next(decoded)
            yield stored


def stored_frames_of_child(selection: Selection) -> Iterator[npt.NDArray[Any]]:
    """Do what `stored_frames` does in a child process.

    Args:
        selection: As for `stored_frames`.

    Yields:
        Stored values (rows, columns).

    Raises:
        ValueError: A frame cannot be decoded, or decoding it ended the child or took a minute.
    """
    # -P: the folder that the user works in must not shadow a module; the child finds ct where this process has it.
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    with child:
        try:
            assert child.stdin is not None
            with suppress(OSError):  # A child that has ended sends nothing, which is refused below.
                child.stdin.write(json.dumps([[str(file), list(indices)] for file, indices in selection]).encode())
                child.stdin.close()
            for file, indices in selection:
                for _ in indices:
                    yield _receive(child, file)
        finally:
            child.kill()


def _receive(child: subprocess.Popen[bytes], file: Path) -> npt.NDArray[Any]:
    timer = threading.Timer(SECONDS_PER_FRAME, child.kill)
    timer.start()
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        message = json.loads(line) if line.endswith(b"\n") else None
        if isinstance(message, list):
            raise Refusal.of(Sentence.in_wordings(*message))
        if message is not None:
            pixels = child.stdout.read(message["bytes"])
            if len(pixels) == message["bytes"]:
                return np.frombuffer(pixels, dtype=message["dtype"]).reshape(message["shape"])
    finally:
        timer.cancel()
    raise Refusal(
        "{file}: the compressed pixels cannot be decoded (the decoder broke off or took more than "
        "{seconds:g} s); export it again",
        file=file,
        seconds=SECONDS_PER_FRAME,
    )


def _send_frames(selection: Selection, output: IO[bytes]) -> None:
    try:
        for stored in stored_frames(selection):
            pixels = stored.tobytes()
            message = {"dtype": stored.dtype.str, "shape": stored.shape, "bytes": len(pixels)}
            output.write(json.dumps(message).encode() + b"\n" + pixels)
    except Refusal as error:
        output.write(json.dumps([str(error), error.sentence.public]).encode() + b"\n")
    output.flush()


if __name__ == "__main__":
    _send_frames([(Path(file), indices) for file, indices in json.load(sys.stdin)], sys.stdout.buffer)
