"""Sentences without what files' names and headers said: those may name a patient."""

import re
from pathlib import Path

EXAMPLE, CHOICE = ", for example ", " was chosen; left out: "
UID = re.compile(r"\b\d+(?:\.\d+){4,}\b")
PATH = re.compile(r"(?:[^\s'\"(),;:]*/)+[^\s'\"(),;:]*")
QUOTED = re.compile(r"'[^']*'")


def without_names(repair: str) -> str:
    """A repair as outputs that carry no identity say it.

    Args:
        repair: A sentence of `Scan.repairs`.

    Returns:
        The sentence up to the example file that it names; a choice among series without their descriptions.
    """
    if CHOICE in repair:
        return "the files hold more than one series; one was chosen and the rest left out"
    return repair.split(EXAMPLE)[0]


def reason_without_names(reason: str, source: Path, name: str) -> str:
    """Why a scan was refused, as outputs that carry no identity say it.

    Args:
        reason: The sentence; it may name files, quote headers and list series.
        source: Where the scan was to be read from.
        name: What outputs call the scan.

    Returns:
        The sentence with the scan's own name for its path, and without other paths, UIDs and quotations.
    """
    for path in (str(source), str(source.resolve())):
        reason = re.sub(re.escape(path) + r"(/[^:;]*)?(?=[:;,\s]|$)", name, reason)
    # What stands between quotation marks is a header's text, which may be anything.
    return UID.sub("<uid>", PATH.sub("<file>", QUOTED.sub("<text>", reason)))
