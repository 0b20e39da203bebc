"""Pure loss and E-step functions with thin modules around them."""

from machine.account import complete_account

complete_account()  # MONAI asks for the user's name when it is imported.
