"""Segmentation and measurement of new scans."""

import machine.threads  # noqa: F401  # before torch is loaded
from machine.account import complete_account

complete_account()  # matplotlib asks for a home.
