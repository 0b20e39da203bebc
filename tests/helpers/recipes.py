"""The recipes of docs/extend.md and other pages: which file each block is for stands in the line before it."""

import re
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(
    r"^(?P<action>New file|At the end of|Change) `(?P<path>[^`]+)`:\n\n```\w+\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Step:
    """One block of a recipe.

    Attributes:
        heading: Of the section that it stands in.
        action: "New file", "At the end of" or "Change".
        path: The file, relative to the project.
        text: The file's text, what is appended, or hunks of a diff without line numbers.
    """

    heading: str
    action: str
    path: str
    text: str

    def applied(self, before: str) -> str:
        """Return the file's text after this step, given its text before it (empty for a new file)."""
        if self.action == "New file":
            assert not before, f"{self.path} exists already"
            return self.text
        if self.action == "At the end of":
            return f"{before}\n\n{self.text}"
        for hunk in re.split(r"^@@\n", self.text, flags=re.MULTILINE):
            lines = hunk.splitlines(keepends=True)
            old, new = ("".join(line[1:] for line in lines if line[0] in f" {sign}") for sign in "-+")
            assert before.count(old) == 1, f"{self.path} holds {before.count(old)} times:\n{old}"
            before = before.replace(old, new)
        return before


def steps_of(page: Path) -> list[Step]:
    """Return the steps of all recipes of a page, in order."""
    steps = []
    for section in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
        heading = section.partition("\n")[0]
        steps += [Step(heading, match["action"], match["path"], match["text"]) for match in BLOCK.finditer(section)]
    return steps


def texts_after(steps: list[Step], project: Path) -> dict[str, str]:
    """Return the text of every file that the steps touch as it is after them, by its path in the project."""
    texts: dict[str, str] = {}
    for step in steps:
        file = project / step.path
        before = texts.get(step.path, file.read_text(encoding="utf-8") if file.is_file() else "")
        texts[step.path] = step.applied(before)
    return texts
