"""What was repaired, without what the files' names and headers said: those may name a patient."""

EXAMPLE, CHOICE = ", for example ", " was chosen; left out: "


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
