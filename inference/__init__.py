"""A new scan to masks and measurements."""

from machine.account import complete_account

complete_account()  # matplotlib asks for a home.
