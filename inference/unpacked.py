"""A zip that holds a scan, as the scan in a folder of its own for as long as it is needed."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ct.files.archives import archive_kind
from ct.files.unzip import find_scan, unzip
from ct.refusal import Refusal


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield where a scan can be read: inside a folder that is gone afterwards for a zip, the path itself for others.

    Args:
        path: The scan.

    Raises:
        ValueError: The zip is damaged, unsafe or holds no single scan; whatever is said of its files names the zip.
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
            said = error.sentence
            raise Refusal.of(said.in_private(said.replace(folder, str(path)))) from error
