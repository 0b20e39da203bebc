"""metrics.csv: whole at any time, and cut where a run goes on."""

import math
from pathlib import Path

import pandas as pd

from training.history import History


def logged(folder: Path) -> History:
    history = History(folder)
    for step in range(4):
        history.log_metrics({"b": step / 3}, step)
        if step % 2:
            history.log_metrics({"a/x": math.nan if step == 1 else 0.1 + 0.2, "epoch": step // 2}, step)
    return history


def test_rows_and_new_columns(tmp_path: Path) -> None:
    logged(tmp_path)
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert list(table) == ["a/x", "b", "epoch", "step"]
    assert table["step"].tolist() == [0, 1, 1, 2, 3, 3]
    assert table["b"].dropna().tolist() == [0, 1 / 3, 2 / 3, 1]
    assert table["a/x"].dropna().tolist() == [0.1 + 0.2]
    assert (tmp_path / "metrics.csv").read_text().splitlines()[3] == "nan,,0,1"


def test_a_run_that_goes_on_writes_the_same_file(tmp_path: Path) -> None:
    logged(tmp_path)
    content = (tmp_path / "metrics.csv").read_bytes()
    for keep in (0, 1, 2, 3, 4):
        (tmp_path / "metrics.csv").write_bytes(content + b"1,2")  # cut in the middle of a line
        history = History(tmp_path)
        rows = history.keep_before(keep)
        assert [int(row["step"]) for row in rows] == [step for step in (0, 1, 1, 2, 3, 3) if step < keep]
        assert (tmp_path / "metrics.csv").is_file() == (keep > 0)
        for step in range(keep, 4):
            history.log_metrics({"b": step / 3}, step)
            if step % 2:
                history.log_metrics({"a/x": math.nan if step == 1 else 0.1 + 0.2, "epoch": step // 2}, step)
        assert (tmp_path / "metrics.csv").read_bytes() == content, keep
