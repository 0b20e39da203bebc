"""What libraries say of every run here and no user could act on: warnings, and what else they would like to sell."""

import logging
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

# Advertising of other products, and advice to whoever wrote the program: which precision to use is settled here.
TIPS = ("\N{ELECTRIC LIGHT BULB} Tip", "You are using a CUDA device")


def ignore_known_warnings() -> None:
    """Keep them off the terminal, so that those that matter are seen."""
    for message in KNOWN:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_is_no_tip)


def _is_no_tip(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(TIPS)
