"""Paths with blanks in every target of the Makefile: in the commands that it would run, and in some that it runs."""

import itertools
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from places import ROOT

# Every target that takes a path, with the variables that hold one.
TARGETS = {
    "prepare": "COHORT",
    "train EXP=unet_em": "COHORT RUNS",
    "train EXP=opacity_unet": "COHORT RUNS",
    "evaluate EXP=unet_em": "RUNS",
    "evaluate EXP=unet_em FLIPS=1": "RUNS",
    "ensemble EXP=unet_em SEEDS=2": "COHORT RUNS",
    "cross-validate EXP=unet_em FOLDS=1 ENSEMBLE=1": "COHORT RUNS",
    "evaluate EXP=smoke": "RUN",
    "split": "COHORT OUT",
    "composition": "COHORT",
    "predict": "CKPT SCAN OUT",
    "calibrate": "CKPT COHORT",
    "view": "RUNS",
    "study SEEDS=0 STUDY=unet_em": "RUNS COHORT",
    "opacity-study SEEDS=0": "RUNS",
    "sweep-offline SWEEP=unet_em_prior": "COHORT RUNS",
    "cross-validate EXP=unet_em FOLDS=1": "COHORT RUNS",
    "stats": "COHORT",
    "noise-model": "COHORT OUT",
    "readers EXP=unet_em": "COHORT RUNS",
    "report EXP=unet_em": "RUNS",
    "report": "RUN",
    "report SWEEP=unet_em_prior": "RUNS",
    "report EXP=": "OUT COHORT",
    "compare": "A B RUNS",
    "import FROM=medseg": "FOLDER OUT",
    "bench": "CKPT",
}


def make(*arguments: str) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", "--old-file=.venv/.installed", *arguments],  # nothing is installed
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_a_path_stays_one_word_of_the_shell(target: str) -> None:
    values = {name: f"my {name}'s own/{name}.x" for name in TARGETS[target].split()}
    planned = make("-n", *target.split(), *(f"{name}={value}" for name, value in values.items()))
    lines = planned.replace("\\\n", " ").splitlines()  # as the shell gets them
    words = [word for line in lines if "my " in line for word in shlex.split(line)]
    for name, value in values.items():
        with_it = [word for word in words if f"my {name}" in word or f"own/{name}.x" in word]
        assert with_it, f"{name} is not used"
        assert all(value in word for word in with_it), with_it


def test_every_variable_that_holds_a_path_is_tried() -> None:
    text = (ROOT / "Makefile").read_text()
    used = set(re.findall(r"\$\((COHORT|RUNS|RUN|CKPT|SCAN|OUT|A|B|FOLDER)\)", text))
    assert used == {name for names in TARGETS.values() for name in names.split()}


def test_recipes_are_commands_and_no_programs_of_the_shell() -> None:
    recipes = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("\t")]
    assert len(recipes) > 30
    words = re.compile(r"\\$|\|\||;\s|\b(sed|grep|while|do|done|test|then|mktemp)\b(?!\.)|\$\$\(")
    plain = [re.sub(r"'import sys; .*'|pytest|train.py test", "", line) for line in recipes if "awk" not in line]
    assert not [line for line in plain if words.search(line)]


def test_options_with_blanks_reach_the_trainings_of_a_study() -> None:
    planned = make("-n", "study", "SEEDS=0", "STUDY=unet_em", "ARGS=--data.prepared='my arrays' --trainer.max_epochs=1")
    assert {"--data.prepared=my arrays", "--seed_everything=0", "--unless_finished=true"} <= set(shlex.split(planned))


@pytest.mark.parametrize(
    ("seeds", "expected"), [("SEEDS=3", "012"), ("SEEDS=1", "0"), ("SEEDS=4 7", "47"), ("ARGS=", "012")]
)
def test_an_ensemble_has_so_many_seeds_or_those_that_are_listed(seeds: str, expected: str) -> None:
    planned = shlex.split(make("-n", "ensemble", "EXP=smoke", seeds, "RUNS=my runs"))
    trained = [word.removeprefix("--seed_everything=") for word in planned if word.startswith("--seed_everything=")]
    assert "".join(trained) == expected
    members = [word.removeprefix("--members+=") for word in planned if word.startswith("--members+=")]
    assert members == [f"my runs/ensemble/seed{seed}/smoke/latest/best.ckpt" for seed in expected]


def test_the_folds_of_an_ensemble_have_runs_of_their_own() -> None:
    planned = shlex.split(make("-n", "cross-validate", "EXP=smoke", "FOLDS=2", "ENSEMBLE=1", "RUNS=my runs"))
    assert [word for word in planned if word.startswith("RUNS=")] == [f"RUNS=my runs/folds/fold-{n}" for n in (1, 2)]


def test_every_fold_has_a_cohort_and_runs_of_its_own() -> None:
    planned = shlex.split(make("-n", "cross-validate", "EXP=smoke", "FOLDS=2", "RUNS=my runs", "COHORT=my cohort.csv"))
    cohorts = [f"--data.cohort=my runs/folds/cohorts/fold-{fold}/cohort.csv" for fold in (1, 2)]
    assert [word for word in planned if word.startswith("--data.cohort=")] == ["--data.cohort=my cohort.csv", *cohorts]
    assert [after for word, after in itertools.pairwise(planned) if word == "--runs"] == [
        "my runs/folds/fold-1",
        "my runs/folds/fold-2",
    ]


@pytest.mark.slow
def test_tiny_targets_run_with_blanks(cohort: Path, tmp_path: Path) -> None:
    home = tmp_path / "my own data"
    shutil.copytree(cohort.parent, home)
    runs, table = f"RUNS={tmp_path / 'my runs'}", f"COHORT={home / 'cohort.csv'}"
    quick = "--trainer.max_epochs=1 --trainer.enable_progress_bar=false"
    quick += f" --data.prepared={shlex.quote(str(tmp_path / 'my arrays'))}"
    assert "patients" in make("composition", table)
    make("split", table, f"OUT={tmp_path / 'my folds'}", "ARGS=--folds 2")
    assert (tmp_path / "my folds" / "fold-1" / "cohort.csv").is_file()
    make("train", "EXP=smoke", table, runs, f"ARGS={quick}")  # and its stage 1
    (run,) = (path.parent for path in (tmp_path / "my runs" / "smoke").glob("2*/best.ckpt"))
    assert (tmp_path / "my runs" / "smoke_infection" / "latest" / "metrics.json").is_file()
    make("evaluate", "EXP=smoke", f"RUN={run}", f"ARGS=--data.prepared={shlex.quote(str(tmp_path / 'my arrays'))}")
    scan = next(iter(sorted((home / "images").iterdir()))).rename(home / "images" / f"a scan{'.nii.gz'}")
    model = f"CKPT={run / 'best.ckpt'}"
    make("predict", model, f"SCAN={scan}", f"OUT={tmp_path / 'my result'}")
    assert (tmp_path / "my result" / "measurements.json").is_file()
    both = f"CKPT={shlex.quote(str(run / 'best.ckpt'))} {shlex.quote(str(run / 'last.ckpt'))}"
    make("predict", both, f"SCAN={scan}", f"OUT={tmp_path / 'my ensemble'}")
    assert '"checkpoints_sha256"' in (tmp_path / "my ensemble" / "measurements.json").read_text()
