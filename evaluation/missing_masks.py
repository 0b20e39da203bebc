"""Masks of the test scans of finished runs, made where they are missing or belong to other weights.

    python -m evaluation.missing_masks --runs runs [run folders or experiments; by default all finished runs]

Reports and comparisons read them; a run that lacks them is tested again. A run whose cohort is gone keeps the part of
its report that needs no masks.
"""

import argparse
import contextlib
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from evaluation.find_run import selected_runs
from evaluation.run_data import Run, read_run
from machine.command_line import run_command
from machine.package import program
from pages.page import counted


def masks_are_current(run: Run) -> bool:
    """Return whether a run has masks, made with its present weights where best.ckpt is still there."""
    weights, digest = run.folder / "best.ckpt", run.folder / "masks" / "weights.sha256"
    if not (run.has_masks and weights.is_file()):
        return run.has_masks
    return digest.is_file() and digest.read_text().strip() == hashlib.sha256(weights.read_bytes()).hexdigest()


def runs_without_masks(folders: Sequence[Path]) -> list[Path]:
    """Return the runs whose masks have to be made; a broken run is left for its report to name."""
    missing = []
    for folder in folders:
        with contextlib.suppress(ValueError):
            if not masks_are_current(read_run(folder)):
                missing.append(folder)
    return missing


def save_masks(run: Path, tested_by: Sequence[str] = tuple(program("train"))) -> None:
    """Test a run again to save its masks, and print how long that took, or why there are none.

    Args:
        run: Its folder.
        tested_by: Python's arguments of the program whose command `test` tests it.
    """
    weights = [f"--config={run / 'config.yaml'}", f"--ckpt_path={run / 'best.ckpt'}"]
    command = [sys.executable, *tested_by, "test", *weights, "--trainer.callbacks+=callbacks.save_masks.SaveMasks"]
    print(f"masks of {run}: ", end="", flush=True)
    started = time.monotonic()
    # An error may name files of patients: the log stays out of the run folder.
    with tempfile.NamedTemporaryFile("w+", prefix="ground-glass-masks-", suffix=".txt", delete=False) as log:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT).returncode
    path = Path(log.name)
    if code == 0:
        path.unlink()
        print(f"{time.monotonic() - started:.0f} s", flush=True)
    else:
        lines = path.read_text(errors="replace").splitlines()
        print(*lines[-1:], f"no masks of {run}, so its report will be short; see {path}", sep="\n", flush=True)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code, which is 0 even where masks could not be made."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.missing_masks", description=__doc__)
    parser.add_argument("run", nargs="*", help="run folders or experiments; by default all finished runs")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    options = parser.parse_args(args)
    try:
        missing = runs_without_masks(selected_runs(options.run, options.runs))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if missing:
        print(f"{counted(len(missing), 'run')} to test again first, to save the masks", file=sys.stderr)
    for run in missing:
        save_masks(run)
    return 0


if __name__ == "__main__":
    run_command(main)
