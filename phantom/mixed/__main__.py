"""Command line that writes the mixed phantom cohort: python -m phantom.mixed."""

from machine.command_line import run_command
from phantom.mixed.write_mixed import main

if __name__ == "__main__":
    run_command(main)
