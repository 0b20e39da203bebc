"""The needs of an experiment before it trains (its cohort, its noise model, its stage 1), made where they are missing.

    python launch.py fit --config experiments/base.yaml --config experiments/unet_em.yaml     then becomes train.py
    python launch.py cohort --config experiments/base.yaml --config experiments/unet_em.yaml  prints its cohort.csv
    python launch.py cohort --config <...> -- cohort.splits --folds 5      then becomes python -m cohort.splits with it

It takes the options of train.py, and for fit two of its own: --stage1_runs=<folder>, where stage 1 is looked for and
trained, if not in the folder that the experiment's file names; and --unless_finished=true, to train nothing where the
experiment has a finished run. Whatever is made is made once, also if several processes need it at the same time, as the
trials of a sweep do.
"""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ct.refusal import Refusal, Sentence, Word, kind_of, sentence_of, word_of
from machine.command_line import run_command
from machine.file_lock import FileLock, locked
from machine.latest import through_latest
from machine.package import PROJECT, here, program

STAGE1_RUNS, UNLESS_FINISHED = OWN = ("stage1_runs", "unless_finished")
COHORT, WEIGHTS, NOISE_MODEL = "data.cohort", "model.init_weights", "model.noise_model"
BASE = "base.yaml"  # of all experiments, beside their files
PASSED_TO_STAGE_1 = ("trainer.", "data.", "seed_everything")
# What makes a process a trial of a sweep, or part of another run: stage 1 is neither.
OF_ONE_RUN = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "GROUND_GLASS_RUN")
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# The cohorts that can be made, by the name of their folder. A word like $MEDSEG is the user's own folder.
COHORTS = {
    "phantom": ["phantom"],
    "tiny": ["phantom", "--tiny"],
    "tiny_panel": ["phantom", "--tiny", "--readers=3"],
    # For paper L3: pixels fine enough for crazy paving, and a panel of six readers.
    "opacity": ["phantom", "--size=128", "--readers=6"],
    # Sites with different labels, for the any-label task.
    "mixed": ["phantom.mixed"],
    "tiny_mixed": ["phantom.mixed", "--tiny"],
    # For the default model: patients like those of no hospital.
    "realistic": ["phantom.realistic"],
    "medseg": [
        *("cohort.importers.medseg_slices", "--folder", "$MEDSEG"),
        *(f"--groups={PROJECT / 'cohort' / 'importers' / 'medseg_neighbours.csv'}", "--transpose", "--whole-image"),
    ],
    # Their contrast was enhanced place by place, so that no window fits; a common one is at least steady.
    "covid20": [
        *("cohort.importers.grey_slices", "--folder", "$COVID20", "--grey-low-hu=-1340", "--grey-high-hu=700"),
        "--whole-image",
    ],
}
FOLDERS = {
    "MEDSEG": "<folder with images/ and masks/>",
    "COVID20": "<folder with ct/ covid/ cases.csv, and lungs/ if there are any>",
}


class MissingExperiment(Refusal):
    """A name that no file of experiments/ has."""


@dataclass
class Settings:
    """The configuration files and options of a command line of train.py.

    Attributes:
        configs: Its configuration files, in order.
        config: The values of the files, one over the other, by dotted name without `init_args`.
        options: Name and value of the options beside them, in order.
    """

    configs: list[Path] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    options: list[tuple[str, str]] = field(default_factory=list)

    def option(self, name: str) -> str:
        """Return the value of an option of the command line; empty where it is not given."""
        return dict(self.options).get(name, "")

    def get(self, name: str) -> str:
        """Return a value from the command line or else from the files; empty where neither has it."""
        return self.option(name) or str(self.config.get(name) or "")


@dataclass(frozen=True)
class Stage1:
    """The experiment whose weights another one starts from.

    Attributes:
        runs: The folder of runs that it lies in.
        config: Its file.
    """

    runs: Path
    config: Path

    @property
    def weights(self) -> Path:
        """best.ckpt of its newest finished run."""
        return self.runs / self.config.stem / "latest" / "best.ckpt"


def read_settings(arguments: Sequence[str]) -> Settings:
    """Read train.py's options and the files that they name.

    Raises:
        Refusal: A configuration file cannot be read.
    """
    settings, words = Settings(), list(arguments)
    while words:
        name, equals, value = words.pop(0).partition("=")
        if not name.startswith("--"):
            continue
        if not equals and words and not words[0].startswith("--"):
            value = words.pop(0)
        if name == "--config":
            settings.configs.append(Path(value))
            settings.config |= _read(Path(value))
        else:
            settings.options.append((name.removeprefix("--").replace(".init_args.", "."), value))
    return settings


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file() and path.with_name(BASE).is_file():
        if not path.stem.removesuffix(".yaml"):  # .yaml is a name without a suffix
            raise MissingExperiment("name an experiment: EXP=<one of these>")
        raise MissingExperiment("there is no experiment {name!r}; name one: EXP=<one of these>", name=path.stem)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        cause = kind_of(error) if isinstance(error, OSError) else Word("it is no YAML")
        text = "{file}: cannot be read ({cause}); expected a file of experiments/"
        raise Refusal(text, file=path, cause=cause) from None
    return dict(_flat(content if isinstance(content, dict) else {}, ""))


def heads() -> list[str]:
    """Return a line for each experiment: its name, and the first line of its file."""
    paths = sorted(path for path in (PROJECT / "experiments").glob("*.yaml") if path.name != BASE)
    lines = [path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for path in paths]
    return [f"  {path.stem:<28} {line}" for path, line in zip(paths, lines, strict=True)]


def _flat(content: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, prefix if key == "init_args" else f"{prefix}{key}.")
        else:
            yield prefix + key, value


def make_needs(arguments: Sequence[str]) -> list[str]:
    """Make what a training needs and lacks.

    Args:
        arguments: train.py's, and perhaps --stage1_runs.

    Returns:
        Options to add to train.py's: where the noise model and the weights of stage 1 lie.

    Raises:
        Refusal: A configuration cannot be read, or something that is needed could not be made.
    """
    settings = read_settings(arguments)
    cohort = make_cohort(settings)
    options = []
    if settings.get(NOISE_MODEL) and not settings.option(NOISE_MODEL):
        options.append(f"--{NOISE_MODEL}={_make_noise_model(cohort, settings)}")
    if stage_1 := stage_1_of(settings):
        _make_stage_1(stage_1, cohort, settings)
        options.append(f"--{WEIGHTS}={stage_1.weights}")
    return options


def make_cohort(settings: Settings) -> Path:
    """Return the cohort.csv of a training, made if it is missing and one of those that can be made.

    Raises:
        Refusal: It could not be made, or is made from a folder that the user has not named.
    """
    path = Path(settings.get(COHORT) or "cohorts/phantom/cohort.csv")
    name = path.parent.name
    if path == Path("cohorts", name, "cohort.csv") and name in COHORTS:  # else the user's own
        variables = [word[1:] for word in COHORTS[name] if word.startswith("$")]
        unnamed = [variable for variable in variables if not os.environ.get(variable)]

        def make(lock: FileLock) -> None:
            if unnamed:
                variable = word_of(unnamed[0], FOLDERS)
                folder = word_of(FOLDERS[variable], FOLDERS.values())
                raise Refusal("name the folder of slices: {variable}={folder}", variable=variable, folder=folder)
            words = [os.environ[word[1:]] if word.startswith("$") else word for word in COHORTS[name]]
            failure = Sentence("the cohort {name} could not be made", name=word_of(name, COHORTS))
            # Our stdout is for the path of the cohort alone.
            _run(
                ["-m", here(words[0]), *words[1:], "--out", str(path.parent)], lock, failure, stdout=sys.stderr.fileno()
            )

        _make_once(path.parent, path.is_file, make)
    return path


def _make_noise_model(cohort: Path, settings: Settings) -> Path:
    """Return the reader noise model beside the cohort that it is estimated from, made if it is missing or older."""
    path = cohort.with_name("noise_model.npz")
    command = ["-m", here("evaluation.readers.noise_model"), "--cohort", str(cohort), "--out", str(path)]
    command += ["--size", str(settings.config.get("data.size", 256)), "--classes", settings.get("data.classes") or "l3"]
    failure = Sentence("the reader noise model could not be estimated")
    source = path.with_name("noise_model.sha256")  # of the cohort's table; what is newer by a clock may be older
    digest = hashlib.sha256(cohort.read_bytes()).hexdigest() if cohort.is_file() else ""

    def is_made() -> bool:
        if not path.is_file():
            return False
        if source.is_file():
            return source.read_text().strip() == digest
        # Made by hand, so there is nothing but the clock; a cohort that is not there is for train.py to refuse.
        return not cohort.is_file() or path.stat().st_mtime >= cohort.stat().st_mtime

    def make(lock: FileLock) -> None:
        _run(command, lock, failure)
        source.write_text(f"{digest}\n")

    _make_once(path, is_made, make)
    return path


def stage_1_of(settings: Settings) -> Stage1 | None:
    """Return the stage 1 whose weights an experiment starts from.

    None where it starts from none, from weights that the user names and that exist, or from some that no experiment
    beside the configuration files makes: if those are missing, train.py says so.
    """
    path = Path(settings.get(WEIGHTS))
    named = bool(settings.option(WEIGHTS))
    if len(path.parts) < 4 or path.parts[-2:] != ("latest", "best.ckpt") or (named and through_latest(path).is_file()):
        return None
    beside = [config.with_name(f"{path.parts[-3]}.yaml") for config in reversed(settings.configs)]
    config = next(filter(Path.is_file, beside), Path())
    runs = "" if named else settings.option(STAGE1_RUNS)
    return Stage1(Path(runs) if runs else path.parents[2], config) if config.is_file() else None


def _make_stage_1(stage_1: Stage1, cohort: Path, settings: Settings) -> None:
    """Train stage 1 where its weights are missing or were learned from another cohort."""
    base = next((path for path in settings.configs if path.name == BASE), stage_1.config.with_name(BASE))
    configs = [f"--config={base}", f"--config={stage_1.config}"]
    places = [("runs", str(stage_1.runs)), (STAGE1_RUNS, str(stage_1.runs)), (COHORT, str(cohort))]
    options = [f"--{name}={value}" for name, value in [*_passed_on(settings), *places]]
    failure = Sentence("stage 1 could not be trained; its own run and its log say why")
    _make_once(
        stage_1.runs / stage_1.config.stem,
        lambda: _learned_from(stage_1.weights, cohort),
        lambda lock: _run([*program("launch"), "fit", *configs, *options], lock, failure),
    )
    print(f"stage 1: {stage_1.weights}", flush=True)


def _passed_on(settings: Settings) -> list[tuple[str, str]]:
    """Return the options for stage 1 too; not those that a sweep varies, or the first trial would decide about it."""
    varied = Path(os.environ.get("WANDB_SWEEP_PARAM_PATH", ""))
    names = set(_read(varied)) if varied.is_file() else set()
    names = {name.removesuffix(".value").replace(".init_args.", ".") for name in names}
    return [(n, value) for n, value in settings.options if n.startswith(PASSED_TO_STAGE_1) and n not in names]


def _learned_from(weights: Path, cohort: Path) -> bool:
    """Tell whether there are weights, of a run on this very cohort."""
    weights = through_latest(weights)
    config = weights.with_name("config.yaml")
    if not (weights.is_file() and config.is_file()):
        return False
    trained_on = _read(config).get(COHORT)
    return trained_on is not None and Path(trained_on).resolve() == cohort.resolve()


def _make_once(target: Path, is_made: Callable[[], bool], make: Callable[[FileLock], None]) -> None:
    """Make a file or folder unless it is made; of several processes one does, and the others wait for it."""
    if not is_made():
        target.parent.mkdir(parents=True, exist_ok=True)
        waiting = f"waiting for {target}, which another process makes"
        with locked(target.with_name(f".{target.name}.lock"), waiting) as lock:
            if not is_made():
                make(lock)


def _run(command: Sequence[str], lock: FileLock, failure: Sentence, stdout: int | None = None) -> None:
    """Run Python with a command. It is stopped when we are; if we are killed, it goes on and keeps the lock.

    Raises:
        Refusal: It failed.
    """
    environment = {key: value for key, value in os.environ.items() if key not in OF_ONE_RUN}
    process = subprocess.Popen([sys.executable, *command], stdout=stdout, env=environment, pass_fds=lock.descriptors)
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code:
        raise Refusal.of(failure)


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let the signals of a batch system or an agent end this process by an exception, so that its children end too."""
    before = {number: signal.signal(number, _stop) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: object) -> None:
    # An agent takes other codes for failures, of which a few make it give up the sweep.
    raise SystemExit(0 if "WANDB_SWEEP_ID" in os.environ else 128 + signal.SIGTERM)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code, unless this process becomes another program."""
    command, *arguments = list(sys.argv[1:] if args is None else args) or [""]
    if command not in ("fit", "cohort"):
        print("error: expected fit or cohort, then the options of train.py", file=sys.stderr)
        return 2
    options, module = split_at_dashes(arguments)
    try:
        with ending_on_signals():
            program = _training(options) if command == "fit" else _with_cohort(options, module)
    except (Refusal, OSError) as error:
        print(f"error: {error}", *(heads() if isinstance(error, MissingExperiment) else ()), sep="\n", file=sys.stderr)
        _tell_wandb(sentence_of(error))
        return 2
    if program:
        os.execv(sys.executable, [sys.executable, *program])
    return 0


def split_at_dashes(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments before the first `--` and those after it."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:place]), list(arguments[place + 1 :])


def _training(options: Sequence[str]) -> list[str]:
    """Make what a training needs and return its command; nothing where there is nothing to train."""
    settings = read_settings(options)
    finished = Path(settings.get("runs") or "runs", settings.get("experiment"), "latest", "metrics.json")
    if settings.option(UNLESS_FINISHED) and through_latest(finished).is_file():
        return []
    needs = make_needs(options)
    passed_on = [option for option in options if option.partition("=")[0].removeprefix("--") not in OWN]
    return [*program("train"), "fit", *passed_on, *needs]


def _with_cohort(options: Sequence[str], module: Sequence[str]) -> list[str]:
    """Make a cohort and return the command of a module that reads it; without a module print its path."""
    cohort = make_cohort(read_settings(options))
    if not module:
        print(cohort)
        return []
    return ["-m", here(module[0]), "--cohort", str(cohort), *module[1:]]


def _tell_wandb(reason: Sentence) -> None:
    """Say why in the run that a sweep's agent expects, where its trial never came to train and has no other."""
    if "WANDB_SWEEP_ID" in os.environ:
        from training.wandb_run import record_failure  # takes seconds, which no other trial needs

        record_failure(reason)


if __name__ == "__main__":
    run_command(main)
