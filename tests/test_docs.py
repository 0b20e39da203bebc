"""Pages, comments and messages name what exists: rooms, files, modules, make targets and their variables, links."""

import ast
import importlib.util
import re
import runpy
import shlex
import shutil
import subprocess
import tokenize
from functools import cache
from pathlib import Path

import pytest
from places import ROOT
from recipes import BLOCK, steps_of, texts_after

from hatch_build import MODULES

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")}
ROOMS = PACKAGES | {"experiments", "benchmarks", "tests", "docs", "browser"}
PROGRAMS = set(MODULES)
PLACEHOLDER = "placeholder"
ADDED = texts_after([step for page in PAGES for step in steps_of(page)], ROOT)  # by the recipes, were they followed
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")) + [
    ROOT / f"{program}.py" for program in sorted(PROGRAMS)
]

IN_PYTHON = [rf"{room}[./]" for room in sorted(ROOMS - {"browser"})]
BEGINNINGS = "|".join([*IN_PYTHON, *(rf"{program}\\." for program in sorted(PROGRAMS))])
NAME = re.compile(rf"(?<![\w./\\$~-])(?:{BEGINNINGS})\w+(?:[./]\w+)*")
PLAIN_FILE = re.compile(r"\w+\.(csv|json|md|png)")  # such as cohort.csv and train.md, no modules
FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^ {4}(\S[^\n]*)$", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
MAKE = re.compile(r"(?<![\w-])make (?:-j\d+ )?(?P<target>[a-z][a-z-]*)(?P<rest>[^\n`|&#]*)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# -- the README --------------------------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_its_tree_names_every_room_and_nothing_else() -> None:
    tree = README.read_text(encoding="utf-8").partition("## The rooms")[2].partition("\n## ")[0]
    listed = re.findall(r"^ {4}(\S+)  ", tree, re.MULTILINE)
    assert sorted(listed) == sorted([*(f"{room}/" for room in ROOMS), *(f"{program}.py" for program in PROGRAMS)])


def test_the_walls_of_contributing_are_those_that_are_enforced() -> None:
    text = (
        (ROOT / "CONTRIBUTING.md")
        .read_text(encoding="utf-8")
        .partition("## Who may import whom")[2]
        .partition("## ")[0]
    )
    rows = re.findall(r"^\| `(\w+)` \| ([^;|]*)", text, re.MULTILINE)
    stated = {room: set(re.findall(r"`([\w.]+)`", allowed)) for room, allowed in rows}
    assert stated == runpy.run_path(str(ROOT / "tests" / "test_imports.py"))["ALLOWED"]


# -- make and python -m ------------------------------------------------------------------------------------------------


def code_of(page: Path) -> tuple[list[str], list[str]]:
    """Return the command blocks (indented) and the other code of a page; a placeholder such as <folder> is one word."""
    text = re.sub(r"<[^>\n]*>", PLACEHOLDER, page.read_text(encoding="utf-8")).replace("...", PLACEHOLDER)
    rest = FENCED.sub("", text)
    return INDENTED.findall(rest), FENCED.findall(text) + INLINE.findall(INDENTED.sub("", rest))


def commands(code: list[str]) -> list[tuple[str, str]]:
    """Return target and the rest of every `make ...`."""
    return [(made["target"], made["rest"].rstrip()) for text in code for made in MAKE.finditer(text)]


def variables(rest: str) -> dict[str, str]:
    """Return the variables that a command sets."""
    return {name: value for name, equals, value in (word.partition("=") for word in shlex.split(rest)) if equals}


TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"^([A-Z][A-Z0-9_]*) *[?:]?=|\$\(([A-Z][A-Z0-9_]*)\)", MAKEFILE, re.MULTILINE))
IN_BLOCKS = [command for page in PAGES for command in commands(code_of(page)[0])]
COMMANDS = IN_BLOCKS + [command for page in PAGES for command in commands(code_of(page)[1])]


def test_the_commands_of_the_pages_are_read() -> None:
    assert {"train", "test", "predict", "study", "import", "sweep", "view", "docs"} <= {
        target for target, _ in COMMANDS
    }


def test_make_knows_every_target() -> None:
    assert {target for target, _ in COMMANDS} - TARGETS == set()


def test_make_knows_every_variable() -> None:
    known = {name for names in VARIABLES for name in names if name}
    used = {name for _, rest in COMMANDS for name in variables(rest)}
    assert {"EXP", "COHORT", "CKPT", "SCAN", "SWEEP", "FROM"} <= used
    assert used - known == set()


def test_what_a_command_names_is_there() -> None:
    folders = dict.fromkeys(("EXP", "STUDY", "A", "B"), "experiments/{}.yaml")
    folders |= {"SWEEP": "experiments/sweeps/{}.yaml", "FROM": "cohort/importers/{}.py"}
    named = {
        folders[name].format(word)
        for _, rest in COMMANDS
        for name, value in variables(rest).items()
        if name in folders and PLACEHOLDER not in value
        for word in value.split()
    }
    assert {path for path in named if not ((ROOT / path).is_file() or path in ADDED)} == set()


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what make reads, with every recipe followed."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("experiments", "cohort", "benchmarks", "browser"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules", "built"))
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, copy)
    for path, text in ADDED.items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_text(text, encoding="utf-8")
    return copy


@pytest.mark.parametrize("command", sorted({f"{target}{rest}" for target, rest in IN_BLOCKS}))
def test_make_can_plan_every_command_of_a_block(command: str, extended: Path) -> None:
    done = subprocess.run(["make", "-n", *shlex.split(command)], cwd=extended, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr


def test_every_module_that_is_run_exists() -> None:
    run = {
        (name_of(page), module)
        for page in PAGES
        for module in re.findall(r"python -m (\w[\w.]*\w)(?![.\w])", page.read_text())
    }
    run |= {("Makefile", module) for module in re.findall(r"\$\(PY\)(?: -W \w+)? -m (\w[\w.]*\w)(?![.\w])", MAKEFILE)}
    assert len(run) > 20
    assert {(page, module) for page, module in run if not runs(module)} == set()


def runs(module: str) -> bool:
    """Return whether `python -m` can run a module: one of ours by its file, another one because it is installed."""
    path = ROOT / module.replace(".", "/")
    if module.split(".")[0] not in ROOMS | PROGRAMS:
        return importlib.util.find_spec(module.split(".")[0]) is not None or module in ("mkdocs",)
    return (
        path.with_suffix(".py").is_file()
        or (path / "__main__.py").is_file()
        or f"{module.replace('.', '/')}.py" in ADDED
    )


# -- links -------------------------------------------------------------------------------------------------------------


def slugs(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    broken = []
    for link in links:
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (anchor and anchor not in slugs(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_in_the_menu_of_the_site() -> None:
    menu = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert menu == {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")}


def test_the_core_is_as_long_as_its_page_says() -> None:
    text = (ROOT / "docs" / "read_the_code.md").read_text(encoding="utf-8")
    stated = int(re.search(r"about ([\d,]+) lines", text)[1].replace(",", ""))  # type: ignore[index]
    files = re.findall(r"^\| `([\w/]+\.py)` \|", text, re.MULTILINE)
    lines = sum(len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in files)
    assert abs(lines - stated) < 0.1 * stated, lines


# -- names of modules and files ----------------------------------------------------------------------------------------


def members(node: ast.AST) -> dict[str, ast.AST]:
    """Return what a module or class defines by name, what it imports included."""
    defined: dict[str, ast.AST] = {}
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            defined[child.name] = child
        elif isinstance(child, ast.Import | ast.ImportFrom):
            defined |= {alias.asname or alias.name: child for alias in child.names}
        elif isinstance(child, ast.Assign | ast.AnnAssign):
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            defined |= {name.id: child for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return defined


@cache
def module(path: str) -> ast.Module | None:
    """Return a module of the project by its path without suffix, as it is once the recipes are followed."""
    for name in (f"{path}.py", f"{path}/__init__.py"):
        if name in ADDED or (ROOT / name).is_file():
            return ast.parse(ADDED.get(name) or (ROOT / name).read_text(encoding="utf-8"))
    return None


def exists(name: str) -> bool:
    """Return whether a slashed or dotted name is a file, folder, module or an attribute of one."""
    if (
        PLAIN_FILE.fullmatch(name)
        or name in ADDED
        or (ROOT / name).exists()
        or (ROOT / name.replace(".", "/")).is_dir()
    ):
        return True
    if re.fullmatch(r"experiments/[A-Z]\.yaml", name):
        return True  # any experiment
    if name.startswith("ground_glass.") and exists(name.removeprefix("ground_glass.")):
        return True  # as the wheel has it
    parts = re.split(r"[./]", name)
    for length in range(len(parts), 0, -1):
        node: ast.AST | None = module("/".join(parts[:length]))
        if node is not None:
            for attribute in parts[length:]:
                node = members(node).get(attribute)
                if node is None:
                    return False
            return True
    return False


def strangers(text: str) -> list[str]:
    """Return the names in a text that begin with a room and lead nowhere, and Python files that are not there."""
    files = {path.name for path in SOURCES} | {"hatch_build.py"} | {Path(path).name for path in ADDED}
    names = [match for match in NAME.findall(text) if not exists(match)]
    return names + [match for match in re.findall(r"(?<![\w.*/])\w+\.py\b", text) if match not in files]


def words_of(source: Path) -> str:
    """Return the comments of a Python file and its texts: all of them, or the docstrings of a test."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    with source.open("rb") as file:
        comments = [token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
    if source.is_relative_to(ROOT / "tests"):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef
        texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
    else:
        nodes = ast.walk(tree)
        texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return "\n".join(comments + texts)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "Makefile", ROOT / ".ci" / "run", ROOT / "mkdocs.yml"], ids=name_of)
def test_pages_name_what_exists(page: Path) -> None:
    prose = BLOCK.sub("", page.read_text(encoding="utf-8"))  # recipes are followed by tests/test_recipes.py
    assert strangers(prose) == []


def test_comments_and_messages_name_what_exists() -> None:
    found = {name_of(path): names for path in SOURCES if (names := strangers(words_of(path)))}
    assert found == {}


def test_experiments_name_what_exists() -> None:
    files = sorted((ROOT / "experiments").rglob("*.yaml"))
    assert {name_of(path): names for path in files if (names := strangers(path.read_text(encoding="utf-8")))} == {}


def test_a_name_of_the_old_house_would_be_noticed() -> None:
    assert strangers("see ct.dicom_tags, ct/noise_profile.py and losses.em.phi9") == [
        "ct.dicom_tags",
        "ct/noise_profile.py",
        "losses.em.phi9",
    ]
    assert strangers("`evaluate_all.py` reads metrics.json by cohort.table.read_cohort of cohort/table.py") == [
        "evaluate_all.py"
    ]
