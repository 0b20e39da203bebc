"""Lightning callbacks: relabelling, checkpoints, result files, overlays, the clean end of a training."""

from machine.account import complete_account

complete_account()  # matplotlib and W&B ask for a home.
