"""The W&B run of a training, and the allow-list of the configuration that is sent to it."""

import contextlib
import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment  # type: ignore[attr-defined]
from pytorch_lightning.utilities import rank_zero_only

from cohort.table import SPLITS
from ct.refusal import Sentence, sentence_of
from machine.command_line import cause_for_users
from machine.latest import through_latest
from machine.network import START_TIMEOUT_S, bounds, started, unhindered
from machine.package import PROJECT

# The keys of an experiment's configuration that go to W&B; others stay here, since a path may bear a patient's name.
# Networks, priors, optimizers and schedules are classes of the user's choice: `is_plain` looks at every value too.
ALLOWED_KEYS = re.compile(
    r"""experiment|seed_everything|(optimizer|lr_scheduler|model\.network|model\.prior)\.\w+
    |model\.(class_path|classes|context|supervision|dice_over|labels|target|weighting|weight_exponent|window_hu|mean_hu|std_hu|keep
        |e_step|temper|annealed|loss
        |priors(\.\d+\.(finding|within|prior\.\w+))?
        |augmentation
        |augmentation\.(rotation_deg|shift|zoom|flip|offset_hu|noise_hu|blur_px|contrast|alone)
        |repainting(\.(denser|fainter|uneven|uneven_hu|enhanced))?)
    |data\.(class_path|classes|size|context|batch_size|weakly_labelled|balanced|told_apart|bits
        |num_workers|prepare_jobs)
    |trainer\.(accelerator|strategy(\.class_path)?|devices|num_nodes|precision|sync_batchnorm|accumulate_grad_batches
        |(min|max)_(epochs|steps)|limit_(train|val|test)_batches|overfit_batches|fast_dev_run|val_check_interval
        |check_val_every_n_epoch|gradient_clip_(val|algorithm)|deterministic|benchmark|log_every_n_steps)
    |trainer\.callbacks\.\w+\.(class_path|every|after|batch_size|logging_interval|decay)""",
    re.VERBOSE,
)
# Files that an experiment starts from: W&B learns which they were by their content.
FILES = ("model.init_weights", "model.noise_model", "model.pretrained")
WORD = re.compile(r"[\w.+-]{1,80}")


def wandb_loggers(folder: Path, experiment: str, run_id: str) -> list[Logger]:
    """Return a logger that is online when the user is logged in, else offline; none where W&B is disabled.

    Args:
        folder: The run folder.
        experiment: Its name.
        run_id: The W&B run to write, unless a sweep's agent has named one.
    """
    if os.environ.get("WANDB_MODE") == "disabled":
        return []
    logged_in = wandb.Settings().api_key or os.environ.get("WANDB_API_KEY") or _key_in_netrc()
    offline = os.environ.get("WANDB_MODE") == "offline" or not logged_in
    os.environ.setdefault("WANDB_SILENT", "true")
    # The folder must exist, or wandb falls back to a temporary one.
    rank_zero_only(folder.mkdir)(parents=True, exist_ok=True)
    logger = PatientLogger(
        name=f"{experiment}/{folder.name}",
        save_dir=folder,
        id=os.environ.get("WANDB_RUN_ID", run_id),
        project="ground-glass",
        offline=offline,
        group=experiment,
        settings=_settings(),
    )
    logger._wandb_init.pop("anonymous")  # W&B warns of it, though nobody has set it
    return [logger]


class PatientLogger(WandbLogger):
    """A run that is online, or offline where the server does not take it; a network that fails later ends nothing."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        def start() -> Any:
            return super(PatientLogger, self).experiment

        def start_offline() -> Any:
            self._offline = True
            return start()

        if self._experiment is not None or self._offline:
            return start()
        return started(start, start_offline, Path(self.save_dir or "."))

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        with unhindered():
            super().log_metrics(*args, **kwargs)

    def log_image(self, *args: Any, **kwargs: Any) -> None:
        with unhindered():
            super().log_image(*args, **kwargs)

    def log_table(self, *args: Any, **kwargs: Any) -> None:
        with unhindered():
            super().log_table(*args, **kwargs)


def _settings() -> wandb.Settings:
    # By itself wandb sends the command line, the program's place, the host, the git remote and all that is printed.
    return wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        host="-",
        program="train.py",
        save_code=False,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_save_requirements=False,
        **bounds(),
    )


def _key_in_netrc() -> bool:
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    return path.is_file() and "api.wandb.ai" in path.read_text()


def why_it_failed(error: BaseException) -> Sentence | None:
    """Return the reason that ends a training, in both wordings; None where somebody asked for its end."""
    cause = cause_for_users(error)
    if cause is not None:
        return sentence_of(cause)
    if isinstance(error, SystemExit) and error.code == 2:
        return Sentence("an option or its value was refused; the log of the training says which")
    return None if isinstance(error, SystemExit | KeyboardInterrupt) else sentence_of(error)


@rank_zero_only
def record_failure(reason: Sentence) -> None:
    """Say in the W&B run of this process why it failed, and end the run as a failed one.

    A trial of a sweep that fails before its run begins begins it here, under the id by which the agent waits for it.

    Args:
        reason: The reason; W&B gets its public wording.
    """
    if os.environ.get("WANDB_MODE") == "disabled":
        return
    # Whatever else goes wrong here, such as a network that is gone, must not hide the reason from the user.
    with contextlib.suppress(Exception):
        run = wandb.run
        if run is None and "WANDB_SWEEP_ID" in os.environ:
            settings = _settings()
            settings.init_timeout = START_TIMEOUT_S
            run = wandb.init(project="ground-glass", settings=settings)
        if run is not None:
            run.summary["error"] = reason.public
            run.finish(exit_code=1)


def allowed_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return what of a resolved configuration W&B may get, flat, under the keys of the command line (`model.prior.b2`).

    A file that the experiment starts from goes by the hash of its content.
    """
    flat = dict(flatten(config))
    # Not every experiment needs each file that it names: hard labels leave the noise model unread.
    paths = {key: through_latest(flat[key]) for key in FILES if flat.get(key)}
    hashes = {f"{key}_sha256": _sha256(path.read_bytes()) for key, path in paths.items() if path.is_file()}
    return {key: value for key, value in flat.items() if ALLOWED_KEYS.fullmatch(key) and is_plain(value)} | hashes


def flatten(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a configuration under its dotted key; of a list, by names of classes or by number."""
    for key, value in config.items():
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            value = {_name_in_list(item, number): item for number, item in enumerate(value)}
        if isinstance(value, dict):
            yield from flatten(value, prefix if key == "init_args" else f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _name_in_list(item: Any, number: int) -> str:
    is_class = isinstance(item, dict) and "class_path" in item
    return str(item["class_path"]).rpartition(".")[2] if is_class else str(number)


def is_plain(value: Any) -> bool:
    """Return whether a value is a number, a word, nothing, or a list of these."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, int | float) or (isinstance(value, str) and bool(WORD.fullmatch(value)))


def git_commit() -> str:
    """Return the commit of this code, with "-changed" where files differ from it; "unknown" outside a repository."""
    try:
        commit, changes = (
            subprocess.run(["git", *command], cwd=PROJECT, capture_output=True, text=True, check=True).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-changed" if changes else commit


def split_hash(data: Any) -> str:
    """Return 12 hex digits that stand for which usable scan is in which split; `data` offers `slice_table(split)`."""
    assigned = sorted((scan_id, split) for split in SPLITS for scan_id in data.slice_table(split).scans["scan_id"])
    return _sha256(repr(assigned).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
