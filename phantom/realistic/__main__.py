"""Command line that writes a cohort of realistic phantoms: python -m phantom.realistic."""

from machine.command_line import run_command
from phantom.realistic.write_cohort import main

if __name__ == "__main__":
    run_command(main)
