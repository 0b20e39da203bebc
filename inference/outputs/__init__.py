"""A segmented scan to files, one module a format."""

from pathlib import Path

from pages.rendering import Templates

TEMPLATES = Templates(Path(__file__).with_name("templates"))
