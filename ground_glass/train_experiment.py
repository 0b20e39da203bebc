"""The command `ground-glass train`: an experiment by its name or file, trained and tested."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from machine.package import PROJECT

EXPERIMENTS = PROJECT / "experiments"


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code, unless this process becomes the training."""
    from launch import heads
    from launch import main as launch

    parser = argparse.ArgumentParser(
        prog="ground-glass train",
        description="Train an experiment (what it needs first, if that is missing), test it, and show its table.",
        epilog="Further options are those of the experiment's file, such as --trainer.max_epochs=3 or "
        "--model.network.channels=16. The same command goes on with an unfinished run.",
    )
    parser.add_argument(
        "experiment", nargs="?", default="", help="its name, or a YAML file; without it they are listed"
    )
    parser.add_argument("--cohort", help="your cohort.csv (default: the experiment's own)")
    parser.add_argument("--runs", default="runs", help="folder of all runs (default: runs)")
    parser.add_argument("--fresh", action="store_true", help="start over instead of going on")
    options, more = parser.parse_known_args(args)
    if not options.experiment:
        print("experiments:", *heads(), sep="\n")
        return 2
    own = Path(options.experiment)
    file = own if own.suffix else EXPERIMENTS / f"{options.experiment}.yaml"
    command = ["fit", f"--config={EXPERIMENTS / 'base.yaml'}", f"--config={file}", f"--runs={options.runs}"]
    command += [f"--stage1_runs={options.runs}"]
    command += [f"--data.cohort={options.cohort}"] if options.cohort else []
    command += ["--fresh=true"] if options.fresh else []
    return launch([*command, *more])
