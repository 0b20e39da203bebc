"""Ranks that see different losses end a diverged training at the same step: real processes, none of which hangs."""

import os
from pathlib import Path

import pytest
from harness import experiment_args
from ranks import Command, run_ranks

from training.checkpoint_file import load_checkpoint_file

pytestmark = pytest.mark.slow


def test_a_loss_of_one_rank_ends_all(cohort: Path, work: Path, tmp_path: Path) -> None:
    # Two ranks, batches of four: three steps an epoch. The second rank's loss of step 4 is NaN, the first one's is not.
    run = tmp_path / "smoke_infection" / "poisoned"
    more = ["--trainer.callbacks+=poison.Poison", "--data.batch_size=4", "--trainer.log_every_n_steps=50"]
    args = ["fit", *experiment_args("smoke_infection", cohort, work, *more)]
    run_ranks(2, [Command(args, run, {"POISON": "1 4"})], first_ends_with=2)
    reason = (run / "diverged.txt").read_text()
    assert "from step 4 on (epoch 1)" in reason
    assert "a bad scan among" in reason, "the first rank was told what the second one's batch was of"
    assert load_checkpoint_file(run / "last.ckpt")["epoch"] == 0
    assert not (run / "metrics.json").exists()
    assert not os.path.lexists(run.parent / "latest")
