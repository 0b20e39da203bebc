import os
import subprocess
import sys

import pytest
from places import ROOT

from machine.threads import choose_spinning


@pytest.mark.parametrize(
    ("load", "chosen"),
    [(0.1, {"GOMP_SPINCOUNT": "10000"}), (3.0, {"GOMP_SPINCOUNT": "10000"}), (3.1, {"OMP_WAIT_POLICY": "passive"})],
)
def test_threads_sleep_at_once_where_others_wait_for_the_cores(load: float, chosen: dict[str, str]) -> None:
    environment: dict[str, str] = {}
    choose_spinning(environment, load, cores=2)
    assert environment == chosen


@pytest.mark.parametrize("own", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_a_user_chose_stands(own: dict[str, str]) -> None:
    environment = dict(own)
    choose_spinning(environment, load=99.0, cores=1)
    assert environment == own


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["train", "inference.segmenter", "inference.calibrate", "viewer.segment_page"])
def test_every_program_that_runs_a_network_chooses_before_torch_is_loaded(entry: str) -> None:
    # Torch reads the choice when it is loaded: what is set afterwards would do nothing.
    program = (
        "import importlib, os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torch':\n"
        "            print('GOMP_SPINCOUNT' in os.environ or 'OMP_WAIT_POLICY' in os.environ)\n"
        "sys.meta_path.insert(0, Watch())\n"
        f"importlib.import_module('{entry}')\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[:1] == ["True"], done.stderr[-2000:]
