import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup
from places import ROOT

from hatch_build import files_of_package
from pages.rendering import Templates

TAGS = "a|b|br|button|caption|circle|dd|details|div|dl|dt|figcaption|figure|footer|h[1-6]|head|header|html|i|img"
TAGS += "|input|label|li|line|link|main|meta|nav|ol|option|output|p|path|rect|script|section|select|small|span|style"
TAGS += "|summary|svg|table|tbody|td|text|th|thead|tr|ul"
MARKUP = re.compile(rf"(?<!\?P)</?({TAGS})(\s[^<>]*)?/?>|<({TAGS})\s[\w-]+=", re.IGNORECASE)
SOURCES = [path for path in files_of_package(ROOT).values() if path.suffix == ".py"]


def test_values_are_escaped_and_markup_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<b title="{{ text }}">{{ text }}{{ drawn }}</b>')
    rendered = Templates(tmp_path).render("a.html", text="\"<i>'&", drawn=Markup("<u>u</u>"))
    assert rendered == '<b title="&#34;&lt;i&gt;&#39;&amp;">&#34;&lt;i&gt;&#39;&amp;<u>u</u></b>'
    assert Markup.escape(rendered) == rendered, "another template would escape it again"


def test_a_name_that_nobody_gave_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("{% if flags %}flagged{% endif %}")
    with pytest.raises(UndefinedError, match="flags"):
        Templates(tmp_path).render("a.html")


def test_a_room_has_its_own_templates_before_those_of_all_rooms(tmp_path: Path) -> None:
    assert Templates(tmp_path).render("note.html", item={"text": "shared"}) == '<p class="note">shared</p>'
    (tmp_path / "note.html").write_text("own")
    assert Templates(tmp_path).render("note.html") == "own"


def texts(source: str) -> Iterator[str]:
    """All strings of a module, docstrings left out."""
    tree = ast.parse(source)
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    owners = (node for node in ast.walk(tree) if isinstance(node, documented))
    docstrings = {id(node.body[0].value) for node in owners if node.body and isinstance(node.body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_no_module_holds_markup() -> None:
    held = {path: [text for text in texts(path.read_text()) if MARKUP.search(text)] for path in SOURCES}
    assert {str(path): markup for path, markup in held.items() if markup} == {}
    assert ROOT / "viewer" / "first_screen.py" in held


def test_markup_would_be_noticed() -> None:
    for source in ('x = "<p>"', "x = f'<td{y}>' + '</td>'", 'x = "a <b>c"', """x = '<svg width="3">'"""):
        assert any(MARKUP.search(text) for text in texts(source))
    innocent = """'A <p>.'\nx = "figures/<name>.png, 1 < 2 > 0, (?P<line>)" """
    assert not any(MARKUP.search(text) for text in texts(innocent))


def test_templates_styles_and_scripts_are_shipped() -> None:
    shipped = {path for path in files_of_package(ROOT).values() if path.suffix in (".html", ".css", ".js", ".csv")}
    shipped = {path for path in shipped if not path.is_relative_to(ROOT / "browser")}  # where it was built
    rooms = {path.parent for path in ROOT.glob("*/__init__.py")} - {ROOT / "tests", ROOT / "benchmarks"}
    assets = {path for room in rooms for kind in ("html", "css", "js", "csv") for path in room.rglob(f"*.{kind}")}
    assert assets == shipped
    assert ROOT / "pages" / "templates" / "page.html" in shipped
