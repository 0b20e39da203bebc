"""Whether a training has anything to learn from: the labels of its scans, looked at before it starts."""

from typing import Any

import numpy as np
from pytorch_lightning.utilities import rank_zero_info


def require_labels(module: Any, data: Any) -> None:
    """Refuse a training none of whose scans can teach what the module learns, and say how many can.

    Args:
        module: Offers `labels(scans)`, `shows_finding(target)` and `task`.
        data: Offers `slice_table`, `usable`, `targets`, `left_out` and `cohort`.

    Raises:
        ValueError: If no training scan has a label that the module needs, training reads none that has, or what the
            module is to find is in none of them.
    """
    table = data.slice_table("train")
    slices = data.usable(table, training=True)
    teaching = np.ones(len(table.scans), dtype=np.bool_)
    for label, labelled in module.labels(table.scans).items():
        count = f"{int(labelled.sum())} of {len(table.scans)} training scans have {label}"
        rank_zero_info(f"train: {count}")
        if not labelled.any():
            raise ValueError(f"{data.cohort}: {count}, without which this experiment learns nothing; add some")
        teaching &= labelled
    rows = np.flatnonzero(slices & teaching[table.scan])
    if not len(rows):
        raise ValueError(
            f"{data.cohort}: {count}, but no slice of theirs is read in training, which leaves out {data.left_out}"
        )
    # At random, since scans without the finding may stand together; the first slice that shows it ends the search.
    if not any(map(module.shows_finding, data.targets("train", np.random.default_rng(0).permutation(rows)))):
        raise ValueError(
            f"{data.cohort}: {count}, but none of these shows any {module.task}, which this experiment learns to find; "
            "add scans that do"
        )
