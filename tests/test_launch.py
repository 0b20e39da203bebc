"""What an experiment needs is made where it is missing, and once; a small program stands in for whatever makes it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from places import ROOT

import launch
from launch import Stage1, read_settings, stage_1_of

EXPERIMENTS = sorted(path for path in (ROOT / "experiments").glob("*.yaml") if path.stem != "base")
# Notes its call, and leaves what train.py leaves. WAIT: a file that it waits for; FAIL: an experiment that fails.
TRAIN = """
import json, os, pathlib, sys, time, yaml
options = dict(part[2:].split("=", 1) for part in sys.argv[2:])
configs = [part.split("=", 1)[1] for part in sys.argv if part.startswith("--config=")]
name = yaml.safe_load(open(configs[-1]))["experiment"]
note = {"experiment": name, "wandb": os.environ.get("WANDB_RUN_ID", ""), "pid": os.getpid(), **options}
with open("calls.txt", "a") as file:
    file.write(json.dumps(note) + chr(10))
while "WAIT" in os.environ and name == "stage1" and not os.path.exists(os.environ["WAIT"]):
    time.sleep(0.02)
if os.environ.get("FAIL") == name:
    sys.exit(2)
folder = pathlib.Path(options["runs"], name, "latest")
folder.mkdir(parents=True, exist_ok=True)
(folder / "config.yaml").write_text(yaml.safe_dump({"data": {"init_args": {"cohort": options.get("data.cohort")}}}))
(folder / "best.ckpt").write_text("weights")
"""
MAKER = """
import json, pathlib, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open("calls.txt", "a") as file:
    file.write(json.dumps({"made": options["--out"], "size": options.get("--size", "")}) + chr(10))
out = pathlib.Path(options["--out"])
if out.suffix != ".npz":
    out.mkdir(parents=True)
    out = out / "cohort.csv"
out.write_text("made")
"""
MODULE = """
import json, sys
print(json.dumps(sys.argv[1:]))
"""
WANDB_RUN = """
def record_failure(why):
    open("error.txt", "w").write(why.public)
"""
STAGE_2 = {
    "experiment": "stage2",
    "data": {"init_args": {"cohort": "cohorts/phantom/cohort.csv"}},
    "model": {"init_args": {"init_weights": "runs/stage1/latest/best.ckpt"}},
}


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A checkout with nothing in it but the launcher, two experiments and the stand-ins."""
    home = tmp_path / "a box"
    files = {"train.py": TRAIN, "evaluation/readers/noise_model.py": MAKER, "phantom/__main__.py": MAKER}
    files |= {"training/wandb_run.py": WANDB_RUN, "cohort/splits.py": MODULE}
    files |= {"experiments/base.yaml": "", "experiments/stage1.yaml": "experiment: stage1\n"}
    files |= {"experiments/stage2.yaml": yaml.safe_dump(STAGE_2)}
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    (home / "ct").mkdir()
    for folder in ("ct", "phantom", "cohort", "evaluation", "evaluation/readers", "training"):
        (home / folder / "__init__.py").write_text("")  # or the package of this checkout would come before
    for name in ("launch.py", "ct/refusal.py"):
        shutil.copy(ROOT / name, home / name)
    shutil.copytree(ROOT / "machine", home / "machine")
    return home


def start(box: Path, *more: str, runs: str = "runs", **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "launch.py", "fit", "--config=experiments/base.yaml", "--config=experiments/stage2.yaml"]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "GROUND_GLASS"))}
    return subprocess.Popen(
        [*command, f"--runs={runs}", *more],
        cwd=box,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process: subprocess.Popen[str], code: int = 0) -> str:
    text, _ = process.communicate(timeout=60)
    assert process.returncode == code, text
    return text


def calls(box: Path) -> list[dict[str, str]]:
    path = box / "calls.txt"
    return list(map(yaml.safe_load, path.read_text().splitlines())) if path.is_file() else []


def trained(box: Path) -> list[str]:
    return [call["experiment"] for call in calls(box) if "experiment" in call]


def wait_until_trained(box: Path, experiment: str) -> int:
    """The process of an experiment's training, once it runs."""
    for _ in range(1500):
        pids = [call["pid"] for call in calls(box) if call.get("experiment") == experiment]
        if pids:
            return int(pids[0])
        time.sleep(0.02)
    raise AssertionError(f"{experiment} never began")


def test_an_empty_box_makes_cohort_and_stage_1_first(box: Path) -> None:
    end(start(box, "--data.size=32", "--model.prior.k2=0.5", "--trainer.max_epochs=3"))
    cohort, stage_1, stage_2 = calls(box)
    assert cohort["made"] == "cohorts/phantom"
    assert (stage_1["experiment"], stage_2["experiment"]) == ("stage1", "stage2")
    assert {"data.size", "trainer.max_epochs", "data.cohort"} <= set(stage_1)
    assert "model.prior.k2" not in stage_1
    assert stage_2["model.init_weights"] == "runs/stage1/latest/best.ckpt"
    end(start(box))
    assert trained(box) == ["stage1", "stage2", "stage2"]


def test_trials_that_start_at_once_share_one_stage_1(box: Path) -> None:
    varied = box / "trial.yaml"
    varied.write_text("wandb_version: 1\ndata.batch_size:\n  value: 8\n")
    agent = {"WANDB_SWEEP_ID": "s", "WANDB_SWEEP_PARAM_PATH": str(varied)}
    trials = [
        start(box, f"--data.batch_size={n}", "--data.size=32", runs="runs/sweeps/s", WANDB_RUN_ID=f"trial{n}", **agent)
        for n in range(4)
    ]
    for trial in trials:
        end(trial)
    made = [call for call in calls(box) if "made" in call]
    (stage_1,) = [call for call in calls(box) if call.get("experiment") == "stage1"]
    others = [call for call in calls(box) if call.get("experiment") == "stage2"]
    assert len(made) == 1
    assert sorted(call["wandb"] for call in others) == [f"trial{n}" for n in range(4)]
    assert {call["model.init_weights"] for call in others} == {"runs/stage1/latest/best.ckpt"}
    assert stage_1["wandb"] == "", "stage 1 must not write into a trial's run"
    assert stage_1["data.size"] == "32"
    assert "data.batch_size" not in stage_1, "what the sweep varies must not decide about stage 1"


def test_blanks_in_every_path(box: Path) -> None:
    (box / "my data").mkdir()
    (box / "my data" / "cohort.csv").write_text("mine")
    end(start(box, "--data.cohort=my data/cohort.csv", "--stage1_runs=my runs", runs="my runs"))
    stage_1, stage_2 = calls(box)
    assert stage_1["data.cohort"] == stage_2["data.cohort"] == "my data/cohort.csv"
    assert stage_2["model.init_weights"] == "my runs/stage1/latest/best.ckpt"
    assert (box / "my runs" / "stage2" / "latest" / "best.ckpt").is_file()


@pytest.mark.slow
def test_stage_1_of_another_cohort_is_trained_again(box: Path) -> None:
    end(start(box))
    (box / "mine.csv").write_text("mine")
    end(start(box, "--data.cohort=mine.csv"))
    end(start(box, f"--data.cohort={box / 'mine.csv'}"))  # the same file
    assert trained(box) == ["stage1", "stage2", "stage1", "stage2", "stage2"]


def test_weights_that_the_user_names_are_used_as_they_are(box: Path) -> None:
    (box / "best.ckpt").write_text("mine")
    end(start(box, "--model.init_weights=best.ckpt"))
    assert trained(box) == ["stage2"]
    assert calls(box)[-1]["model.init_weights"] == "best.ckpt"


@pytest.mark.slow
def test_the_noise_model_lies_beside_its_cohort_and_follows_it(box: Path) -> None:
    config = STAGE_2 | {"model": {"init_args": {"noise_model": "elsewhere/noise_model.npz"}}}
    config |= {"data": {"init_args": {"cohort": "my data/cohort.csv", "size": 48}}}
    (box / "experiments" / "stage2.yaml").write_text(yaml.safe_dump(config))
    (box / "my data").mkdir()
    cohort = box / "my data" / "cohort.csv"
    cohort.write_text("mine")
    more = "--data.cohort=my data/cohort.csv"
    for _ in range(2):
        end(start(box, more))
    made = [call for call in calls(box) if "made" in call]
    assert [(call["made"], call["size"]) for call in made] == [("my data/noise_model.npz", "48")]
    assert calls(box)[-1]["model.noise_model"] == "my data/noise_model.npz"
    cohort.write_text("other rows")
    os.utime(cohort, (0, 0))  # a clock that went back, or a file from another machine
    end(start(box, more))
    assert len([call for call in calls(box) if "made" in call]) == 2
    (box / "my data" / "noise_model.sha256").unlink()  # as if `make noise-model` had made it
    end(start(box, more))
    assert len([call for call in calls(box) if "made" in call]) == 2
    os.utime(box / "my data" / "noise_model.npz", (0, 0))
    os.utime(cohort, (1, 1))
    end(start(box, more))
    assert len([call for call in calls(box) if "made" in call]) == 3, "a cohort that is newer than it"


def test_a_stage_1_that_fails_ends_the_trial_with_its_reason(box: Path) -> None:
    text = end(start(box, WANDB_SWEEP_ID="s", FAIL="stage1"), code=2)
    assert trained(box) == ["stage1"]
    assert text.splitlines()[-1] == "error: stage 1 could not be trained; its own run and its log say why"
    assert (box / "error.txt").read_text() == text.splitlines()[-1].removeprefix("error: ")


def test_a_folder_of_slices_that_is_not_named_is_asked_for(box: Path) -> None:
    text = end(start(box, "--data.cohort=cohorts/medseg/cohort.csv", WANDB_SWEEP_ID="s"), code=2)
    assert text == "error: name the folder of slices: MEDSEG=<folder with images/ and masks/>\n"
    assert "MEDSEG" in (box / "error.txt").read_text()


def test_an_unreadable_configuration_is_one_line_and_no_path_for_wandb(box: Path) -> None:
    text = end(start(box, "--config=/home/zelda/x.yaml", WANDB_SWEEP_ID="s"), code=2)
    assert text.count("\n") == 1
    assert "/home/zelda/x.yaml: cannot be read (No such file or directory)" in text
    assert "zelda" not in (box / "error.txt").read_text()


@pytest.mark.parametrize(("environment", "code"), [({}, 143), ({"WANDB_SWEEP_ID": "s"}, 0)])
def test_a_stop_ends_stage_1_too(box: Path, environment: dict[str, str], code: int) -> None:
    process = start(box, WAIT="for ever", **environment)
    child = wait_until_trained(box, "stage1")
    process.send_signal(signal.SIGTERM)
    end(process, code)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_killed_launcher_leaves_the_lock_to_what_it_started(box: Path) -> None:
    first = start(box, WAIT="go")
    wait_until_trained(box, "stage1")
    first.kill()
    second = start(box, WAIT="go")
    assert second.stdout is not None
    assert "waiting for runs/stage1" in second.stdout.readline()
    assert trained(box) == ["stage1"]
    (box / "go").touch()
    end(second)
    assert trained(box) == ["stage1", "stage2"]
    first.communicate()


@pytest.mark.slow
def test_nothing_is_trained_where_the_experiment_has_a_finished_run(box: Path) -> None:
    once = ["--unless_finished=true", "--trainer.max_epochs=1"]
    end(start(box, *once))
    assert trained(box) == ["stage1", "stage2"]
    assert "unless_finished" not in calls(box)[-1]
    end(start(box, *once))
    assert trained(box) == ["stage1", "stage2", "stage2"], "without figures it is not finished"
    latest = box / "runs" / "stage2" / "latest"
    (latest / "metrics.json").write_text("{}")
    end(start(box, *once))
    latest.rename(latest.with_name("first"))
    latest.write_text("first")  # as where there are no links
    end(start(box, *once))
    assert trained(box) == ["stage1", "stage2", "stage2"]
    end(start(box, *once, runs="others"))
    assert trained(box)[3:] == ["stage2"]


def test_an_experiment_that_is_not_there_names_the_others(box: Path) -> None:
    (box / "experiments" / "stage1.yaml").write_text("# What it trains.\nexperiment: stage1\n")
    text = end(start(box, "--config=experiments/stage3.yaml", WANDB_SWEEP_ID="s"), code=2)
    head, *others = text.splitlines()
    assert head == "error: there is no experiment 'stage3'; name one: EXP=<one of these>"
    assert [line.split(maxsplit=1)[0] for line in others] == ["stage1", "stage2"]
    assert others[0].split(maxsplit=1)[1] == "What it trains."
    assert "stage" not in (box / "error.txt").read_text()


def test_a_module_gets_the_cohort_that_an_experiment_names(box: Path) -> None:
    command = [sys.executable, "launch.py", "cohort", "--config=experiments/stage2.yaml"]

    def run(*more: str) -> str:
        return subprocess.run([*command, *more], cwd=box, stdout=subprocess.PIPE, text=True, check=True).stdout

    assert run() == "cohorts/phantom/cohort.csv\n"
    assert yaml.safe_load(run("--", "cohort.splits", "--out", "my folds")) == [
        *("--cohort", "cohorts/phantom/cohort.csv", "--out", "my folds")
    ]
    assert yaml.safe_load(run("--data.cohort=my own.csv", "--", "cohort.splits")) == ["--cohort", "my own.csv"]
    assert len(calls(box)) == 1, "made once"


def of(*arguments: str) -> Stage1 | None:
    return stage_1_of(read_settings(arguments))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_stage_1_of_every_experiment(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    weights = content["model"].get("init_args", {}).get("init_weights")
    stage_1 = of(f"--config={ROOT / 'experiments' / 'base.yaml'}", "--config", str(path), "--stage1_runs=my runs")
    if weights is None:
        assert stage_1 is None
        return
    assert stage_1 is not None
    assert stage_1.weights == Path("my runs", *Path(weights).parts[1:])
    assert stage_1.config.is_file()
    head = path.read_text().splitlines()[1]
    assert stage_1.config.stem in head


def test_the_last_value_counts_in_whatever_form(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("data: {init_args: {cohort: 'a b/c.csv  # no comment', size: 1}}\n")
    (tmp_path / "b.yaml").write_text("data: {init_args: {size: 2}}\n")
    arguments: Sequence[str] = ["--config", str(tmp_path / "a.yaml"), f"--config={tmp_path / 'b.yaml'}"]
    settings = read_settings(arguments)
    assert settings.get("data.cohort") == "a b/c.csv  # no comment"
    assert settings.get("data.size") == "2"
    assert read_settings([*arguments, "--data.init_args.size=3", "--data.size", "4"]).get("data.size") == "4"
    assert read_settings(["--trainer.callbacks+=a.B", "--trainer.callbacks+=a.C"]).options == [
        ("trainer.callbacks+", "a.B"),
        ("trainer.callbacks+", "a.C"),
    ]


def test_every_cohort_of_an_experiment_can_be_made() -> None:
    named = {read_settings([f"--config={path}"]).get("data.cohort") for path in EXPERIMENTS} - {""}
    assert named
    assert {Path(cohort).parent.name for cohort in named} <= set(launch.COHORTS)
