"""Sections of text, tables and pictures -> one HTML page that needs no other file and no network."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import pandas as pd

# No script, nothing from outside: a browser that obeys this policy could not fetch anything even by mistake.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
MOST_ROWS = 16  # of a table that is shown at once; a longer one is opened by a click
CSS_PIXELS_PER_DOT = 0.72  # figures have 150 dots per inch: their text of 10 pt is shown at about the size of a caption
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #5b6470; --paper: #ffffff; --line: #d8dde3; --tint: #f4f6f8;
  --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --faint: #9aa4b0; --paper: #14171b; --line: #333a42;
  --tint: #1d2127; --link: #7db7f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 5rem; max-width: 64rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", sans-serif; }
a { color: var(--link); }
header { border-bottom: 2px solid var(--ink); padding-bottom: 1rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.8rem 0 .4rem; }
p { max-width: 46rem; margin: .5rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .6rem 0 0; font-size: .92rem; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
nav { margin: 1rem 0 0; font-size: .92rem; line-height: 1.9; }
nav a { margin-right: 1.1rem; white-space: nowrap; }
figure { margin: 1.2rem 0 1.8rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; padding: .5rem; background: #ffffff;
  border: 1px solid var(--line); border-radius: 4px; }
figcaption { margin: .55rem auto 0; max-width: 46rem; font-size: .88rem; color: var(--faint); }
figcaption b, caption b { color: var(--ink); }
.table { overflow-x: auto; margin: 1rem 0 1.6rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { caption-side: top; text-align: left; font-size: .88rem; color: var(--faint); padding-bottom: .4rem;
  max-width: 46rem; }
th, td { padding: .28rem .75rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th.text, td.text { text-align: left; }
td.text { white-space: normal; }
thead th { border-bottom: 1.5px solid var(--ink); background: var(--tint); font-weight: 600; }
details { margin: 1rem 0 1.6rem; font-size: .88rem; color: var(--faint); }
summary { cursor: pointer; }
summary b { color: var(--ink); }
details table { color: var(--ink); }
.note { border-left: 3px solid var(--line); padding-left: .8rem; color: var(--faint); font-size: .92rem; }
footer { margin-top: 4rem; border-top: 1px solid var(--line); padding-top: .8rem; color: var(--faint);
  font-size: .85rem; }
@media print { :root { color-scheme: light; --ink: #000; --faint: #333; --paper: #fff; --line: #bbb; --tint: #f2f2f2; }
  body { max-width: none; padding: 0; font-size: 10.5pt; } nav { display: none; }
  figure img { border: none; padding: 0; }
  figure, tr, details { margin: 1rem 0 1.6rem; font-size: .88rem; color: var(--faint); }
summary { cursor: pointer; }
summary b { color: var(--ink); }
details table { color: var(--ink); }
.note { break-inside: avoid; } h2, h3, caption { break-after: avoid; } .table { overflow: visible; } }
"""


@dataclass(frozen=True)
class Picture:
    """A PNG file with what it shows; the title is also its text for whoever cannot see it."""

    path: Path
    title: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A table with what it says. `links` turns cells of text into links: cell -> address relative to the page."""

    frame: pd.DataFrame
    title: str
    caption: str
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Note:
    """A paragraph: what limits a figure, or why there is none."""

    text: str


@dataclass(frozen=True)
class Section:
    """A chapter of the page."""

    title: str
    items: Sequence[Picture | Table | Note]


def page(title: str, summary: str, facts: Mapping[str, str], sections: Sequence[Section], footer: str) -> str:
    """Write the page.

    Args:
        title: Its heading.
        summary: What it is about, in a sentence.
        facts: What identifies it, by name, shown below the heading.
        sections: Its chapters; those without items are left out.
        footer: Its last line.

    Returns:
        HTML in which pictures are data URIs and the style stands inline. All text is escaped.
    """
    shown = [(f"s{number}", section) for number, section in enumerate(sections, 1) if section.items]
    contents = "\n".join(f'<a href="#{key}">{escape(section.title)}</a>' for key, section in shown)
    named = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    chapters = "\n".join(
        f'<section id="{key}">\n<h2>{escape(section.title)}</h2>\n'
        + "\n".join(_item(item) for item in section.items)
        + "\n</section>"
        for key, section in shown
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escape(title)}</h1>\n<p>{escape(summary)}</p>\n<dl>{named}</dl>\n</header>\n"
        f"<nav>{contents}</nav>\n<main>\n{chapters}\n</main>\n<footer>{escape(footer)}</footer>\n</body>\n</html>\n"
    )


def _item(item: Picture | Table | Note) -> str:
    if isinstance(item, Picture):
        return (
            f'<figure>\n<img src="{data_uri(item.path)}" width="{shown_width(item.path)}" alt="{escape(item.title)}">\n'
            f"<figcaption><b>{escape(item.title)}.</b> {escape(item.caption)}</figcaption>\n</figure>"
        )
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
        f"<th{_kind(text)}>{escape(str(name))}</th>" for name, text in zip(table.frame.columns, texts, strict=True)
    )
    rows = "\n".join(
        "<tr>"
        + "".join(
            f"<td{_kind(text)}>{_linked(cell(value), table.links)}</td>" for value, text in zip(row, texts, strict=True)
        )
        + "</tr>"
        for row in table.frame.itertuples(index=False)
    )
    title, body = f"<b>{escape(table.title)}.</b>", f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>"
    if len(table.frame) > MOST_ROWS:
        caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
        summary = f"<summary>{title} {len(table.frame)} rows</summary>"
        return f'<details>{summary}\n<div class="table"><table>{caption}\n{body}</table></div></details>'
    caption = f"<caption>{title} {escape(table.caption)}</caption>"
    return f'<div class="table"><table>{caption}\n{body}</table></div>'


def _kind(text: bool) -> str:
    return ' class="text"' if text else ""


def _linked(text: str, links: Mapping[str, str]) -> str:
    return f'<a href="{escape(links[text])}">{escape(text)}</a>' if text in links else escape(text)


def cell(value: object) -> str:
    """A value as it stands in a table: a dash where it is undefined, three significant decimals where it is a share."""
    if value is None or value is pd.NA or (isinstance(value, float) and pd.isna(value)):
        return "-"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.2g}"
    return f"{value:,.0f}" if isinstance(value, float) else str(value)
