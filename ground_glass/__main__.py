"""The command line: `ground-glass <command>`, for what needs no checkout.

Each command is a module with a `main` of its own, which is imported when it is called: `--help` waits for nothing.
"""

import importlib
import sys
from collections.abc import Sequence

from ground_glass import __version__
from machine.command_line import run_command
from machine.package import here

# Its module and what it does, in the order in which a new user needs them.
COMMANDS = {
    "predict": ("inference.predict", "masks, volumes and reports of new scans"),
    "check": ("inference.check", "can these scans be used? a verdict for each, nothing else"),
    "view": ("viewer.start", "a web page on this machine: segment a scan, look at runs"),
    "import": ("cohort.importers.__main__", "a cohort.csv of a public data set"),
    "prepare": ("cohort.prepare.__main__", "check and prepare the scans of a cohort.csv"),
    "train": ("ground_glass.train_experiment", "train an experiment, and test it"),
    "report": (
        "evaluation.report.__main__",
        "tables and figures of runs, as the papers have them, or of segmented scans",
    ),
    "export": ("ground_glass.export_model", "a model as files that other programs read, with its card"),
    "serve-page": ("ground_glass.serve_page", "the page that segments in the browser and uploads nothing"),
    "completion": ("ground_glass.completion", "completion of these words in your shell"),
}


def usage() -> str:
    """Return the page of `--help`."""
    lines = [f"  {name:<12}{head}" for name, (_, head) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: ground-glass <command> [options]",
            "",
            "Lung opacities in chest CT. For research: no medical device.",
            "",
            *lines,
            "",
            "ground-glass <command> --help tells more of one; --version prints the version.",
            "Exit codes: 0 done; 1 some scans failed; 2 the call or a file cannot be used; 130 interrupted.",
        ]
    )


def main(args: Sequence[str] | None = None) -> int | None:
    """Run the command line; return its exit code."""
    name, *options = list(sys.argv[1:] if args is None else args) or [""]
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name == "--version":
        print(__version__)
        return 0
    if name not in COMMANDS:
        print(f"error: {f'there is no command {name!r}' if name else 'name a command'}", file=sys.stderr)
        print(usage(), file=sys.stderr)
        return 2
    module = COMMANDS[name][0]
    own = module if module.startswith("ground_glass.") else here(module)
    try:
        code: int | None = importlib.import_module(own).main(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return code


def console() -> None:
    """Run as the console script, for which an installation makes a file of its own."""
    run_command(main)


if __name__ == "__main__":
    console()
