"""The command that prepares a cohort: python -m cohort.prepare."""

from cohort.prepare.prepare_cohort import main
from machine.command_line import run_command

if __name__ == "__main__":
    run_command(main)
