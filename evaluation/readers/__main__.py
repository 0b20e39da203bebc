"""Write the report of a reader study: python -m evaluation.readers."""

from evaluation.readers.study_report import main
from machine.command_line import run_command

if __name__ == "__main__":
    run_command(main)
