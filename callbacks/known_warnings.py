"""Warnings that are true of every run here and nothing that a user could act on."""

import warnings

# The module augments on the device by design, and Lightning's own use of PyTorch is a version behind.
KNOWN = (
    "You have overridden `on_after_batch_transfer`",
    "`isinstance\\(treespec",
    "The number of training batches",
    "The '.*_dataloader' does not have many workers",
    "Checkpoint directory",
    "Experiment logs directory",
    "It is recommended to use `self.log\\(.*sync_dist=True\\)`",  # every rank computes the same figure
)


def ignore_known_warnings() -> None:
    """Keep them off the terminal, so that those that matter are seen."""
    for message in KNOWN:
        warnings.filterwarnings("ignore", message)
