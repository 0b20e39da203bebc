"""Study of a sweep without a server, kept by optuna: the points tried, their outcomes, and the next point."""

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState, create_trial

from evaluation.sweeps.sweep_file import Parameters, Sweep
from evaluation.sweeps.trials import Trial, finished_run, metric_of
from machine.whole_file import whole_file

TRIES = 100  # draws for a new point, before the space counts as used up
POINT = "point"  # attribute of an attempt; a draw without it repeated an earlier point, or was cut off


class SweepStudy:
    """The trials of a sweep, one a point, in the order in which they were first started.

    optuna's journal is study.log in the sweep's folder, with a study for each `settings`; an attempt at a point is a
    trial of optuna's. The result of a point is in its run, the reason for a failure in the study. Grids keep the order
    of their file and may grow or shrink, since their points do not depend on each other. A stopped search goes on as it
    would have without the stop.

    One process at a time may open a folder: it holds the folder's lock.

    Args:
        sweep: The search.
        folder: The sweep's folder.
        settings: Hash of everything besides its parameters that the result of a trial depends on.

    Raises:
        ValueError: The folder is of an earlier version, or a finished trial lacks the sweep's metric.
    """

    def __init__(self, sweep: Sweep, folder: Path, settings: str) -> None:
        self.sweep, self.folder, self.settings = sweep, folder, settings
        self._space = {} if sweep.method == "grid" else sweep.distributions()
        self._study = _open(folder, settings, sweep.goal)
        self._trials: dict[str, Trial] = {}
        self._read()
        self._waiting = [trial for trial in self.trials if trial.state != "ok"]
        self._used_up = False

    @property
    def trials(self) -> list[Trial]:
        """The trials that were started and belong to the search in its present form."""
        return list(self._trials.values())

    def next(self) -> Trial | None:
        """Return the trial to start: first unfinished and failed ones, then a new point; None at the end."""
        trial = self._waiting.pop(0) if self._waiting else self._new()
        if trial and self._attempts()[trial.number].state.is_finished():
            trial.number = self._attempt(trial.parameters)
        if trial:
            trial.state, trial.seconds, trial.error, trial.value = "unfinished", math.nan, "", None
        return trial

    def finish(self, trial: Trial, seconds: float, error: str) -> None:
        """Note how a trial ended: with its finished run, or by an error.

        Raises:
            ValueError: Its run lacks the sweep's metric.
        """
        run = finished_run(self.folder / trial.key)
        assert error or run
        trial.state, trial.seconds, trial.error = "failed" if error else "ok", seconds, error
        # First how it ended, then that it did: a kill in between leaves a trial to finish.
        self._study.set_user_attr(trial.key, {"seconds": seconds, "error": error})
        trial.value = metric_of(run, self.sweep.metric) if run and not error else None
        if trial.value is not None and math.isfinite(trial.value):
            self._study.tell(trial.number, trial.value)
        else:
            self._study.tell(trial.number, state=TrialState.FAIL)  # so that nothing is learned from it

    def _read(self) -> None:
        """Fill the trials from the study and their runs."""
        grid = self.sweep.grid()
        keys = None if grid is None else set(map(self._key, grid))
        for attempt in self._attempts():
            if POINT in attempt.user_attrs:
                point = attempt.user_attrs[POINT]
                if keys is None or self._key(point) in keys:
                    self._add(point, attempt.number)
            elif not attempt.state.is_finished():
                self._study.tell(attempt.number, state=TrialState.FAIL)
        outcomes = self._study.user_attrs
        for trial in self.trials:
            run, outcome = finished_run(self.folder / trial.key), outcomes.get(trial.key, {})
            if not self._attempts()[trial.number].state.is_finished():
                if run:  # the trial outlived the sweep that started it
                    self.finish(trial, math.nan, "")
            elif outcome["error"]:
                trial.state, trial.seconds, trial.error = "failed", outcome["seconds"], outcome["error"]
            elif run:
                trial.state, trial.seconds, trial.value = "ok", outcome["seconds"], metric_of(run, self.sweep.metric)

    def _new(self) -> Trial | None:
        """Return a point that was not tried yet; None where none is left, or the search has made all its trials."""
        grid = self.sweep.grid()
        if grid is not None:
            point = next((candidate for candidate in grid if self._key(candidate) not in self._trials), None)
            return None if point is None else self._add(point, self._attempt(point))
        if self._used_up or len(self._trials) >= self.sweep.size:
            return None
        for draw in range(TRIES):
            self._study.sampler = self._sampler(seed=len(self._trials) * TRIES + draw)
            drawn = self._study.ask(self._space)
            if self._key(drawn.params) not in self._trials:
                drawn.set_user_attr(POINT, drawn.params)
                return self._add(drawn.params, drawn.number)
            self._study.tell(drawn, state=TrialState.FAIL)
        self._used_up = True
        return None

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """Return a sampler that draws the same whenever the study is the same."""
        if self.sweep.method == "bayes":
            return optuna.samplers.TPESampler(seed=seed)
        return optuna.samplers.RandomSampler(seed=seed)

    def _attempts(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _attempt(self, point: Parameters) -> int:
        """Begin an attempt at a point and return its number."""
        drawn = point if self._space else {}
        self._study.add_trial(
            create_trial(state=TrialState.RUNNING, params=drawn, distributions=self._space, user_attrs={POINT: point})
        )
        return len(self._attempts()) - 1

    def _add(self, point: Parameters, number: int) -> Trial:
        key = self._key(point)
        trial = self._trials.setdefault(key, Trial(key, point, number))
        trial.number = number
        return trial

    def _key(self, point: Parameters) -> str:
        return trial_key(self.settings, point)


def trial_key(settings: str, parameters: Parameters) -> str:
    """Return the name of a trial's folder: readable, and different for other settings."""
    named = "_".join(f"{name.rsplit('.', 1)[-1]}-{value}" for name, value in parameters.items())
    text = json.dumps([settings, parameters], sort_keys=True)
    return f"{re.sub(r'[^A-Za-z0-9.+-]', '_', named)[:60]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _open(folder: Path, name: str, goal: Literal["maximize", "minimize"]) -> optuna.Study:
    """Open or make the study in the journal of a folder that is locked."""
    journal = folder / "study.log"
    earlier = next(folder.glob("*/trial.json"), None)
    if earlier and not journal.is_file():
        raise ValueError(
            f"{earlier}: a sweep of an earlier version cannot go on; move {folder} away and start the sweep again"
        )
    _drop_cut_line(journal)
    # optuna's other lock needs symbolic links. A lock that lies here is of a dead process, since the folder is ours.
    lock = JournalFileOpenLock(str(journal))
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(journal), lock))
    return optuna.create_study(storage=storage, study_name=name, direction=goal, load_if_exists=True)


def _drop_cut_line(journal: Path) -> None:
    """Cut off the part of a last line that a full disk or a crash left: optuna would append to it."""
    content = journal.read_bytes() if journal.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with whole_file(journal) as temporary:
            temporary.write_bytes(whole)
