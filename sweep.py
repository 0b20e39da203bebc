"""A W&B sweep file run on this machine, with no server: every trial is a process of train.py.

    python sweep.py experiments/sweeps/unet_em_prior.yaml --jobs 2 -- --trainer.max_epochs=3

What follows `--` goes to every trial. The same command goes on where it was stopped: finished trials are kept, as long
as the arguments and the files that they name (configurations, weights of stage 1) have not changed.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import yaml
from tqdm import tqdm

from evaluation.report.drawing import save
from evaluation.sweeps.sweep_figures import draw_parameters
from evaluation.sweeps.sweep_file import (
    MACROS,
    TEST,
    Parameters,
    Sweep,
    best_sentence,
    metric_warning,
    propose,
    read_sweep,
)
from launch import STAGE1_RUNS, ending_on_signals, make_needs
from machine.command_line import run_command
from machine.file_lock import FileLock, try_lock
from machine.latest import followed, latest_run, through_latest
from machine.whole_file import whole_file, write_text

RUN_FOLDER_VARIABLE = "GROUND_GLASS_RUN"  # of training.run_folder, whose imports take seconds
SECONDS_BETWEEN_LOOKS = 0.1
LONGEST_REASON = 500


@dataclass
class Trial:
    """One point of a sweep, as its trial.json states it.

    Attributes:
        number: Position in the order of starting, from 0.
        parameters: Value by the name of the option.
        settings: Hash of everything else that the trial's result depends on.
        state: `unfinished`, `ok` or `failed`.
        seconds: How long it ran; NaN when the sweep was killed before it ended.
        error: Why it failed, else empty.
    """

    number: int
    parameters: Parameters
    settings: str
    state: str = "unfinished"
    seconds: float = float("nan")
    error: str = ""
    value: float | None = field(default=None, compare=False)  # of the sweep's metric; read from the run, not kept

    def __str__(self) -> str:
        """Return its parameters."""
        return ", ".join(f"{name} {value}" for name, value in self.parameters.items())

    @property
    def key(self) -> str:
        """The name of the trial's folder: readable, and another one when the settings are others."""
        named = "_".join(f"{name.rsplit('.', 1)[-1]}-{value}" for name, value in self.parameters.items())
        text = json.dumps([self.settings, self.parameters], sort_keys=True)
        return f"{re.sub(r'[^A-Za-z0-9.+-]', '_', named)[:60]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass
class OfflineSweep:
    """The trials of a sweep on this machine.

    Attributes:
        sweep: What is searched.
        folder: Where trials, table and figure go.
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
        with _lock(self.folder) as lock:
            trials = self._saved()
            waiting = [trial for trial in trials if trial.state != "ok"]
            running: dict[subprocess.Popen[bytes], tuple[Trial, float]] = {}
            done = len(trials) - len(waiting)
            bar = tqdm(total=self.sweep.size, initial=done, desc=self.sweep.name, unit="trial", disable=None)
            try:
                while not self.stopped:
                    while len(running) < self.jobs and (trial := waiting.pop(0) if waiting else self._next(trials)):
                        running[self._start(trial, lock)] = (trial, time.monotonic())
                    if not running:
                        break
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                    for process in [process for process in running if process.poll() is not None]:
                        trial, started = running.pop(process)
                        self._finish(trial, process.returncode, time.monotonic() - started)
                        bar.update()
                        bar.write(self._line(trial), file=sys.stderr)
                        self.table(trials)
            finally:
                bar.close()
                for process in running:
                    _end(process)
            return self.table(trials)

    def run_folder(self, trial: Trial) -> Path | None:
        """The finished run of a trial, if there is one."""
        runs = [latest_run(home) for home in sorted((self.folder / trial.key).glob("*/"))]
        return next((run for run in runs if run and (run / "metrics.json").is_file()), None)

    def best(self, trials: Sequence[Trial]) -> Trial | None:
        """The finished trial with the best value of the sweep's metric; None where no trial has one."""
        sign = 1 if self.sweep.goal == "maximize" else -1
        valued = [t for t in trials if t.state == "ok" and t.value is not None and math.isfinite(t.value)]
        return max(valued, key=lambda trial: sign * (trial.value or 0.0), default=None)

    def table(self, trials: Sequence[Trial]) -> pd.DataFrame:
        """trials.csv: trial, state, parameters, run folder, seconds, error, and the figures of metrics.json.

        The row of the best trial has the name of the sweep's metric in the column `best_by`.
        """
        rows, best = [], self.best(trials)
        for trial in trials:
            run = self.run_folder(trial) if trial.state == "ok" else None
            figures = json.loads((run / "metrics.json").read_text()) if run else {}
            if run and not self.sweep.metric.startswith(TEST):
                figures[self.sweep.metric] = trial.value
            about = {"run": str(run or ""), "seconds": round(trial.seconds, 1), "error": trial.error}
            about |= {"best_by": self.sweep.metric if trial is best else ""}
            rows.append({"trial": trial.key, "state": trial.state} | trial.parameters | about | figures)
        table = pd.DataFrame(rows)
        with whole_file(self.folder / "trials.csv") as passing:
            table.to_csv(passing, index=False)
        return table

    def _settings(self) -> str:
        command = [part for part in self.sweep.command if not part.startswith("--runs=")]
        described = [_content(part) for part in [*command, *self.arguments]]
        return hashlib.sha256(json.dumps([described, self.sweep.search_space]).encode()).hexdigest()

    def _saved(self) -> list[Trial]:
        """The trials of this search that were started before, in their order; `ok` where their run is finished."""
        found = [Trial(**json.loads(path.read_text())) for path in self.folder.glob("*/trial.json")]
        settings, listed = self._settings(), self.sweep.grid()
        trials = [t for t in found if t.settings == settings and (listed is None or t.parameters in listed)]
        for trial in trials:
            run = self.run_folder(trial)
            if trial.state != "failed" and run:
                trial.state, trial.value = "ok", metric_of(run, self.sweep.metric)
        return sorted(trials, key=lambda trial: trial.number)

    def _next(self, trials: list[Trial]) -> Trial | None:
        parameters = propose(self.sweep, [(trial.parameters, trial.value) for trial in trials])
        if parameters is None:
            return None
        settings, number = self._settings(), max((trial.number for trial in trials), default=-1) + 1
        if trials and trials[0].settings != settings:
            raise ValueError(
                f"{self.folder}: a file that the trials are made from changed meanwhile; start the sweep again"
            )
        trials.append(Trial(number, parameters, settings))
        return trials[-1]

    def _start(self, trial: Trial, lock: FileLock) -> subprocess.Popen[bytes]:
        trial.state, trial.seconds, trial.error = "unfinished", float("nan"), ""
        self._record(trial)
        folder = self.folder / trial.key
        # Options given for all come first, so that none of them overrides what is searched.
        command = self.sweep.expand(trial.parameters, [*self.arguments, f"--runs={folder}"])
        cores = max(1, len(os.sched_getaffinity(0)) // self.jobs)
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

    def _finish(self, trial: Trial, code: int, seconds: float) -> None:
        run = self.run_folder(trial)
        trial.state, trial.seconds = "ok" if code == 0 and run else "failed", seconds
        if trial.state == "failed":
            trial.error = _reason(self.folder / trial.key / "log.txt", code)
        self._record(trial)
        if trial.state == "ok" and run:
            trial.value = metric_of(run, self.sweep.metric)

    def _record(self, trial: Trial) -> None:
        folder = self.folder / trial.key
        folder.mkdir(exist_ok=True)
        kept = {name: value for name, value in asdict(trial).items() if name != "value"}
        write_text(json.dumps(kept, indent=2) + "\n", folder / "trial.json")

    def _line(self, trial: Trial) -> str:
        value = "undefined" if trial.value is None else f"{trial.value:.4f}"
        what = f"failed: {trial.error}" if trial.state == "failed" else f"{self.sweep.metric} {value}"
        return f"{trial}: {what} ({trial.seconds:.0f} s)"


def metric_of(run: Path, metric: str) -> float | None:
    """A figure of a finished run: `test/<key>` from metrics.json, else from a column of metrics.csv.

    Of a column it is what W&B compares too: the highest value where that chose the run's best.ckpt, else the last one.

    Raises:
        ValueError: The run has no such figure.
    """
    if metric.startswith(TEST):
        figures = json.loads((run / "metrics.json").read_text())
        name = metric.removeprefix(TEST)
        if name in figures:
            return None if figures[name] is None else float(figures[name])
        known = [f"{TEST}{key}" for key in figures if not key.startswith("site/")]
    else:
        course = pd.read_csv(run / "metrics.csv")
        if metric in course:
            values = course[metric].dropna()
            if values.empty:
                return None
            return float(values.max() if metric == monitor_of(run) else values.iloc[-1])
        known = list(course.columns)
    raise ValueError(f"{run} has no figure {metric!r}, the sweep's metric; expected one of {', '.join(sorted(known))}")


def monitor_of(run: Path) -> str | None:
    """The figure whose highest value chose a run's best.ckpt; None where that is the last epoch."""
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if "model" not in config:
        return None
    module, _, name = config["model"]["class_path"].rpartition(".")
    monitor: str | None = getattr(importlib.import_module(module), name).monitor
    return monitor


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[FileLock]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = try_lock(folder / ".lock")
    if lock is None:
        raise ValueError(
            f"{folder}: a sweep, or a trial of one that was killed, is still running here; wait for it or end it"
        )
    with contextlib.closing(lock):
        yield lock


def _content(argument: str) -> str:
    """An argument for the hash; one that names a file counts by what is in the file, wherever it lies."""
    name, _, value = followed(argument).rpartition("=")
    path = Path(value)
    return f"{name}={hashlib.sha256(path.read_bytes()).hexdigest()}" if name and path.is_file() else argument


def _reason(log: Path, code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    # A list of scans may follow an error; of a traceback the last line says it.
    said = " ".join(lines[errors[0] :] if errors else lines[-1:])[:LONGEST_REASON] or "it said nothing"
    return f"exit code {code}, {said}" if code else f"no finished run, {said}"


def _end(process: subprocess.Popen[bytes]) -> None:
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
    given = list(sys.argv[1:] if args is None else args)
    ours, arguments = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    parser = argparse.ArgumentParser(prog="python sweep.py", description=__doc__)
    parser.add_argument("sweep", type=Path, help="a W&B sweep file")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--jobs", type=int, default=1, help="trials that run at the same time")
    options = parser.parse_args(ours)
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
