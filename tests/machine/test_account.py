"""Every command line for a user id without a passwd entry and without a home, as in a container."""

import os
import pwd
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from places import ROOT

from machine.account import complete_account

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")
# Run by Python itself when it starts: no user id has an entry.
NAMELESS = """
import pwd
def getpwuid(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = getpwuid
"""
ROOMS = ("cohort", "evaluation", "inference", "phantom", "viewer")


def ends_as_commands_do(path: Path) -> bool:
    """Tell whether a module is a command line, and not the one behind its package's."""
    package = path.with_name("__main__.py")
    behind = package.is_file() and f".{path.stem} import main" in package.read_text()
    return "run_command(main)" in path.read_text() and not behind


MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for room in ROOMS
    for path in (ROOT / room).rglob("*.py")
    if ends_as_commands_do(path)
)
COMMANDS = [["train.py"], ["sweep.py"], ["-m", "viewer"], *(["-m", module] for module in MODULES)]


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def getpwuid(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setattr(os, "access", lambda place, mode: place not in ("", "/"))


def test_a_user_without_an_entry_gets_a_name_and_a_home_of_his_own(nameless: None, tmp_path: Path) -> None:
    complete_account()
    assert os.environ["LOGNAME"] == f"uid{os.getuid()}"
    home = Path(os.environ["HOME"])
    assert home == tmp_path / f"ground-glass-{os.getuid()}"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    os.environ["HOME"] = ""
    complete_account()
    assert Path(os.environ["HOME"]) == home, "the next process has the same"


def test_what_the_user_says_himself_stays(nameless: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("USER", "ada")
    monkeypatch.setenv("HOME", str(tmp_path))
    complete_account()
    assert "LOGNAME" not in os.environ
    assert os.environ["HOME"] == str(tmp_path)


def test_a_home_that_somebody_else_prepared_is_not_used(nameless: None, tmp_path: Path) -> None:
    place = tmp_path / f"ground-glass-{os.getuid()}"
    place.mkdir()
    place.chmod(0o777)
    complete_account()
    assert Path(os.environ["HOME"]).parent == tmp_path
    assert Path(os.environ["HOME"]) != place


def test_where_no_system_has_passwd_nothing_is_completed(nameless: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pwd", None)
    monkeypatch.delattr(os, "getuid")
    complete_account()
    assert "LOGNAME" not in os.environ
    assert os.environ["HOME"] == "/"


def test_a_user_with_an_entry_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name="ada", pw_dir="/home/ada"))
    complete_account()
    assert "HOME" not in os.environ
    assert "LOGNAME" not in os.environ


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[-1])
def test_every_command_line_starts(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NAMELESS)
    environment = {key: value for key, value in os.environ.items() if key not in (*NAMES, "HOME")}
    environment |= {"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}", "TMPDIR": str(tmp_path)}
    call = [sys.executable, *(str(ROOT / part) if part.endswith(".py") else part for part in command), "--help"]
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "usage" in done.stdout.lower()
    assert not (tmp_path / "~").exists(), "a home that was not found is no folder's name"
