"""Output formats of a segmented scan, one module each."""

from pathlib import Path

from pages.rendering import Templates

TEMPLATES = Templates(Path(__file__).with_name("templates"))
