"""The cohort of most tests of preparation."""

from pathlib import Path

import pytest
from prepare_harness import write_scans

from cohort.prepare import sources


@pytest.fixture
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """cohort.csv of three small scans."""
    monkeypatch.setattr(sources, "SETTLED_NS", 0)  # or nothing that was just written would count as unchanged
    return write_scans(tmp_path)
