"""A web page to look at a model's answer to one's own scan, and at runs side by side."""

import machine.threads  # noqa: F401  # before torch is loaded
from machine.account import complete_account

complete_account()  # Streamlit and matplotlib ask for a home.
