"""Temporary folder of a scan in a zip."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ct.files.archives import archive_kind
from ct.files.unzip import find_scan, unzip
from ct.refusal import Refusal


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield the path to read a scan from: a temporary folder for a zip, the path itself for others.

    Args:
        path: The scan.

    Raises:
        ValueError: The zip is damaged, unsafe or holds no single scan; its sentence names the zip, not the folder.
    """
    if not path.is_file() or archive_kind(path) != "zip":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="ground-glass-zip-", ignore_cleanup_errors=True) as folder:
        try:
            with path.open("rb") as content:
                unzip(str(path), content, Path(folder))
            yield find_scan(str(path), Path(folder))
        except Refusal as error:
            sentence = error.sentence
            raise Refusal.of(sentence.in_private(sentence.replace(folder, str(path)))) from error
