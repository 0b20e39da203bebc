"""Masks of the test scans of finished runs, made where they are missing or of other weights.

    python -m evaluation.missing_masks --runs runs [run folders or experiments; by default all finished runs]

They are what a report or a comparison reads of a run beside its figures; a run that lacks them is tested again. One
whose cohort is gone keeps the part of its report that needs none.
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

from evaluation.find_run import wanted_runs
from evaluation.run_data import Run, read_run
from machine.command_line import run_command
from pages.page import counted

PROJECT = Path(__file__).resolve().parents[1]


def masks_are_current(run: Run) -> bool:
    """Return whether a run has masks, and they are those of its weights, as far as these are there."""
    weights, made_with = run.folder / "best.ckpt", run.folder / "masks" / "weights.sha256"
    if not (run.has_masks and weights.is_file()):
        return run.has_masks
    return made_with.is_file() and made_with.read_text().strip() == hashlib.sha256(weights.read_bytes()).hexdigest()


def runs_without_masks(folders: Sequence[Path]) -> list[Path]:
    """Return the runs whose masks have to be made; what is wrong with a run its report will say."""
    waiting = []
    for folder in folders:
        with contextlib.suppress(ValueError):
            if not masks_are_current(read_run(folder)):
                waiting.append(folder)
    return waiting


def save_masks(run: Path, program: Path = PROJECT / "train.py") -> None:
    """Test a run again to save its masks, and print how long that took, or why there are none.

    Args:
        run: Its folder.
        program: What tests it.
    """
    weights = [f"--config={run / 'config.yaml'}", f"--ckpt_path={run / 'best.ckpt'}"]
    command = [sys.executable, str(program), "test", *weights, "--trainer.callbacks+=callbacks.save_masks.SaveMasks"]
    print(f"masks of {run}: ", end="", flush=True)
    started = time.monotonic()
    # What goes wrong may name files of patients: it stays out of the run folder.
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
    """Run the command line; return its exit code: 0 also where masks could not be made."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.missing_masks", description=__doc__)
    parser.add_argument("run", nargs="*", help="run folders or experiments; by default all finished runs")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    options = parser.parse_args(args)
    try:
        waiting = runs_without_masks(wanted_runs(options.run, options.runs))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if waiting:
        print(f"{counted(len(waiting), 'run')} to test again first, to save the masks", file=sys.stderr)
    for run in waiting:
        save_masks(run)
    return 0


if __name__ == "__main__":
    run_command(main)
