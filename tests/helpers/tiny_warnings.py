"""Warnings that every scan of the tiny phantom has, by its coarse voxels alone."""


def tiny_warnings(slices: str) -> tuple[str, str]:
    """Return the warnings of its lobes and of its densities.

    Args:
        slices: What the second says of the slices, for example "slices are 25.2 mm thick".
    """
    lobes = (
        "no lobes: one of the two lungs is missing or has fewer than 1000 voxels of the lattice on which fissures are "
        "sought, too few to divide"
    )
    densities = (
        f"{slices}, more than 3 mm: they average holes with the lung around them, so emphysema, percentiles and spread "
        "cannot be compared with those of thin slices"
    )
    return lobes, densities
