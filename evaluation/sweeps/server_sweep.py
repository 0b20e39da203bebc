"""Hand-over of a sweep file to the W&B server, whose trials this machine then runs.

python -m evaluation.sweeps.server_sweep experiments/sweeps/unet_em_prior.yaml
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import wandb

from evaluation.sweeps.sweep_file import metric_warning, read_content
from machine.command_line import run_command


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code, unless this process becomes the agent."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.sweeps.server_sweep", description=__doc__)
    parser.add_argument("sweep", type=Path, help="a W&B sweep file")
    options, trial_options = parser.parse_known_args(args)
    try:
        if warning := metric_warning(options.sweep):
            print(f"warning: {warning}", file=sys.stderr)
        if trial_options:
            raise ValueError(
                f"the server starts trials from {options.sweep} alone; put ARGS and COHORT into its command, or use "
                "make sweep-offline"
            )
        program = agent_of(read_content(options.sweep))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    os.execv(sys.executable, [sys.executable, *program])


def agent_of(sweep: dict[str, object]) -> list[str]:
    """Hand a sweep to the server and return the command of an agent that runs its trials.

    Raises:
        ValueError: The server refused it.
    """
    try:
        sweep_id = wandb.sweep(sweep)
    except Exception as error:  # whatever W&B raises: no login, no route, a file that it refuses
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"W&B took no sweep ({reason}); log in first: .venv/bin/wandb login") from error
    project = ["--project", str(sweep["project"])] if "project" in sweep else []
    return ["-m", "wandb", "agent", *project, sweep_id]


if __name__ == "__main__":
    run_command(main)
