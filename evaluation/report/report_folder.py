"""Folder of a report: figures (PNG, PDF), tables (CSV, Markdown) and the page that shows them all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.report.drawing import save
from evaluation.tables import markdown
from pages.page import Note, Picture, Section, Table, cell, page

FOOTER = "Made by Ground Glass. For research; no figure here is a claim of accuracy on patients."


class ReportFolder:
    """A report, section by section: each figure and table is written when it is added.

    Args:
        folder: The report's folder; files of an earlier report in it are overwritten.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sections: list[Section] = []
        self.pictures: dict[str, Path] = {}
        self.tables: dict[str, pd.DataFrame] = {}
        self._items: list[Picture | Table | Note] = []

    def section(self, title: str) -> None:
        """Begin a section for all items that follow."""
        self._items = []
        self.sections.append(Section(title, self._items))

    def figure(self, name: str, figure: Any, title: str, caption: str) -> None:
        """Add a matplotlib figure: figures/<name>.png and .pdf."""
        save(figure, self.folder / "figures" / name)
        self.pictures[name] = self.folder / "figures" / f"{name}.png"
        self._items.append(Picture(self.pictures[name], title, caption))

    def table(
        self, name: str, frame: pd.DataFrame, title: str, caption: str, links: Mapping[str, str] | None = None
    ) -> None:
        """Add a table: tables/<name>.csv with all digits, tables/<name>.md as the page shows it."""
        folder = self.folder / "tables"
        folder.mkdir(parents=True, exist_ok=True)
        frame.to_csv(folder / f"{name}.csv", index=False)
        rows = [[cell(value) for value in row] for row in frame.itertuples(index=False)]
        (folder / f"{name}.md").write_text(markdown([str(column) for column in frame.columns], rows), encoding="utf-8")
        self.tables[name] = frame
        self._items.append(Table(frame, title, caption, links or {}))

    def note(self, text: str) -> None:
        """Add a paragraph."""
        self._items.append(Note(text))

    def write(self, title: str, summary: str, facts: Mapping[str, str]) -> Path:
        """Write index.html and return its path."""
        path = self.folder / "index.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(title, summary, facts, self.sections, FOOTER), encoding="utf-8")
        return path
