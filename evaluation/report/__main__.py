"""Write the reports of runs: python -m evaluation.report."""

from evaluation.report.write_reports import main
from machine.command_line import run_command

if __name__ == "__main__":
    run_command(main)
