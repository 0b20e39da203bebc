"""Where the project lies, and the real scans beside it, which CI has and a user has not."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"
