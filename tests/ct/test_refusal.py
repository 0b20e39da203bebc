"""Sentences whose public wording cannot name anybody, and a walk over the code that they are built that way."""

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from places import ROOT

from ct.refusal import Refusal, Sentence, Word, sentence_of, word_of

# What makes cohorts speaks to the terminal of its user alone, and to no file.
MAKES_COHORTS = ("import", "dataset_files", "phantom", "splits", "statistics")
# Rooms whose sentences reach failed.csv, measurements, pages and W&B.
SPEAKING = [
    path
    for room in ("ct", "inference")
    for path in sorted((ROOT / room).glob("*.py"))
    if not path.name.startswith((*MAKES_COHORTS, "refusal"))
]
ELSEWHERE = [
    path
    for room in ("callbacks", "datamodules", "lightning_modules", "viewer", ".")
    for path in sorted((ROOT / room).glob("*.py"))
]
# What builds sentences, and which of its arguments is the template.
BUILT = {"Refusal": 0, "Sentence": 0, "one_sentence": 1, "as_one_sentence": 1}
NOT_BUILT = "a sentence that was not built from parts"
FOR_USERS = {"ValueError", "OSError", "RuntimeError"}


def test_numbers_and_our_own_words_are_public_and_nothing_else_is() -> None:
    refusal = Refusal(
        "{file}: {tag} of {patient!r} is {value:.1f}, {shape} {dtype} in {places}; {why}",
        file=Path("/data/DOE JANE/1.dcm"),
        tag=Word("Rows"),
        patient="DOE^JANE",
        value=np.float32(2.25),
        shape=(1, 2),
        dtype=np.dtype(np.int16),
        places=np.array([1.5, 2.5]).tolist(),
        why=Refusal("{n} of {name:>12} left", n=3, name="JANE"),
    )
    text = "/data/DOE JANE/1.dcm: Rows of 'DOE^JANE' is 2.2, (1, 2) int16 in [1.5, 2.5]; 3 of         JANE left"
    assert str(refusal) == text
    public = "a file: Rows of [not shown] is 2.2, (1, 2) int16 in [1.5, 2.5]; 3 of [not shown] left"
    assert refusal.sentence.public == public


@pytest.mark.parametrize(
    "part",
    [
        "JANE",
        Path("JANE"),
        ["JANE"],
        ("JANE", 1),
        {"JANE": 1},
        np.array(["JANE"]),
        b"JANE",
        ValueError("JANE"),
        {"JANE"},
    ],
    ids=repr,
)
def test_whatever_may_hold_a_text_is_hidden(part: object) -> None:
    for field in ("{part}", "{part!r}", "{part!s}"):
        assert "JANE" in Sentence(field, part=part)
        assert Sentence(field, part=part).public == "[not shown]"


def test_control_characters_and_lines_of_headers_do_not_reach_the_terminal() -> None:
    sentence = Sentence("{file}: {text}", file=Path("a\x1b[31m"), text="two\nlines\x00")
    assert sentence == "a?[31m: two lines?"


def test_braces_in_values_and_templates() -> None:
    assert Sentence("{{x}} {name}", name="{y}") == "{x} {y}"
    assert Refusal.of(Sentence("{name}", name="{y}")).sentence == "{y}"


def test_both_wordings_survive_the_way_from_a_child_process() -> None:
    for sent in (
        Refusal("{file} has {n}", file="DOE{0}", n=2),
        Refusal.of(Sentence("{file} has {n}", file="DOE{0}", n=2)),
    ):
        back = pickle.loads(pickle.dumps(sent))
        assert (str(back), back.sentence.public) == ("DOE{0} has 2", "a file has 2")


def test_sentences_are_joined_in_both_wordings() -> None:
    joined = Sentence.joined(", ", [Sentence("{n} of {name}", n=1, name="DOE"), Sentence("end")])
    assert (joined, joined.public) == ("1 of DOE, end", "1 of [not shown], end")


def test_a_word_must_be_in_the_vocabulary() -> None:
    assert Sentence("{x}", x=word_of("MR", ("MR", "PT"))).public == "MR"
    assert Sentence("{x}", x=word_of("DOE", ("MR", "PT"))).public == "[not shown]"


def test_other_errors_say_what_kind_they_are_and_nothing_else(tmp_path: Path) -> None:
    try:
        (tmp_path / "DOE").read_text()
    except OSError as error:
        sentence = sentence_of(error)
    assert "DOE" in sentence
    assert sentence.public.startswith("No such file or directory in tests/ct/test_refusal.py, line ")
    assert sentence_of(KeyError("DOE")).public == "KeyError; what it says is not shown here"
    assert sentence_of(ValueError()) == "ValueError"


def nodes(path: Path) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Every node of a file with the function or module that it stands in."""

    def walk(node: ast.AST, scope: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            yield child, scope
            yield from walk(child, child if isinstance(child, ast.FunctionDef | ast.Lambda) else scope)

    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from walk(tree, tree)


def name_of(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def is_literal(node: ast.AST, scope: ast.AST) -> bool:
    """Whether an expression is a literal text, a choice among some, or a name that nothing else is assigned to."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    if isinstance(node, ast.IfExp):
        return is_literal(node.body, scope) and is_literal(node.orelse, scope)
    if not isinstance(node, ast.Name):
        return False
    assigned = [each for each in ast.walk(scope) if isinstance(each, ast.Assign)]
    values = [each.value for each in assigned if node.id in [name_of(target) for target in each.targets]]
    return bool(values) and all(is_literal(value, scope) for value in values)


def is_ours(node: ast.AST, scope: ast.AST) -> bool:
    """Whether a `Word` is made of literals and constants of a module."""
    if isinstance(node, ast.IfExp):
        return is_ours(node.body, scope) and is_ours(node.orelse, scope)
    names = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
    functions = {id(each.func) for each in ast.walk(node) if isinstance(each, ast.Call)}
    return all(each.id.isupper() or id(each) in functions or is_literal(each, scope) for each in names)


def faults(path: Path) -> list[str]:
    """What in a file could let a name into a public wording."""
    problems = []
    for node, scope in nodes(path):
        if isinstance(node, ast.Raise) and node.exc is not None:
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(raised, ast.Name) and raised.id in FOR_USERS:
                problems.append(f"{node.lineno}: raises {raised.id}, not a Refusal")
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node.func)
        handed_on = getattr(scope, "name", "") in BUILT  # whose callers have the literal
        if name in BUILT and not handed_on and not is_literal(node.args[BUILT[name]], scope):
            problems.append(f"{node.lineno}: {name} of a template that is no literal")
        if name == "Word" and not is_ours(node.args[0], scope):
            problems.append(f"{node.lineno}: Word of something that is no literal")
        if name == "in_wordings":
            problems.append(f"{node.lineno}: {NOT_BUILT}")
    return problems


@pytest.mark.parametrize("path", SPEAKING, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_sentence_is_built_from_a_literal_and_its_parts(path: Path) -> None:
    of_a_child = path.name == "decoder.py"  # which built it
    assert [fault for fault in faults(path) if not (of_a_child and NOT_BUILT in fault)] == []


@pytest.mark.parametrize("path", ELSEWHERE, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_built_elsewhere_is_built_the_same_way(path: Path) -> None:
    assert [fault for fault in faults(path) if "raises" not in fault] == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ('raise ValueError(f"{path}: no")', "raises ValueError"),
        ('raise Refusal(f"{path}: no")', "no literal"),
        ("raise Refusal(text)", "no literal"),
        ('text = "a"\ntext = header.name\nSentence(text, n=1)', "no literal"),
        ('def f(text):\n    text = "a"\n\ndef g(text):\n    Sentence(text)', "no literal"),
        ("Word(header.PatientName)", "Word of something"),
        ("Word(str(path))", "Word of something"),
        ('Sentence.in_wordings("a", path)', "not built"),
    ],
)
def test_the_walk_finds_what_could_leak(tmp_path: Path, source: str, fault: str) -> None:
    (tmp_path / "a.py").write_text(source)
    assert fault in str(faults(tmp_path / "a.py"))


@pytest.mark.parametrize(
    "source",
    [
        'raise Refusal("{path}: no", path=path)',
        "raise Refusal.of(sentence)",
        "raise error",
        'text = "{n}"\nSentence(text, n=1)',
        'Sentence("a" if n else "b")',
        'Word(", ".join(METHODS))',
        'Word("right" if a < b else "left")',
    ],
)
def test_the_walk_lets_pass_what_cannot(tmp_path: Path, source: str) -> None:
    (tmp_path / "a.py").write_text(source)
    assert faults(tmp_path / "a.py") == []
