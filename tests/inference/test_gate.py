"""What the gate refuses, through `make predict` and through the viewer: its sentence, and nothing half-written."""

from pathlib import Path

import pandas as pd
import pytest
from broken_scans import broken_inputs

from ct.files.read import read_scan
from ct.lungs.find import find_lungs
from inference.predict import main
from viewer.segment_page import segment
from viewer.upload import receive


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """The broken scans, each in a place of its own."""
    return broken_inputs(tmp_path_factory.mktemp("broken"))


def sentence_of(path: Path) -> str:
    """What the gate says."""
    with pytest.raises(ValueError, match=r"\w") as caught:
        find_lungs(read_scan(path))
    return str(caught.value)


@pytest.mark.slow
def test_predict_ends_with_the_gates_sentence(
    broken: dict[str, tuple[Path, str]], em_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (path, reason) in broken.items():
        with pytest.raises(SystemExit) as stop:
            main([f"--ckpt={em_run / 'best.ckpt'}", f"--scan={path}", f"--out={tmp_path / 'out'}"])
        output = capsys.readouterr()
        assert (stop.value.code, output.err) == (2, f"error: {sentence_of(path)}\n"), name
        assert reason.lower() in output.err.lower(), name
        assert list(tmp_path.iterdir()) == [], name


def test_a_batch_lists_each_with_its_reason(broken: dict[str, tuple[Path, str]], em_run: Path, tmp_path: Path) -> None:
    folder = next(iter(broken.values()))[0].parent
    with pytest.raises(SystemExit) as stop:
        main([f"--ckpt={em_run / 'best.ckpt'}", f"--scan={folder}", f"--out={tmp_path / 'out'}"])
    assert stop.value.code == 1
    private = pd.read_csv(tmp_path / "out" / "private_sources.csv").set_index("path")
    failed = set(pd.read_csv(tmp_path / "out" / "failed.csv")["name"])
    for name, (path, reason) in broken.items():
        row = private.loc[str(path)]
        assert reason.lower() in row["failed_because"].lower(), name
        assert row["name"] in failed
        assert not (tmp_path / "out" / row["name"]).exists()
    assert [path.name for path in (tmp_path / "out").glob(".*")] == [".lock"]  # and nothing half made


def upload(files: list[Path], checkpoint: Path, folder: Path, out: Path) -> None:
    """What the viewer does with files that a visitor drops."""
    scan = receive([(file.name, file.read_bytes()) for file in files], folder)
    segment(checkpoint, False, scan, out, "scan", lambda *_: None)


@pytest.mark.slow
def test_an_upload_ends_with_the_gates_sentence(
    broken: dict[str, tuple[Path, str]], em_run: Path, tmp_path: Path
) -> None:
    for name, (path, reason) in broken.items():
        files = [path] if path.is_file() else sorted(path.iterdir())
        with pytest.raises(ValueError, match=r"\w") as caught:
            upload(files, em_run / "best.ckpt", tmp_path / name, tmp_path / "out")
        if files:
            assert reason.lower() in str(caught.value).lower(), name
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()
