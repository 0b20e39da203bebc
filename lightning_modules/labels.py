"""A check that a training has something to learn from: the labels of its scans, before it starts."""

from typing import Any

import numpy as np
from pytorch_lightning.utilities import rank_zero_info

from ct.refusal import Refusal, Sentence


def require_labels(module: Any, data: Any) -> None:
    """Refuse a training whose scans cannot teach what the module learns; else say how many can.

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
        text = "{labelled} of {scans} training scans have {label}"
        count = Sentence(text, labelled=int(labelled.sum()), scans=len(table.scans), label=label)
        rank_zero_info(f"train: {count}")
        if not labelled.any():
            raise Refusal(
                "{cohort}: {count}, without which this experiment learns nothing; add some",
                cohort=data.cohort,
                count=count,
            )
        teaching &= labelled
    rows = np.flatnonzero(slices & teaching[table.scan])
    if not len(rows):
        raise Refusal(
            "{cohort}: {count}, but no slice of theirs is read in training, which leaves out {left_out}",
            cohort=data.cohort,
            count=count,
            left_out=data.left_out,
        )
    # At random, since scans without the finding may stand together; the first slice that shows it ends the search.
    if not any(map(module.shows_finding, data.targets("train", np.random.default_rng(0).permutation(rows)))):
        raise Refusal(
            "{cohort}: {count}, but none of these shows any {task}, which this experiment learns to find; "
            "add scans that do",
            cohort=data.cohort,
            count=count,
            task=module.task,
        )
