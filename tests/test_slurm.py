"""The batch scripts of docs/ on a real SLURM cluster of one node."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fault_harness import assert_same_run
from file_tree import tree
from places import ROOT
from slurm import Slurm, running_slurm
from sweep_server import SWEEP, SweepServer, serving

from cohort.prepare.prepare_cohort import prepare_cohort

pytestmark = pytest.mark.slow
SECONDS = 400
EPOCHS = 200
TWO_TASKS = ("--nodes=1", "--ntasks-per-node=2", "--gpus-per-node=0", "--cpus-per-task=1")
ON_CPUS = ("--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with running_slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        for name in [name for name in cluster.environment if name.startswith(("WANDB", "GROUND_GLASS"))]:
            del cluster.environment[name]
        cluster.environment |= {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
        yield cluster


def start_training(slurm: Slurm, cohort: Path, place: Path, *limits: str) -> str:
    """Submit docs/train.sbatch for two tasks of this node; return the job."""
    data = (f"--data.cohort={cohort}", f"--data.prepared={place / 'prepared'}", f"--runs={place / 'runs'}")
    options = (*TWO_TASKS, *limits, f"--output={place / 'out.txt'}")
    arguments = ("smoke_infection", *data, *ON_CPUS, f"--trainer.max_epochs={EPOCHS}")
    return slurm.submit(*options, "docs/train.sbatch", *arguments, cwd=ROOT)


def run_of(place: Path) -> Path:
    """Return the only run of a training."""
    (run,) = (path for path in (place / "runs" / "smoke_infection").iterdir() if not path.is_symlink())
    return run


def test_a_training_of_two_tasks_is_requeued_by_the_time_limit_and_ends_as_if_it_had_not_been(
    slurm: Slurm, cohort: Path, tmp_path: Path
) -> None:
    places = {name: tmp_path / name for name in ("uncut", "cut")}
    for place in places.values():
        place.mkdir()
    uncut = start_training(slurm, cohort, places["uncut"], "--time=10")
    cut = start_training(slurm, cohort, places["cut"], "--time=10", "--signal=USR1@59")
    log = places["cut"] / "out.txt"
    slurm.wait_for(lambda: log.is_file() and "epoch 5 of" in log.read_text(), SECONDS)
    # Its time is over in less than 59 seconds now, as SLURM finds when it looks next, twice a minute.
    slurm.run("scontrol", "update", f"JobId={cut}", "TimeLimit=1")
    slurm.wait_for(lambda: slurm.field(cut, "Restarts") != "0" or slurm.states(cut) == ["COMPLETED"], 120)
    assert slurm.field(cut, "Restarts") != "0", "it was over before it was cut off"
    # SLURM would wait for two minutes.
    slurm.run("scontrol", "update", f"JobId={cut}", "TimeLimit=10", "StartTime=now+8seconds")
    assert slurm.wait(cut, SECONDS) == ["COMPLETED"], log.read_text()[-3000:]
    assert slurm.wait(uncut, SECONDS) == ["COMPLETED"], (places["uncut"] / "out.txt").read_text()[-3000:]
    said = (places["cut"] / "out.txt").read_text()
    assert "stopped by a signal; the same command goes on from" in said, said[-3000:]
    assert "Traceback" not in said
    assert_same_run(run_of(places["uncut"]), run_of(places["cut"]))


def test_a_training_that_is_cancelled_ends_in_a_sentence(slurm: Slurm, cohort: Path, tmp_path: Path) -> None:
    job = start_training(slurm, cohort, tmp_path, "--time=10", "--no-requeue")
    slurm.wait_for(lambda: (tmp_path / "out.txt").is_file() and "epoch 3 of" in (tmp_path / "out.txt").read_text(), 90)
    slurm.run("scancel", "--signal=TERM", job)
    assert slurm.wait(job, 60) != ["COMPLETED"]
    said = (tmp_path / "out.txt").read_text()
    assert "stopped by a signal; the same command goes on from" in said, said[-3000:]
    assert "Traceback" not in said, said[-3000:]
    assert (run_of(tmp_path) / "last.ckpt").is_file()


def test_an_array_prepares_and_a_part_that_failed_is_named_and_run_again(
    slurm: Slurm, cohort: Path, tmp_path: Path
) -> None:
    script = tmp_path / "poisoned.sbatch"
    # The third task has no memory to start Python with.
    script.write_text(
        f'#!/bin/bash\n[ "$SLURM_ARRAY_TASK_ID" != 3 ] || ulimit -v 50000\n. {ROOT}/docs/prepare.sbatch\n'
    )
    arguments = ("--cohort", str(cohort), "--out", str(tmp_path / "out"), "--size", "32")
    place = ("--cpus-per-task=1", "--mem=100M")
    output = f"--output={tmp_path}/%A_%a.txt"
    array = slurm.submit("--array=1-4", *place, output, str(script), *arguments, cwd=ROOT)
    options = (f"--dependency=afterany:{array}", *place, f"--output={tmp_path / 'gather.txt'}")
    gather = slurm.submit(*options, "docs/prepare.sbatch", *arguments, cwd=ROOT)
    assert sorted(slurm.wait(array, SECONDS)) == ["COMPLETED"] * 3 + ["FAILED"]
    assert slurm.wait(gather, SECONDS) == ["FAILED"]
    assert "since part 3/4 did not finish" in (tmp_path / "gather.txt").read_text()
    slurm.environment["PARTS"] = "4"
    try:
        again = slurm.submit("--array=3", *place, output, "docs/prepare.sbatch", *arguments, cwd=ROOT)
    finally:
        del slurm.environment["PARTS"]
    gather = slurm.submit(f"--dependency=afterok:{again}", *options[1:], "docs/prepare.sbatch", *arguments, cwd=ROOT)
    assert slurm.wait(gather, SECONDS) == ["COMPLETED"], (tmp_path / "gather.txt").read_text()
    prepare_cohort(cohort, tmp_path / "at once", 32, 1)
    assert tree(tmp_path / "out") == tree(tmp_path / "at once")


def test_an_array_segments(slurm: Slurm, cohort: Path, em_run: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("a", "b", "c"):
        (scans / f"{name}.nii.gz").symlink_to(cohort.parent / "images" / "C008.nii.gz")
    arguments = (str(scans), "-o", str(tmp_path / "out"), "--ckpt", str(em_run / "best.ckpt"), "--device", "cpu")
    place = ("--cpus-per-task=1", "--mem=100M")
    output = f"--output={tmp_path}/%A_%a.txt"
    array = slurm.submit("--array=1-2", *place, output, "docs/predict.sbatch", *arguments, cwd=ROOT)
    options = (f"--dependency=afterany:{array}", *place, f"--output={tmp_path / 'gather.txt'}")
    gather = slurm.submit(*options, "docs/predict.sbatch", *arguments, cwd=ROOT)
    assert slurm.wait(gather, SECONDS) == ["COMPLETED"], (tmp_path / "gather.txt").read_text()
    assert slurm.states(array) == ["COMPLETED"] * 2
    assert "3 segmented (0 of them before)" in (tmp_path / "gather.txt").read_text()
    in_turn = [str(ROOT / ".venv/bin/python"), "-m", "inference.predict", *arguments]
    in_turn[in_turn.index(str(tmp_path / "out"))] = str(tmp_path / "in turn")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    assert subprocess.run(in_turn, cwd=ROOT, env=environment, capture_output=True, check=False).returncode == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "in turn")


def test_agents_of_a_sweep_are_jobs(slurm: Slurm, cohort: Path, tmp_path: Path) -> None:
    trials = [{"optimizer.lr": 1e-3}, {"optimizer.lr": 3e-4}]
    arguments = [f"--config={ROOT / 'experiments' / name}.yaml" for name in ("base", "smoke_infection")]
    arguments += [f"--data.cohort={cohort}", f"--data.prepared={tmp_path / 'prepared'}", f"--runs={tmp_path / 'runs'}"]
    sweep: dict[str, object] = {"program": "launch.py", "method": "grid", "project": "ground-glass"}
    sweep |= {"metric": {"name": "val/dice", "goal": "maximize"}}
    sweep |= {"parameters": {"optimizer.lr": {"values": [trial["optimizer.lr"] for trial in trials]}}}
    sweep |= {"command": [".venv/bin/python", "${program}", "fit", *arguments, "--trainer.accelerator=cpu", "${args}"]}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    with serving(SweepServer(trials)) as server:
        of_wandb = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40, "WANDB_DIR": str(tmp_path)}
        of_wandb |= {"WANDB_ERROR_REPORTING": "false", "WANDB_CONFIG_DIR": str(tmp_path), "WANDB_MODE": "online"}
        before = dict(slurm.environment)
        slurm.environment |= of_wandb
        try:
            wandb = str(ROOT / ".venv/bin/wandb")
            slurm.run(wandb, "sweep", "--entity", "me", str(tmp_path / "sweep.yaml"), cwd=ROOT)
            options = ("--array=1-2", "--gpus-per-node=0", "--cpus-per-task=1", f"--output={tmp_path}/%a.txt")
            job = slurm.submit(*options, "docs/sweep.sbatch", f"me/ground-glass/{SWEEP}", cwd=ROOT)
            states = slurm.wait(job, SECONDS)
        finally:
            slurm.environment.clear()
            slurm.environment.update(before)
    said = "\n".join(file.read_text()[-2000:] for file in sorted(tmp_path.glob("*.txt")))
    assert states == ["COMPLETED"] * 2, said
    assert server.exit_codes == {"trial1": [0], "trial2": [0]}, said
    runs = [path for path in (tmp_path / "runs" / "smoke_infection").iterdir() if not path.is_symlink()]
    configurations = [yaml.safe_load((run / "config.yaml").read_text()) for run in runs]
    assert sorted(each["optimizer"]["init_args"]["lr"] for each in configurations) == [3e-4, 1e-3]
