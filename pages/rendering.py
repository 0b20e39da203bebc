"""Environment of the templates: every value is escaped, and a missing value is an error, not a blank."""

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
    """The templates of a package, which take precedence over the shared ones.

    Args:
        folder: Their folder.
    """

    def __init__(self, folder: Path) -> None:
        self._environment = ENVIRONMENT.overlay(loader=ChoiceLoader([FileSystemLoader(folder), SHARED]))

    def render(self, name: str, **values: Any) -> Markup:
        """Fill in a template.

        Args:
            name: The template's file.
            **values: Its values; text is escaped, `Markup` is not.

        Returns:
            Markup, which other templates do not escape again.

        Raises:
            jinja2.UndefinedError: A value of the template is missing.
        """
        return Markup(self._environment.get_template(name).render(values))


TEMPLATES = Templates(FOLDER)  # the shared ones
