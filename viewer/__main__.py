"""Start of the viewer: python -m viewer [--runs runs] [--cohorts cohorts] [--port 8501]."""

from machine.command_line import run_command
from viewer.start import main

if __name__ == "__main__":
    run_command(main)
