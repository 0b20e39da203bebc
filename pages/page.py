"""HTML page of text, tables and pictures that needs no other file and no network."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

import pandas as pd
from markupsafe import Markup

from pages.rendering import TEMPLATES

HERE = Path(__file__).parent
STYLE = (HERE / "page.css").read_text(encoding="utf-8")
SORT_SCRIPT = (HERE / "sort_tables.js").read_text(encoding="utf-8")
PICTURE_CONTROLS = (HERE / "picture_controls.js").read_text(encoding="utf-8")
MOST_ROWS = 16  # a longer table is folded until a click opens it
CSS_PIXELS_PER_DOT = 0.72  # shows 10 pt of a figure with 150 dots per inch at about the size of a caption


@dataclass(frozen=True)
class Picture:
    """A PNG file with title and caption; the title is also its alternative text."""

    template: ClassVar[str] = "picture.html"
    path: Path
    title: str
    caption: str

    @property
    def encoded(self) -> str:
        """The file in base64."""
        return base64.b64encode(self.path.read_bytes()).decode("ascii")

    @property
    def width_px(self) -> int:
        """Its width on the page in CSS pixels, by which the text of all figures has one size."""
        return round(int.from_bytes(self.path.read_bytes()[16:20], "big") * CSS_PIXELS_PER_DOT)


class Cell(NamedTuple):
    """A value of a table.

    Attributes:
        shown: Its text.
        link: Its address, if it is a link.
        digits: A number with all its digits, empty where undefined; None for text.
    """

    shown: str
    link: str | None
    digits: str | None


@dataclass(frozen=True)
class Table:
    """A table with title and caption.

    Attributes:
        frame: Its columns and rows.
        title: Its title.
        caption: How to read it.
        links: Address relative to the page, by the text of the cell that links to it.
        sortable: Whether a click on a heading sorts it. Such a table is shown in full, others fold when they are long.
    """

    template: ClassVar[str] = "table.html"
    frame: pd.DataFrame
    title: str
    caption: str
    links: Mapping[str, str] = field(default_factory=dict)
    sortable: bool = False

    @property
    def folds(self) -> bool:
        """Whether it is folded until a click opens it."""
        return len(self.frame) > MOST_ROWS and not self.sortable

    @property
    def headings(self) -> list[tuple[str, bool]]:
        """Name of each column, and whether it holds text."""
        kinds = self.frame.dtypes
        return [(str(name), not pd.api.types.is_numeric_dtype(kind)) for name, kind in kinds.items()]

    @property
    def rows(self) -> Iterator[list[Cell]]:
        """Its cells, row by row."""
        texts = [text for _, text in self.headings]
        for row in self.frame.itertuples(index=False):
            yield [self._cell(value, text) for value, text in zip(row, texts, strict=True)]

    def _cell(self, value: float | str, text: bool) -> Cell:
        shown = cell(value)
        digits = None if text else "" if pd.isna(value) else str(float(value))
        return Cell(shown, self.links.get(shown), digits)


@dataclass(frozen=True)
class Note:
    """A paragraph, such as the reason why a figure is missing."""

    template: ClassVar[str] = "note.html"
    text: str


@dataclass(frozen=True)
class Alarm:
    """A warning at the top of a page: a heading, and a sentence for each reason."""

    template: ClassVar[str] = "alarm.html"
    title: str
    sentences: Sequence[str]


@dataclass(frozen=True)
class Drawing:
    """The output of a template (a chart, a viewer of slices) with title and caption."""

    template: ClassVar[str] = "drawing.html"
    html: Markup
    title: str = ""
    caption: str = ""


Item = Picture | Table | Note | Alarm | Drawing


@dataclass(frozen=True)
class Section:
    """A chapter of the page."""

    title: str
    items: Sequence[Item]


def page(
    title: str,
    summary: str,
    facts: Mapping[str, str],
    sections: Sequence[Section],
    footer: str,
    top: Sequence[Item] = (),
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
) -> str:
    """Write the page.

    Args:
        title: Its heading.
        summary: Its subject, in a sentence.
        facts: Facts that identify it, by name, shown below the heading.
        sections: Its chapters; those without items are left out.
        footer: Its last line.
        top: Items above all chapters.
        scripts: Its scripts, beside that of sortable tables. The policy lets these run, by their hashes, and no others.
        styles: CSS of its own items.

    Returns:
        HTML in which pictures are data URIs, and styles and scripts stand inline. All text is escaped.
    """
    if any(isinstance(item, Table) and item.sortable for section in sections for item in section.items):
        scripts = [*scripts, SORT_SCRIPT]
    return TEMPLATES.render(
        "page.html",
        title=title,
        summary=summary,
        facts=facts,
        sections=sections,
        footer=footer,
        top=top,
        scripts={_digest(script): Markup(script) for script in scripts},
        styles=[Markup(style) for style in (STYLE, *styles)],
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def counted(number: int, noun: str) -> str:
    """Write a number with its noun, in the singular for 1: "1 scan", "3 scans"."""
    return f"{number} {noun}" + "s" * (number != 1)


def cell(value: object) -> str:
    """Format a value for a table: a dash where undefined, three decimals of a share, two digits of a small one."""
    if value is None or value is pd.NA or (isinstance(value, float) and pd.isna(value)):
        return "-"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.2g}"
    return f"{value:,.0f}" if isinstance(value, float) else str(value)
