"""New scans as they are read: unpacked if they are in a zip, with estimated HU if they are grey values alone."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ct.files.archives import archive_kind
from ct.files.images import is_slice_image
from ct.files.read import read_scan
from ct.files.unzip import find_scan, unzip
from ct.grey_window import AUTO, Greys
from ct.refusal import Refusal
from ct.scan import Scan


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


def read_new_scan(path: Path, grey_hu: Greys | None) -> Scan:
    """Read a new scan; a slice image that nobody declared is read all the same, with estimated HU.

    Args:
        path: As `unpacked` yields it.
        grey_hu: What grey 0 and 255 stand for, where a cohort says that the scan is made of grey values; or `AUTO`.

    Raises:
        ValueError: The scan cannot be used.
    """
    return read_scan(path, grey_hu=AUTO if grey_hu is None and is_slice_image(path) else grey_hu)
