"""W&B sweep files run on this machine, with no server: every trial is a process of train.py.

    python sweep.py experiments/sweeps/unet_em_prior.yaml --jobs 2 -- --trainer.max_epochs=3

What follows `--` goes to every trial. The same command goes on where it was stopped: finished trials are kept, as long
as the arguments and the files that they name (configurations, weights of stage 1) have not changed.
"""

import argparse
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from evaluation.report.drawing import save
from evaluation.sweeps.sweep_figures import draw_parameters
from evaluation.sweeps.sweep_file import MACROS, Sweep, metric_warning, read_sweep
from evaluation.sweeps.sweep_study import SweepStudy
from evaluation.sweeps.trials import Trial, best_sentence, finished_run, write_trials
from launch import STAGE1_RUNS, ending_on_signals, make_needs, split_at_dashes
from machine.command_line import run_command
from machine.cores import usable_cores
from machine.file_lock import FileLock, try_lock
from machine.latest import followed, through_latest

RUN_FOLDER_VARIABLE = "GROUND_GLASS_RUN"  # of training.run_folder, whose imports take seconds
SECONDS_BETWEEN_LOOKS = 0.1
LONGEST_REASON = 500

Running = dict[subprocess.Popen[bytes], tuple[Trial, float]]  # a trial's process, and when it was started


@dataclass
class OfflineSweep:
    """The trials of a sweep on this machine.

    Attributes:
        sweep: What is searched.
        folder: Where the study, trials, table and figure go.
        arguments: Options that every trial gets beside its own parameters.
        jobs: Trials that run at the same time; they share the cores evenly.
        stopped: Numbers of the signals that asked to stop. They are looked at between two steps: an exception raised
            while a trial is being started would lose it, and it would run on.
    """

    sweep: Sweep
    folder: Path
    arguments: Sequence[str]
    jobs: int
    stopped: list[int] = field(default_factory=list)

    def run(self) -> pd.DataFrame:
        """Run what is not finished yet and return the table, which is written to trials.csv after every trial.

        Raises:
            ValueError: Another process works in the folder, a file that the trials are made from changed meanwhile,
                or a finished trial lacks the sweep's metric.
        """
        running: Running = {}
        with lock_folder(self.folder) as lock:
            study = SweepStudy(self.sweep, self.folder, self._settings())
            done = sum(trial.state == "ok" for trial in study.trials)
            bar = tqdm(total=self.sweep.size, initial=done, desc=self.sweep.name, unit="trial", disable=None)
            try:
                while not self.stopped:
                    while len(running) < self.jobs and (trial := study.next()):
                        self._check_settings(study)
                        running[self._start(trial, lock)] = (trial, time.monotonic())
                    if not running:
                        break
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                    for trial in self._ended(running, study):
                        bar.update()
                        bar.write(self._line(trial), file=sys.stderr)
                        write_trials(study.trials, self.sweep, self.folder)
            finally:
                bar.close()
                for process in running:
                    _kill(process)
            return write_trials(study.trials, self.sweep, self.folder)

    def _settings(self) -> str:
        """Hash what the result of a trial depends on beside its parameters."""
        command = [part for part in self.sweep.command if not part.startswith("--runs=")]
        contents = [_content(part) for part in [*command, *self.arguments]]
        return hashlib.sha256(json.dumps([contents, self.sweep.search_space]).encode()).hexdigest()

    def _check_settings(self, study: SweepStudy) -> None:
        if self._settings() != study.settings:
            raise ValueError(
                f"{self.folder}: a file that the trials are made from changed meanwhile; start the sweep again"
            )

    def _start(self, trial: Trial, lock: FileLock) -> subprocess.Popen[bytes]:
        folder = self.folder / trial.key
        folder.mkdir(exist_ok=True)
        # Options given for all come first, so that none of them overrides what is searched.
        command = self.sweep.expand(trial.parameters, [*self.arguments, f"--runs={folder}"])
        cores = max(1, usable_cores() // self.jobs)
        environment = {"WANDB_MODE": "offline"} | os.environ | {"OMP_NUM_THREADS": str(cores)}
        environment.pop(RUN_FOLDER_VARIABLE, None)  # every trial chooses its own run folder
        with (folder / "log.txt").open("wb") as log:
            # A session of its own, to be ended with all its workers; the lock outlives us if we are killed.
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                pass_fds=lock.descriptors,
            )

    def _ended(self, running: Running, study: SweepStudy) -> Iterator[Trial]:
        """Take the trials that have ended from those that run, noted in the study."""
        for process in [process for process in running if process.poll() is not None]:
            trial, started = running.pop(process)
            folder = self.folder / trial.key
            succeeded = process.returncode == 0 and finished_run(folder) is not None
            error = "" if succeeded else _reason(folder / "log.txt", process.returncode)
            study.finish(trial, time.monotonic() - started, error)
            yield trial

    def _line(self, trial: Trial) -> str:
        value = "undefined" if trial.value is None else f"{trial.value:.4f}"
        outcome = f"failed: {trial.error}" if trial.state == "failed" else f"{self.sweep.metric} {value}"
        return f"{trial}: {outcome} ({trial.seconds:.0f} s)"


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[FileLock]:
    """Hold a sweep's folder, which is made where it is missing.

    Raises:
        ValueError: Another process holds it, be it a trial whose sweep was killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = try_lock(folder / ".lock")
    if lock is None:
        raise ValueError(
            f"{folder}: a sweep, or a trial of one that was killed, is still running here; wait for it or end it"
        )
    with contextlib.closing(lock):
        yield lock


def _content(argument: str) -> str:
    """Return an argument for the hash; one that names a file counts by what is in the file, wherever it lies."""
    name, _, value = followed(argument).rpartition("=")
    path = Path(value)
    return f"{name}={hashlib.sha256(path.read_bytes()).hexdigest()}" if name and path.is_file() else argument


def _reason(log: Path, code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    # A list of scans may follow an error; of a traceback the last line says it.
    reason = " ".join(lines[errors[0] :] if errors else lines[-1:])[:LONGEST_REASON] or "it said nothing"
    return f"exit code {code}, {reason}" if code else f"no finished run, {reason}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # it starts over next time
    process.wait()


def _needs(sweep: Sweep, runs: Path, arguments: Sequence[str]) -> list[str]:
    """Make what all trials need, where they start from launch.py, and return the options that name it.

    They start from the weights that `latest` names now, also if another stage 1 is trained meanwhile.
    """
    if Path(sweep.program).name != "launch.py":
        return []
    command = [part for part in sweep.command if part not in MACROS]
    with ending_on_signals():
        made = make_needs([*command, f"--{STAGE1_RUNS}={runs}", *arguments])
    return [
        f"{name}={os.path.realpath(through_latest(path))}"
        for name, _, path in (option.partition("=") for option in made)
    ]


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 when at least one trial is finished."""
    own, arguments = split_at_dashes(sys.argv[1:] if args is None else args)
    parser = argparse.ArgumentParser(prog="python sweep.py", description=__doc__)
    parser.add_argument("sweep", type=Path, help="a W&B sweep file")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--jobs", type=int, default=1, help="trials that run at the same time")
    options = parser.parse_args(own)
    try:
        sweep = read_sweep(options.sweep)
        folder = options.runs / "sweeps" / options.sweep.stem
        if warning := metric_warning(options.sweep):
            print(f"warning: {warning}", file=sys.stderr)
        arguments = [*arguments, *_needs(sweep, options.runs, arguments)]
        offline = OfflineSweep(sweep, folder, arguments, max(1, options.jobs))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda received, _: offline.stopped.append(received))
        table = offline.run()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if offline.stopped:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return 128 + offline.stopped[0]
    return _conclude(table, sweep, folder)


def _conclude(table: pd.DataFrame, sweep: Sweep, folder: Path) -> int:
    """Say how the trials ended and which is best, draw them, and return the exit code."""
    failed = int((table["state"] != "ok").sum())
    print(f"{len(table) - failed} of {len(table)} trials finished: trials.csv and parameters.png in {folder}")
    print(best_sentence(table, list(sweep.parameters), sweep.metric))
    if (table["best_by"] != "").any():
        save(draw_parameters(table, list(sweep.parameters), sweep.metric), folder / "parameters")
    if failed:
        print(f"{failed} failed: see the column `error` and their log.txt; the same command tries them again")
    return 0 if failed < len(table) else 1


if __name__ == "__main__":
    run_command(main)
