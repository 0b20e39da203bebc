"""metrics.csv, the history of a run: whole at any time, and one file also where the run goes on."""

import csv
import io
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from machine.whole_file import whole_file

Row = dict[str, Any]


class History(Logger):
    """A row of metrics.csv for everything logged; the file is whole at any time, and a run that goes on adds to it.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.path = folder, folder / "metrics.csv"
        self._columns: list[str] = []

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.folder)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row: Row = {key: float(value) for key, value in metrics.items()} | {"step": step}
        if "epoch" in row:
            row["epoch"] = int(row["epoch"])
        if row.keys() <= set(self._columns):
            with self.path.open("a", newline="") as file:
                file.write(_text([row], self._columns))
        else:
            self._write([*self.rows(), row])

    def rows(self) -> list[Row]:
        """Return what was logged so far, as text."""
        text = self.path.read_bytes().decode() if self.path.is_file() else ""
        lines = io.StringIO(text[: text.rfind("\n") + 1], newline="")  # a crash of the machine may cut the last one
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(lines)]

    def keep_before(self, step: int) -> list[Row]:
        """Forget what was logged at `step` or later, and return the rest."""
        kept = [row for row in self.rows() if int(row["step"]) < step]
        if kept:
            self._write(kept)
        else:
            self.path.unlink(missing_ok=True)
        return kept

    def _write(self, rows: list[Row]) -> None:
        self._columns = sorted(set().union(*rows))
        with whole_file(self.path, alone=True) as temporary, temporary.open("w", newline="") as file:
            file.write(",".join(self._columns) + "\r\n" + _text(rows, self._columns))


def _text(rows: list[Row], columns: list[str]) -> str:
    buffer = io.StringIO()
    csv.DictWriter(buffer, columns).writerows(rows)
    return buffer.getvalue()
