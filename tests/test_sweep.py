"""Sweeps without a server: real processes of a small program that stands in for train.py."""

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from places import ROOT

import sweep
from evaluation.sweeps.sweep_file import read_sweep
from training.run_folder import VARIABLE

# Writes what a run of train.py leaves: figures, then `latest`. --x 13 fails; the variables and times go to a file.
PROGRAM = """
import json, os, sys, time
given = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
x, started = float(given["x"]), time.time()
while "until" in given and not os.path.isdir(given["until"]) and time.time() < started + 60:
    time.sleep(0.05)
met = 0
if "meet" in given:
    place, patience = given["meet"].split(":")
    here = os.path.join(place, str(os.getpid()))
    open(here, "w").close()
    while (met := max(met, len(os.listdir(place)))) < 2 and time.time() < started + float(patience):
        time.sleep(0.02)
    time.sleep(0.5)  # for the other to look
    os.remove(here)
if x == 13:
    print("thirteen brings bad luck")
    print("error: x is 13;")
    print("  expected another number")
    sys.exit(2)
run = os.path.join(given["runs"], "stand_in", "1")
os.makedirs(run, exist_ok=True)
figures = {"dice": None if x == 7 else x / 10, "order": list(given), "OMP": os.environ["OMP_NUM_THREADS"],
           "own": os.environ.get("GROUND_GLASS_RUN", "")}
figures |= {"pid": os.getpid(), "met": met}
with open(os.path.join(run, "metrics.json"), "w") as file:
    json.dump(figures, file)
with open(os.path.join(run, "metrics.csv"), "w") as file:
    file.write(f"epoch,val/dice\\n0,0.5\\n1,{x}\\n1,\\n")
if not os.path.islink(os.path.join(given["runs"], "stand_in", "latest")):
    os.symlink("1", os.path.join(given["runs"], "stand_in", "latest"))
"""


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A sweep file over x for the program that stands in."""
    (tmp_path / "program.py").write_text(PROGRAM)
    return write(tmp_path / "small.yaml", {"x": {"values": [1, 2]}})


def write(path: Path, parameters: Mapping[str, object], **others: object) -> Path:
    content = {
        "program": str(path.parent / "program.py"),
        "method": "grid",
        "metric": {"name": "test/dice", "goal": "maximize"},
        "parameters": parameters,
        "command": ["${interpreter}", "${program}", "${args}"],
    }
    path.write_text(yaml.safe_dump(content | others, sort_keys=False))
    return path


def run(file: Path, *more: str, jobs: int = 2) -> pd.DataFrame:
    """Run without the command line, which draws the figure too."""
    folder = file.parent / "runs" / "sweeps" / file.stem
    sweep.OfflineSweep(read_sweep(file), folder, more, jobs).run()
    return read(file)


def read(file: Path) -> pd.DataFrame:
    return pd.read_csv(file.parent / "runs" / "sweeps" / file.stem / "trials.csv", keep_default_na=False)


def pids(table: pd.DataFrame) -> list[int]:
    return [int(float(pid)) for pid in table["pid"] if pid]


def test_every_point_becomes_a_row_and_a_failed_one_is_passed_over(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "another run")
    write(file, {"x": {"values": [1, 13, 7]}, "model.flag": {"values": [True, False]}})
    assert sweep.main([str(file), f"--runs={file.parent / 'runs'}", "--jobs=2", "--", "--lr=1e-3"]) == 0
    table = read(file)
    assert list(table["x"]) == [1, 1, 13, 13, 7, 7]
    assert list(table["model.flag"].astype(str)) == ["True", "False"] * 3
    assert list(table["state"]) == ["ok", "ok", "failed", "failed", "ok", "ok"]
    assert list(table["error"][2:4]) == ["exit code 2, error: x is 13; expected another number"] * 2
    assert list(table["dice"].astype(str)) == ["0.1", "0.1", "", "", "", ""]  # 7 is undefined, 13 was never measured
    assert table["trial"].is_unique
    finished = table[table["state"] == "ok"]
    for _, row in finished.iterrows():
        assert (Path(row["run"]) / "metrics.json").is_file()
        assert row["trial"] in Path(row["run"]).parts
        assert json.loads(row["order"].replace("'", '"')) == ["lr", "runs", "x", "model.flag"]
    assert set(finished["own"]) == {""}  # a trial must not write into the run that started the sweep
    cores = len(os.sched_getaffinity(0))
    assert set(finished["OMP"].astype(float)) == {max(1, cores // 2)}
    folder = file.parent / "runs" / "sweeps" / "small"
    assert (folder / "parameters.png").stat().st_size > 5000
    assert (folder / "parameters.pdf").stat().st_size > 1000
    output = capsys.readouterr()
    assert "4 of 6 trials finished" in output.out
    assert "best by test/dice: x 1, model.flag True (0.1000); it was chosen on test scans" in output.out
    assert output.err.startswith(f"warning: {file}: the metric test/dice is a figure of the test scans")
    assert list(table["best_by"]) == ["test/dice", "", "", "", "", ""]  # of equal ones the first
    assert "x 13, model.flag True: failed: exit code 2, error: x is 13; expected another number" in output.err


def test_the_same_command_runs_only_what_is_not_finished(file: Path) -> None:
    write(file, {"x": {"values": [1, 13]}})
    first = run(file)
    write(file, {"x": {"values": [1, 13, 3]}})
    (file.parent / "program.py").write_text(PROGRAM.replace("x == 13", "x == 14"))
    second = run(file)
    assert list(second["state"]) == ["ok", "ok", "ok"]
    assert pids(second)[0] == pids(first)[0]
    assert second["seconds"][0] == first["seconds"][0]
    assert run(file).equals(second)


def test_trials_of_one_table_are_made_from_the_same_files(file: Path) -> None:
    (file.parent / "program.py").write_text(PROGRAM + "open(given['weights'], 'a').write('trained on')\n")
    (file.parent / "best.ckpt").write_text("one")
    with pytest.raises(
        ValueError, match="a file that the trials are made from changed meanwhile; start the sweep again"
    ):
        run(file, f"--weights={file.parent / 'best.ckpt'}", jobs=1)


def test_a_point_that_left_the_grid_leaves_the_table(file: Path) -> None:
    run(file)
    write(file, {"x": {"values": [2]}})
    assert list(run(file)["x"]) == [2]


def test_other_settings_or_other_weights_are_other_trials(file: Path) -> None:
    weights = file.parent / "best.ckpt"
    weights.write_text("one")
    first = pids(run(file, f"--weights={weights}"))
    moved = weights.rename(file.parent / "moved.ckpt")
    assert pids(run(file, f"--weights={moved}")) == first  # the same weights in another place
    moved.write_text("two")
    second = pids(run(file, f"--weights={moved}"))
    third = pids(run(file, f"--weights={moved}", "--epochs=3"))
    assert len({*first, *second, *third}) == 6
    moved.write_text("one")
    assert pids(run(file, f"--weights={moved}")) == first


@pytest.mark.parametrize(("jobs", "patience"), [(1, 0.1), (2, 60)])
def test_as_many_at_once_as_there_are_jobs(file: Path, jobs: int, patience: float) -> None:
    place = file.parent / "place"
    place.mkdir()
    table = run(file, f"--meet={place}:{patience}", jobs=jobs)
    assert table["met"].astype(float).tolist() == [jobs, jobs]  # as many as were there together


def test_one_value_of_the_metric_is_read_where_it_stands(file: Path) -> None:
    write(file, {"x": {"values": [4]}}, metric={"name": "val/dice", "goal": "maximize"})
    assert run(file)["val/dice"].tolist() == [4.0]


@pytest.mark.parametrize(("goal", "best"), [("maximize", 3), ("minimize", 1)])
def test_a_finished_sweep_names_its_best_trial_by_validation(
    file: Path, capsys: pytest.CaptureFixture[str], goal: str, best: int
) -> None:
    write(file, {"x": {"values": [1, 13, 3, 2]}}, metric={"name": "val/dice", "goal": goal})
    assert sweep.main([str(file), f"--runs={file.parent / 'runs'}"]) == 0
    output = capsys.readouterr()
    assert f"best by val/dice: x {best} ({best}.0000)\n" in output.out
    assert "warning" not in output.err
    assert read(file).set_index("x")["best_by"].to_dict() == {1: "", 13: "", 3: "", 2: ""} | {best: "val/dice"}


def test_a_metric_that_is_undefined_everywhere_names_nobody(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(file, {"x": {"values": [7]}})
    assert sweep.main([str(file), f"--runs={file.parent / 'runs'}"]) == 0
    assert "no trial has a value of test/dice, so none is the best" in capsys.readouterr().out


def test_what_all_trials_need_is_made_before_them(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = file.parent / "runs"
    latest = runs / "first" / "latest"
    asked: list[list[str]] = []

    def make_needs(arguments: list[str]) -> list[str]:
        asked.append(list(arguments))
        (latest.parent / "1").mkdir(parents=True)
        (latest.parent / "1" / "best.ckpt").write_text("weights")
        latest.symlink_to("1")
        return [f"--model.init_weights={latest / 'best.ckpt'}"]

    monkeypatch.setattr(sweep, "make_needs", make_needs)
    (file.parent / "program.py").rename(file.parent / "launch.py")
    write(file, {"x": {"values": [1, 2]}}, program=str(file.parent / "launch.py"))
    assert sweep.main([str(file), f"--runs={runs}", "--", "--lr=1"]) == 0
    (arguments,) = asked
    assert {f"--stage1_runs={runs}", "--lr=1"} <= set(arguments)
    for order in read(file)["order"]:
        assert json.loads(order.replace("'", '"')) == ["lr", "model.init_weights", "runs", "x"]


def test_what_cannot_be_made_ends_the_sweep(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MEDSEG", raising=False)
    monkeypatch.chdir(file.parent)  # a checkout may have made that cohort
    command = ["launch.py", "fit", "--data.cohort=cohorts/medseg/cohort.csv", "${args}"]
    write(file, {"x": {"values": [1]}}, program="launch.py", command=command)
    assert sweep.main([str(file), f"--runs={file.parent / 'runs'}"]) == 2
    assert "error: name the folder of slices: MEDSEG=" in capsys.readouterr().err


def test_a_metric_that_no_trial_has_ends_the_sweep(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(file, {"x": {"values": [1, 2]}}, metric={"name": "test/diec", "goal": "maximize"})
    assert sweep.main([str(file), f"--runs={file.parent / 'runs'}"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    assert "no figure 'test/diec', the sweep's metric; expected one of test/OMP, test/dice" in line


def test_all_failed_is_an_error(file: Path) -> None:
    write(file, {"x": {"values": [13]}})
    assert sweep.main([str(file), f"--runs={file.parent / 'runs'}"]) == 1
    assert not (file.parent / "runs" / "sweeps" / "small" / "parameters.png").exists()


def test_a_random_search_goes_on_as_it_would_have(file: Path) -> None:
    space = {"x": {"min": 0.0, "max": 1.0}}
    write(file, space, method="random", run_cap=4)
    whole = run(file)
    (file.parent / "again").mkdir()
    (file.parent / "again" / "program.py").write_text(PROGRAM)
    other = write(file.parent / "again" / "small.yaml", space, method="random", run_cap=2)
    run(other)
    continued = run(write(other, space, method="random", run_cap=4))
    assert list(continued["x"]) == list(whole["x"])
    assert len(set(whole["x"])) == 4


def start(file: Path, trials: int = 2) -> BaseProcess:
    """The command line in a process of its own, once its first trials run; they do until `go` is a folder."""
    arguments = [str(file), f"--runs={file.parent / 'runs'}", "--jobs=2", "--", until(file)]
    # Forked: a new interpreter would spend seconds on imports.
    process = multiprocessing.get_context("fork").Process(target=end_with, args=(arguments,))
    process.start()
    locked = file.parent / "runs" / "sweeps" / "small" / ".lock"  # by then it listens to signals
    for _ in range(3000):
        if locked.exists() and len(trials_of(file)) >= trials:
            return process
        time.sleep(0.005)
    raise AssertionError("no trial was started")


def until(file: Path) -> str:
    return f"--until={file.parent / 'go'}"


def end_with(arguments: list[str]) -> None:
    sys.exit(sweep.main(arguments))


def trials_of(file: Path) -> list[int]:
    """The processes of this sweep's trials that are still there."""
    processes = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if str(file.parent / "program.py").encode() in command:
            processes.append(int(folder.name))
    return processes


def wait_until_free(folder: Path) -> None:
    """Until no process holds the lock: one that is ending has no command line any more, but still its files."""
    for _ in range(100):
        with contextlib.suppress(ValueError), sweep.lock_folder(folder):
            return
        time.sleep(0.1)
    raise AssertionError("the lock was never given back")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("trials", [0, 1, 2])  # as soon as that many are there: also while one is being started
def test_a_stopped_sweep_ends_its_trials(file: Path, number: int, trials: int) -> None:
    process = start(file, trials)
    assert process.pid
    os.kill(process.pid, number)
    process.join(20)
    assert process.exitcode == 128 + number
    assert trials_of(file) == []


def test_a_killed_sweep_goes_on_where_it_was(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(file, {"x": {"values": [1, 2, 3]}})
    process = start(file)
    process.kill()
    process.join()
    orphans = trials_of(file)
    assert len(orphans) == 2
    assert sweep.main([str(file), f"--runs={file.parent / 'runs'}", "--", until(file)]) == 2
    assert "or a trial of one that was killed, is still running here" in capsys.readouterr().err
    os.kill(orphans[0], signal.SIGKILL)  # ours: the path of its program is in this test's own folder
    (file.parent / "go").mkdir()
    wait_until_free(file.parent / "runs" / "sweeps" / "small")
    table = run(file, until(file))
    assert (list(table["state"]), list(table["x"])) == (["ok"] * 3, [1, 2, 3])
    kept = set(pids(table)) & set(orphans)  # what finished without us is kept, what did not is run again
    assert kept == {orphans[1]}


def test_the_variable_is_that_of_the_run_folder() -> None:
    assert sweep.RUN_FOLDER_VARIABLE == VARIABLE


def test_a_sweep_without_a_file_names_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.main([str(ROOT / "experiments" / "sweeps" / "unet_em_piror.yaml")]) == 2
    assert "unet_em_prior" in capsys.readouterr().err
    assert read_sweep(ROOT / "experiments" / "sweeps" / "unet_em_prior.yaml").size == 20
