"""Sections of text, tables and pictures -> one HTML page that needs no other file and no network."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import pandas as pd

from pages.sortable import SORT_SCRIPT
from pages.style import STYLE

# Nothing from outside, and no script but those that a page was made with: a browser that obeys this policy could not
# fetch anything even by mistake.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
MOST_ROWS = 16  # of a table that is shown at once; a longer one is opened by a click
CSS_PIXELS_PER_DOT = 0.72  # figures have 150 dots per inch: their text of 10 pt is shown at about the size of a caption


@dataclass(frozen=True)
class Picture:
    """A PNG file with what it shows; the title is also its text for whoever cannot see it."""

    path: Path
    title: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A table with what it says.

    Attributes:
        frame: Its columns and rows.
        title: What it shows.
        caption: How to read it.
        links: Cells of text that are links: cell -> address relative to the page.
        sortable: Whether a click on a heading sorts it. Such a table is shown in full, others fold when they are long.
    """

    frame: pd.DataFrame
    title: str
    caption: str
    links: Mapping[str, str] = field(default_factory=dict)
    sortable: bool = False


@dataclass(frozen=True)
class Note:
    """A paragraph: what limits a figure, or why there is none."""

    text: str


@dataclass(frozen=True)
class Alarm:
    """What a reader must know before anything else: a heading and a sentence each."""

    title: str
    sentences: Sequence[str]


@dataclass(frozen=True)
class Drawing:
    """Markup of this project's own making (a chart, a viewer of slices), which is not escaped; with what it shows."""

    html: str
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
) -> str:
    """Write the page.

    Args:
        title: Its heading.
        summary: What it is about, in a sentence.
        facts: What identifies it, by name, shown below the heading.
        sections: Its chapters; those without items are left out.
        footer: Its last line.
        top: What stands above all chapters.
        scripts: What moves on it, besides tables that sort. The policy lets these run, by their hashes, and no others.

    Returns:
        HTML in which pictures are data URIs and the style stands inline. All text is escaped.
    """
    shown = [(f"s{number}", section) for number, section in enumerate(sections, 1) if section.items]
    contents = "\n".join(f'<a href="#{key}">{escape(section.title)}</a>' for key, section in shown)
    named = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    first = "\n".join(map(_item, top))
    chapters = "\n".join(
        f'<section id="{key}">\n<h2>{escape(section.title)}</h2>\n'
        + "\n".join(map(_item, section.items))
        + "\n</section>"
        for key, section in shown
    )
    if any(isinstance(item, Table) and item.sortable for section in sections for item in section.items):
        scripts = [*scripts, SORT_SCRIPT]
    running = "".join(f"<script>{script}</script>\n" for script in scripts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escape(title)}</h1>\n<p>{escape(summary)}</p>\n<dl>{named}</dl>\n</header>\n"
        f"{first}<nav>{contents}</nav>\n<main>\n{chapters}\n</main>\n<footer>{escape(footer)}</footer>\n"
        f"{running}</body>\n</html>\n"
    )


def _policy(scripts: Sequence[str]) -> str:
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii") for script in scripts)
    return POLICY + ("; script-src " + " ".join(f"'sha256-{digest}'" for digest in hashes) if scripts else "")


def _item(item: Item) -> str:
    if isinstance(item, Picture):
        return (
            f'<figure>\n<img src="{data_uri(item.path)}" width="{shown_width(item.path)}" alt="{escape(item.title)}">\n'
            f"<figcaption><b>{escape(item.title)}.</b> {escape(item.caption)}</figcaption>\n</figure>"
        )
    if isinstance(item, Drawing):
        said = f"<b>{escape(item.title)}.</b> {escape(item.caption)}" if item.title else escape(item.caption)
        caption = f"<figcaption>{said}</figcaption>\n" if said else ""
        return f'<figure>\n<div class="drawing">{item.html}</div>\n{caption}</figure>'
    if isinstance(item, Alarm):
        listed = "".join(f"<li>{escape(sentence)}</li>" for sentence in item.sentences)
        return f'<div class="alarm" role="note"><b>{escape(item.title)}</b><ul>{listed}</ul></div>\n'
    return _table(item) if isinstance(item, Table) else f'<p class="note">{escape(item.text)}</p>'


def data_uri(png: Path) -> str:
    """A PNG file as the address of an image that contains it."""
    return "data:image/png;base64," + base64.b64encode(png.read_bytes()).decode("ascii")


def shown_width(png: Path) -> int:
    """How wide a PNG file is shown, in CSS pixels, so that the text of all figures has one size."""
    return round(int.from_bytes(png.read_bytes()[16:20], "big") * CSS_PIXELS_PER_DOT)


def _table(table: Table) -> str:
    texts = [not pd.api.types.is_numeric_dtype(kind) for kind in table.frame.dtypes]
    head = "".join(
        f"<th{_kind(text)}>{_heading(str(name), table.sortable)}</th>"
        for name, text in zip(table.frame.columns, texts, strict=True)
    )
    rows = "\n".join(
        "<tr>"
        + "".join(
            f"<td{_kind(text)}{_sorted_by(value) if table.sortable and not text else ''}>"
            f"{_linked(cell(value), table.links)}</td>"
            for value, text in zip(row, texts, strict=True)
        )
        + "</tr>"
        for row in table.frame.itertuples(index=False)
    )
    title, body = f"<b>{escape(table.title)}.</b>", f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>"
    if len(table.frame) > MOST_ROWS and not table.sortable:
        caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
        summary = f"<summary>{title} {len(table.frame)} rows</summary>"
        frame = _scrolling(table.title, f"<table>{caption}\n{body}</table>")
        return f"<details>{summary}\n{frame}</details>"
    caption = f"<caption>{title} {escape(table.caption)}</caption>"
    kind = ' class="sortable"' if table.sortable else ""
    return _scrolling(table.title, f"<table{kind}>{caption}\n{body}</table>")


def _scrolling(title: str, table: str) -> str:
    """A table in a frame of its own that scrolls, also by the keyboard."""
    return f'<div class="table" role="region" tabindex="0" aria-label="{escape(title)}">{table}</div>'


def _heading(name: str, sortable: bool) -> str:
    return f'<button type="button">{escape(name)}</button>' if sortable else escape(name)


def _sorted_by(value: float) -> str:
    """A number with all its digits; nothing where it is undefined."""
    return f' data-value="{"" if pd.isna(value) else float(value)}"'


def _kind(text: bool) -> str:
    return ' class="text"' if text else ""


def _linked(text: str, links: Mapping[str, str]) -> str:
    return f'<a href="{escape(links[text])}">{escape(text)}</a>' if text in links else escape(text)


def counted(number: int, what: str) -> str:
    """A number of things, in the singular where there is one: "1 scan", "3 scans"."""
    return f"{number} {what}" + "s" * (number != 1)


def cell(value: object) -> str:
    """A value as it stands in a table: a dash where it is undefined, three significant decimals where it is a share."""
    if value is None or value is pd.NA or (isinstance(value, float) and pd.isna(value)):
        return "-"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.2g}"
    return f"{value:,.0f}" if isinstance(value, float) else str(value)
