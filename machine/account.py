"""A name and a home for a user id that the system does not know, as containers run under (`docker run --user 1234`)."""

import getpass
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path


def complete_account() -> None:
    """Give this process, and those that it starts, a user name and a home where its user id has no passwd entry.

    Libraries ask for the name when they are imported (MONAI), and without a home they fail or write to a folder named
    `~`. Whoever loads such libraries calls this before. On Windows, which has no passwd, there is nothing to complete.
    """
    try:
        import pwd
    except ModuleNotFoundError:
        return
    with suppress(KeyError):
        pwd.getpwuid(os.getuid())
        return
    try:
        getpass.getuser()  # USER and the like count
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
    # Docker's HOME of such a user is /, which only root may write to.
    if not os.access(os.environ.get("HOME", ""), os.W_OK):
        os.environ["HOME"] = _private_folder()


def _private_folder() -> str:
    """Return the same folder for every process of this user id, unless somebody else has made it."""
    folder = Path(tempfile.gettempdir(), f"ground-glass-{os.getuid()}")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    about = folder.lstat()
    private = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o077
    return str(folder) if private else tempfile.mkdtemp(prefix="ground-glass-")
