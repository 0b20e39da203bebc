"""How runs of stage 2 are called in reports."""

from types import SimpleNamespace
from typing import Any

import pytest

from evaluation.report.em_sections import method


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ({"prior": {"class_path": "losses.em.Phi1", "init_args": {"b1": 1.0}}}, "phi1"),
        ({"prior": {"class_path": "losses.em.Phi2"}, "supervision": "em"}, "phi2"),
        ({"prior": {"class_path": "my_priors.Phi3"}}, "Phi3"),
        ({"prior": {"class_path": "losses.em.Phi2"}, "supervision": "masks"}, "supervised"),
        ({"prior": "phi1", "b1": 1.0}, "phi1"),  # a run of before priors had class paths
    ],
)
def test_how_a_run_learned_consolidation(model: dict[str, Any], name: str) -> None:
    run: Any = SimpleNamespace(config={"model": {"init_args": model}})
    assert method(run) == name
