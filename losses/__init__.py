"""Losses, priors and E-step as pure functions, and the noise model of labels."""

from machine.account import complete_account

complete_account()  # MONAI looks up the user's name when it is imported.
