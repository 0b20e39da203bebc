"""The same cohort prepared by processes, in parts and on a cluster: the same files, whatever happens meanwhile."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from dask_harness import Cluster
from file_tree import tree
from noise_scans import write_noise_scans
from places import ROOT
from scan_work import Disturbed, FullFolder, SlowFolder

import cohort.prepare.places as places
from cohort.prepare.__main__ import main
from cohort.prepare.prepare_cohort import gather_cohort, prepare_cohort, prepare_part
from machine.engines.dask_cluster import DaskCluster
from machine.engines.parts import Part


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of twelve scans: one broken, one repaired, one with a mask of half of it."""
    return write_noise_scans(tmp_path_factory.mktemp("scans"), 12, (12, 40, 40), half_masked=7)


@pytest.fixture(scope="module")
def expected(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What processes of this machine make of it."""
    out = tmp_path_factory.mktemp("local") / "out"
    done = prepare_cohort(scans, out, size=32, jobs=2)
    assert (len(done.folders), done.refused) == (11, 1)
    return tree(out)


def test_a_cluster_makes_the_same_files(
    scans: Path, expected: dict[str, str], steady: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--cohort", str(scans), "--out", str(tmp_path / "out"), "--size", "32"]
    assert main([*options, "--engine", "dask", "--scheduler", steady.scheduler]) == 0
    assert tree(tmp_path / "out") == expected
    assert main([*options, "--engine", "dask", "--scheduler", steady.scheduler]) == 0
    assert "nothing to do: 11 scans are already prepared" in capsys.readouterr().err


@pytest.mark.parametrize("of", [1, 3, 20])
def test_parts_in_any_order_make_the_same_files(scans: Path, expected: dict[str, str], tmp_path: Path, of: int) -> None:
    out = tmp_path / "out"
    for number in reversed(range(1, of + 1)):
        prepare_part(scans, out, Part(number, of), size=32, jobs=1)
    assert not (out / "verdicts.csv").exists()
    gather_cohort(scans, out, size=32)
    assert tree(out) == expected
    gather_cohort(scans, out, size=32)
    assert tree(out) == expected


def test_parts_at_the_same_time_make_the_same_files(scans: Path, expected: dict[str, str], tmp_path: Path) -> None:
    options = ["--cohort", str(scans), "--out", str(tmp_path / "out"), "--size", "32", "--jobs", "1"]
    command = [sys.executable, "-m", "cohort.prepare", *options]
    parts = [subprocess.Popen([*command, "--part", f"{n}/3"], cwd=ROOT, stdout=subprocess.PIPE) for n in (1, 2, 3)]
    printed = [part.communicate()[0].decode() for part in parts]
    assert [part.returncode for part in parts] == [0, 0, 0]
    assert "part 1/3: 3 scans prepared, 1 refused" in printed[0]  # s3 is broken
    assert subprocess.run([*command, "--gather"], cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert tree(tmp_path / "out") == expected


def test_gathering_names_the_parts_that_are_missing(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"12 of 12 scans have no result yet, since no part was run"):
        gather_cohort(scans, out, size=32)
    for number in (1, 3):
        prepare_part(scans, out, Part(number, 4), size=32, jobs=1)
    with pytest.raises(ValueError, match=r"6 of 12 scans have no result yet, since part 2/4, 4/4 did not finish"):
        gather_cohort(scans, out, size=32)
    assert not (out / "index.csv").exists()
    with pytest.raises(ValueError, match=r"1-of-4\.json: this part was of another list of scans or of other settings"):
        gather_cohort(scans, out, size=40)


def test_a_part_that_is_run_again_forgets_what_it_said_before(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_part(scans, tmp_path / "out", Part(1, 1), size=32, jobs=1)

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cohort.prepare.prepare_cohort.find_damage", fail)
    with pytest.raises(KeyboardInterrupt):
        prepare_part(scans, tmp_path / "out", Part(1, 1), size=32, jobs=1)
    with pytest.raises(ValueError, match="part 1/1 did not finish"):
        gather_cohort(scans, tmp_path / "out", size=32)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--part", "4/3"], "the part is '4/3'; expected i/n"),
        (["--part", "0/3"], "the part is '0/3'; expected i/n"),
        (["--part", "1"], "the part is '1'; expected i/n"),
        (["--part", "1/2", "--gather"], "--gather was given with --part"),
        (["--engine", "dask"], "--engine dask needs the address of its scheduler"),
        (["--scheduler", "tcp://x:1"], "without --engine dask"),
        (["--engine", "dask", "--scheduler", "tcp://x:1", "--part", "1/2"], "a cluster shares the work itself"),
        (["--engine", "dask", "--scheduler", "tcp://x:1", "--resources", "GPU"], "expected NAME=AMOUNT"),
    ],
)
def test_options_that_contradict_are_told(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    assert main(["--cohort", str(scans), "--out", str(tmp_path / "out"), *options]) == 2
    assert sentence in capsys.readouterr().err


def test_many_scans_lie_on_shelves(
    scans: Path, expected: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepare_cohort(scans, out, size=32, jobs=2)
    written = (out / "s0" / "hu.npy").stat().st_ino
    monkeypatch.setattr(places, "MANY", 5)
    done = prepare_cohort(scans, out, size=32, jobs=2)
    assert done.fresh == 0, "scans that lay beside each other are moved, not prepared again"
    assert not (out / "s0").exists()
    shelved = {Path(name).name: name for name in tree(out) if name.endswith("s0/hu.npy")}
    assert (out / shelved["hu.npy"]).stat().st_ino == written
    contents = {Path(*Path(name).parts[-2:]): digest for name, digest in tree(out).items() if name.endswith(".npy")}
    assert contents == {Path(name): digest for name, digest in expected.items() if name.endswith(".npy")}
    from cohort.composition import scans_of_index

    index = scans_of_index(out / "index.csv")
    assert all((out / folder / "hu.npy").is_file() for folder in index["folder"])
    assert set(index["folder"].str.split("/").str[0]) == {"scans"}
    assert prepare_cohort(scans, out, size=32, jobs=2).fresh == 0


@pytest.mark.slow
def test_workers_killed_at_random_moments_cost_nothing(
    scans: Path, expected: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    def disturb() -> None:
        moments = random.Random(0)
        for number in range(3):
            time.sleep(moments.uniform(0.5, 2.5))
            cluster.kill(f"worker-{number}")
            cluster.start_worker(f"late-{number}")

    thread = threading.Thread(target=disturb)
    thread.start()
    prepare_cohort(scans, tmp_path / "out", size=32, engine=Disturbed(cluster.scheduler, SlowFolder))
    thread.join()
    assert tree(tmp_path / "out") == expected


@pytest.mark.slow
def test_after_the_scheduler_died_the_same_command_goes_on(
    scans: Path, expected: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def kill() -> None:
        while not list(out.glob("s*")):
            time.sleep(0.05)
        cluster.kill("scheduler")

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(ValueError, match="was lost; what is done is kept"):
        prepare_cohort(scans, out, size=32, engine=Disturbed(cluster.scheduler, SlowFolder))
    thread.join()
    finished = {folder.name: folder.stat().st_ino for folder in out.glob("s*")}
    assert 0 < len(finished) < 11
    cluster.start_scheduler()
    cluster.start_worker("new")
    prepare_cohort(scans, out, size=32, engine=DaskCluster(cluster.scheduler))
    assert tree(out) == expected
    assert {name: (out / name).stat().st_ino for name in finished} == finished, "what was done is not done again"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_after_the_command_was_ended_the_same_goes_on(
    scans: Path, expected: dict[str, str], cluster: Cluster, tmp_path: Path, kind: signal.Signals
) -> None:
    out = tmp_path / "out"
    options = ["--cohort", str(scans), "--out", str(out), "--size", "32"]
    command = [sys.executable, "-m", "cohort.prepare", *options, "--engine", "dask", "--scheduler", cluster.scheduler]
    # Scans that a worker holds and does not finish keep the command from finishing before it is ended.
    with cluster.suspended("worker-0") as holds_scans:
        first = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
        while not (list(out.glob("s*")) and holds_scans()):
            assert first.poll() is None
            time.sleep(0.005)
        os.kill(first.pid, kind)
        message = first.communicate()[1].decode()
    assert first.returncode == (-signal.SIGKILL if kind is signal.SIGKILL else 130)
    if kind is signal.SIGINT:
        assert message.rstrip().endswith("interrupted; the same command goes on")
        assert "Traceback" not in message
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    assert tree(out) == expected


def test_a_full_disk_ends_it_in_a_sentence_and_with_room_the_same_goes_on(
    scans: Path, expected: dict[str, str], steady: Cluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"prepared scans cannot be written .*No space left.*free some space"):
        prepare_cohort(scans, out, size=32, engine=Disturbed(steady.scheduler, FullFolder))
    assert not (out / "index.csv").exists()
    # Another worker may have been ended while it filled a folder: what it left goes with the next command.
    prepare_cohort(scans, out, size=32, engine=DaskCluster(steady.scheduler))
    assert tree(out) == expected
    assert not list((out / places.MAKING).iterdir())
