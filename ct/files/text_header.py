"""Volume formats with a header of text lines, and the voxels behind it or in a separate file: NRRD and MetaImage."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ct.files.volume_file import DAMAGE, Layout, StoredVolume, first_line
from ct.refusal import Refusal, word_of
from ct.scan import Affine

FORMATS = ("NRRD", "MetaImage")

Fields = dict[str, str]  # values by name, in lower case
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class TextHeaderFormat:
    """A format of volumes with one number per voxel.

    Its functions take the file, which their errors name, and raise a ValueError where a header or voxels are wrong.

    Attributes:
        name: One of `FORMATS`.
        read_fields: Reads the header from the start of a file and stops behind it.
        affine: Checks the fields that say where the volume lies; (4, 4) of (i, j, k) to RAS+ mm.
        shape_and_type: Sizes (I, J, K) and type of the voxels.
        voxels_name: Name of the voxels' file in the header; None where they follow it.
        read_data: Reads the voxels from a stream that stands behind the header, or at the start of the voxels' file.
    """

    name: str
    read_fields: Callable[[Path, BinaryIO], Fields]
    affine: Callable[[Path, Fields], Affine]
    shape_and_type: Callable[[Path, Fields], tuple[Shape, np.dtype[Any]]]
    voxels_name: Callable[[Fields], str | None]
    read_data: Callable[[Path, BinaryIO, Fields, Shape, np.dtype[Any]], npt.NDArray[Any]]

    def read(self, path: Path) -> StoredVolume:
        """Read a volume.

        Raises:
            ValueError: Damaged, not one volume of numbers, or without its place in the patient.
        """
        try:
            with path.open("rb") as file:
                fields = self.read_fields(path, file)
                affine = self.affine(path, fields)
                shape, dtype = self.shape_and_type(path, fields)
                apart = self._voxels(path, fields)
                if apart is None:
                    return StoredVolume(self.read_data(path, file, fields, shape, dtype), affine)
            if not apart.is_file():
                raise Refusal(
                    "{path}: its voxels should be in {file!r}, which does not exist; keep both files together",
                    path=path,
                    file=str(apart),
                )
            with apart.open("rb") as file:
                return StoredVolume(self.read_data(apart, file, fields, shape, dtype), affine)
        except DAMAGE as error:
            raise self._unreadable(path, error) from error

    def layout(self, path: Path) -> Layout:
        """Read the header alone; raises as `read` does."""
        with path.open("rb") as file:
            fields = self.read_fields(path, file)
        shape, dtype = self.shape_and_type(path, fields)
        return Layout(shape, dtype.itemsize, self.affine(path, fields))

    def voxels_apart(self, path: Path) -> Path | None:
        """Return the file that a header names for its voxels, or None where they are in the file itself.

        Raises:
            ValueError: Not a file of this format, or its voxels are in several files.
        """
        try:
            with path.open("rb") as file:
                return self._voxels(path, self.read_fields(path, file))
        except OSError as error:
            raise self._unreadable(path, error) from error

    def _voxels(self, path: Path, fields: Fields) -> Path | None:
        name = self.voxels_name(fields)
        if name is None:
            return None
        if not name or name.upper().startswith("LIST") or "%" in name:
            raise Refusal(
                "{path}: its voxels are spread over several files ({name!r}); expected one; export it again",
                path=path,
                name=name,
            )
        return path.parent / name

    def _unreadable(self, path: Path, error: BaseException) -> Refusal:
        return Refusal(
            "{path}: not a readable {format} file ({why}); export it again",
            path=path,
            format=word_of(self.name, FORMATS),
            why=first_line(error),
        )


def three_sizes(text: str) -> Shape | None:
    """Read the sizes of a volume; None where a text does not hold three whole numbers above 0."""
    if not re.fullmatch(r"\s*\d{1,9}\s+\d{1,9}\s+\d{1,9}\s*", text):
        return None
    sizes = [int(size) for size in text.split()]
    return (sizes[0], sizes[1], sizes[2]) if min(sizes) > 0 else None
