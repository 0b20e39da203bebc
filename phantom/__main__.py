"""Command line that writes a phantom cohort: python -m phantom."""

from machine.command_line import run_command
from phantom.write_phantom import main

if __name__ == "__main__":
    run_command(main)
