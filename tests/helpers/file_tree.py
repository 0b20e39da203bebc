"""All files of a folder as hashes, for tests that compare what two ways of working leave."""

import hashlib
from collections.abc import Callable
from pathlib import Path


def tree(folder: Path, content: Callable[[Path], bytes] = Path.read_bytes) -> dict[str, str]:
    """Return the sha256 of the content of every file below a folder that is not hidden."""
    files = {file: file.relative_to(folder) for file in folder.rglob("*") if file.is_file()}
    return {
        str(name): hashlib.sha256(content(file)).hexdigest()
        for file, name in files.items()
        if not any(part.startswith(".") for part in name.parts)
    }
