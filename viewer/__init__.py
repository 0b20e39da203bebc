"""Web page that segments a scan and compares runs."""

import machine.threads  # noqa: F401  # before torch is loaded
from machine.account import complete_account

complete_account()  # Streamlit and matplotlib ask for a home.
