"""The templates' environment: every value is escaped, and a name that nobody gave is an error, not a blank."""

from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).with_name("templates")
SHARED = FileSystemLoader(FOLDER)
ENVIRONMENT = Environment(
    loader=SHARED, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


class Templates:
    """The templates of a room, before those that all rooms share.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._environment = ENVIRONMENT.overlay(loader=ChoiceLoader([FileSystemLoader(folder), SHARED]))

    def render(self, name: str, **values: Any) -> Markup:
        """Fill in a template.

        Args:
            name: Its file.
            **values: What it shows; text is escaped, `Markup` stands as it is.

        Returns:
            Markup, which other templates take as it is.

        Raises:
            jinja2.UndefinedError: The template asks for what is not among the values.
        """
        return Markup(self._environment.get_template(name).render(values))


TEMPLATES = Templates(FOLDER)  # what all rooms share
