"""The same scans segmented in turn, in parts and on a cluster: the same files."""

import os
import pickle
import shutil
from functools import partial
from pathlib import Path

import pandas as pd
import pydicom
import pytest
from dask_harness import Cluster
from file_tree import tree
from scan_work import worker_of

from ct.refusal import Word
from inference.many_scans import segment_batch
from inference.predict import main
from inference.scan_list import Source
from inference.segmenter import Segmenter
from machine.engines.dask_cluster import DaskCluster
from machine.engines.engine import Died, Engine


@pytest.fixture(scope="module")
def scans(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DICOM series, two volumes, and a file that is damaged."""
    images, folder = cohort.parent / "images", tmp_path_factory.mktemp("scans")
    shutil.copytree(images / "B007", folder / "B007")
    for name in ("C1", "C2"):
        shutil.copy(images / "C008.nii.gz", folder / f"{name}.nii.gz")
    (folder / "broken.nii.gz").write_bytes(b"no gzip at all")
    return folder


def content(file: Path) -> bytes:
    """Return a file's bytes; of a DICOM object what it says but for identifiers and times, which no two share."""
    if file.suffix != ".dcm":
        return file.read_bytes()
    dataset = pydicom.dcmread(file)

    def forget(parent: pydicom.Dataset, element: pydicom.DataElement) -> None:
        if element.VR in ("UI", "DA", "TM", "DT"):
            del parent[element.tag]

    dataset.walk(forget)
    return dataset.to_json().encode()


def command(em_run: Path, scans: Path, out: Path, *more: str) -> int:
    """Exit code of the command line."""
    try:
        return main([str(scans), "-o", str(out), "--ckpt", str(em_run / "best.ckpt"), "--device", "cpu", *more])
    except SystemExit as end:
        return int(end.code or 0)


@pytest.fixture(scope="module")
def expected(em_run: Path, scans: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What this process makes of them, one after the other."""
    out = tmp_path_factory.mktemp("in_turn") / "out"
    assert command(em_run, scans, out) == 1
    assert sorted(pd.read_csv(out / "measurements.csv")["name"]) == ["scan-0001", "scan-0002", "scan-0003"]
    return tree(out, content)


def test_a_cluster_writes_the_same_files(
    em_run: Path, scans: Path, expected: dict[str, str], steady: Cluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert command(em_run, scans, out, "--engine", "dask", "--scheduler", steady.scheduler) == 1
    assert tree(out, content) == expected


def test_parts_write_the_same_files(
    em_run: Path, scans: Path, expected: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert command(em_run, scans, out, "--part", "1/3") == 1  # scan-0001, and scan-0004, which is broken
    assert command(em_run, scans, out, "--gather") == 2
    assert "2 of 4 scans have no result yet, since part 2/3, 3/3 did not finish" in capsys.readouterr().err
    assert [command(em_run, scans, out, "--part", f"{number}/3") for number in (3, 2)] == [0, 0]
    assert command(em_run, scans, out, "--gather") == 1
    assert tree(out, content) == expected


def test_a_gpu_is_asked_of_the_worker(em_run: Path, scans: Path, steady: Cluster, tmp_path: Path) -> None:
    steady.start_worker("with-gpu", "--resources", "GPU=1")
    try:
        segmenter = Segmenter([em_run / "best.ckpt"], device="cpu")
        sources = {"a": Source("a", scans / "B007")}
        results = DaskCluster(steady.scheduler, {"GPU": 1}).run(sources, partial(worker_of, segmenter=segmenter))
        ((_, worker),) = results
        assert isinstance(worker, int)
        assert os.getpgid(worker) == steady.processes["with-gpu"].pid
    finally:
        steady.kill("with-gpu")


def test_a_pickled_segmenter_is_loaded_once(em_run: Path) -> None:
    pickled = pickle.dumps(Segmenter([em_run / "best.ckpt"], device="cpu"))
    assert len(pickled) < 1000
    assert pickle.loads(pickled) is pickle.loads(pickled)


def test_a_scan_that_kills_its_process_is_listed(em_run: Path, scans: Path, tmp_path: Path) -> None:
    class Deadly(Engine):
        def run(self, items, work):  # type: ignore[no-untyped-def]
            for name, item in items.items():
                yield name, Died(Word("killed by SIGKILL")) if name == "scan-0002" else work(item)

    summary = segment_batch(Segmenter([em_run / "best.ckpt"], device="cpu"), scans, tmp_path / "out", Deadly())
    assert (summary.segmented, summary.failed) == (2, 2)
    failed = pd.read_csv(tmp_path / "out" / "failed.csv").set_index("name")["reason"]
    assert failed["scan-0002"].startswith("the process that segmented it was killed by SIGKILL, also when it ran alone")


def test_one_scan_is_not_shared_out(
    em_run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(em_run, scans / "B007", tmp_path / "out", "--part", "1/2") == 2
    assert "is one scan; expected a folder of scans or a cohort.csv" in capsys.readouterr().err
