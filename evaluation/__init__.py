"""Tables, statistics and figures from run folders."""

from machine.account import complete_account

complete_account()  # MONAI asks for the user's name, and matplotlib for a home, when they are imported.
