"""What happens around training: relabelling, checkpoints, result files, overlays."""

from machine.account import complete_account

complete_account()  # matplotlib and W&B ask for a home.
