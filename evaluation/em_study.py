"""Study of EM from any label on the mixed phantom: what each kind of label, prior and step is worth, by seeds.

    python -m evaluation.em_study --out runs/em_study --seeds 0 1 2 [--variants any_label hard] [--jobs 2]

Each variant is experiments/any_label.yaml with a few other options. What is finished is not trained again. The table
is em_study.csv and em_study.md in the folder, the course of the learned prior priors.png.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from ct.classes import L3
from evaluation.report.drawing import LINE_COLOURS, save
from evaluation.statistics import clustered_bootstrap
from evaluation.tables import markdown
from machine.command_line import run_command
from machine.latest import through_latest
from machine.package import PROJECT, program
from machine.whole_file import write_text

EXPERIMENT, RELABEL = "any_label", "callbacks.relabel.Relabel"
LEARNED, ADAPT = "losses.fitted_priors.Learned", "losses.fitted_priors.Adapt"
PHI1, PHI2 = "losses.em.Phi1", "losses.em.Phi2"
GROUPS = tuple(L3.leaves[index].key for index in L3.opacities)
FIGURES = {
    "opacity": "opacity/iou_pooled",
    **{key: f"{key}/iou_pooled" for key in GROUPS},
    "RV of consolidation": "group_4/relative_volume",
    "fuzzy ECE": "fuzzy/ece",
}


def weighed(class_path: str, **arguments: float) -> list[dict[str, Any]]:
    """Return the priors of experiments/any_label.yaml with another one for consolidation."""
    priors = [{"class_path": class_path, "init_args": arguments}, {"class_path": ADAPT, "init_args": {"share": 0.3}}]
    findings = zip(("consolidation", "group_2"), priors, strict=True)
    return [{"finding": finding, "within": "infection", "prior": prior} for finding, prior in findings]


@dataclass(frozen=True)
class Variant:
    """A way to train on the mixed phantom.

    Attributes:
        name: What it is called in the table.
        table: Name of the table of the cohort, without suffix.
        model: Options of the model that differ.
        data: Options of the data that differ.
        relabel: Options of the callback that differ.
    """

    name: str
    table: str = "cohort"
    model: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    relabel: Mapping[str, Any] = field(default_factory=dict)


NO_PRIOR: dict[str, Any] = {"priors": []}
VARIANTS = {
    # What labels are worth.
    "any_label": Variant("all sites, each with its labels"),
    "only_A": Variant("site A alone (infection masks, reports)", "only_A"),
    "only_B": Variant("site B alone (groups)", "only_B", NO_PRIOR, {"balanced": ""}),
    "masks": Variant("all sites, masks without bits", "cohort", NO_PRIOR, {"bits": [], "balanced": ""}),
    "background": Variant("unlabelled read as background", "background", NO_PRIOR),
    "everything": Variant("everything labelled (ceiling)", "everything", NO_PRIOR),
    "panel": Variant("four readers at site B", "panel"),
    # The E-step.
    "hard": Variant("hard E-step", model={"e_step": "hard"}),
    "iteration": Variant("E-step per iteration", relabel={"every": "iteration"}),
    "dice": Variant("hard E-step, Dice (equation 11)", model={"e_step": "hard", "loss": "dice"}),
    # Priors.
    "phi1": Variant("phi1", model={"priors": weighed(PHI1)}),
    "phi2": Variant("phi2, b2 = 9, k2 = 0.5", model={"priors": weighed(PHI2)}),
    "phi2_low": Variant("phi2, b2 = 6, k2 = 1", model={"priors": weighed(PHI2, b2=6.0, k2=1.0)}),
    "phi2_middle": Variant("phi2, b2 = 7.5, k2 = 1", model={"priors": weighed(PHI2, b2=7.5, k2=1.0)}),
    "adapt": Variant("EM-Adapt, 20 %", model={"priors": weighed(ADAPT, share=0.2)}),
    "consolidation_alone": Variant("learned prior of consolidation alone", model={"priors": weighed(LEARNED)[:1]}),
    "start_low": Variant("learned, from b2 = 5", model={"priors": weighed(LEARNED, b2=5.0, k2=1.0)}),
    "start_high": Variant("learned, from b2 = 10", model={"priors": weighed(LEARNED, b2=10.0, k2=0.5)}),
    # Grey values of site C 150 HU too high.
    "shifted": Variant("shifted, learned", "shifted"),
    "shifted_phi2": Variant("shifted, phi2, b2 = 9, k2 = 0.5", "shifted", {"priors": weighed(PHI2)}),
}


def run_of(out: Path, variant: str, seed: int) -> Path:
    """Return where the finished run of a variant and seed is, or would be."""
    return through_latest(out / variant / f"seed{seed}" / EXPERIMENT / "latest")


def options_of(variant: Variant, cohorts: Path) -> dict[str, Any]:
    """Return what a variant changes, as an experiment file that is read after the others."""
    data = {"cohort": str(cohorts / f"{variant.table}.csv"), **variant.data}
    options: dict[str, Any] = {"experiment": EXPERIMENT, "data": {"init_args": data}}
    if variant.model:
        options["model"] = {"init_args": dict(variant.model)}
    if variant.relabel:  # a list is replaced whole
        files = (PROJECT / "experiments" / f"{name}.yaml" for name in ("base", EXPERIMENT))
        trainers = [yaml.safe_load(file.read_text(encoding="utf-8"))["trainer"] for file in files]
        callbacks = [*trainers[0]["callbacks"], *trainers[1]["callbacks+"]]
        for callback in callbacks:
            if callback["class_path"] == RELABEL:
                callback["init_args"] |= variant.relabel
        options["trainer"] = {"callbacks": callbacks}
    return options


def train(out: Path, cohorts: Path, name: str, seed: int, more: Sequence[str]) -> int:
    """Train a variant, unless it is finished; return the exit code."""
    variant = VARIANTS[name]
    folder = out / name / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "variant.yaml").write_text(yaml.safe_dump(options_of(variant, cohorts)), encoding="utf-8")
    files = ("experiments/base.yaml", f"experiments/{EXPERIMENT}.yaml", folder / "variant.yaml")
    command = [sys.executable, *program("launch"), "fit", *(part for file in files for part in ("--config", str(file)))]
    command += [f"--runs={folder}", "--unless_finished=true", f"--seed_everything={seed}"]
    with (folder / "log").open("a", encoding="utf-8") as log:
        return subprocess.run([*command, *more], cwd=PROJECT, stdout=log, stderr=log, check=False).returncode


def records(out: Path, variants: Sequence[str], seeds: Sequence[int]) -> pd.DataFrame:
    """Return the figures of every finished run: columns variant, seed, those of `FIGURES`, mean of groups and interval.

    The mean is over the pooled IOU of the opacity groups; its 95 % interval is bootstrapped over patients of the test
    site, who are drawn whole.
    """
    rows = []
    for variant in variants:
        for seed in seeds:
            run = run_of(out, variant, seed)
            if not (run / "metrics.json").is_file():
                continue
            metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
            row: dict[str, Any] = {"variant": variant, "seed": seed}
            row |= {name: metrics.get(key) for name, key in FIGURES.items()}
            row["mean of groups"] = float(np.mean([row[key] or 0.0 for key in GROUPS]))
            interval = clustered_bootstrap(*_tables_by_patient(run), _mean_iou)
            rows.append(row | {"low": interval.low, "high": interval.high})
    return pd.DataFrame(rows)


def _tables_by_patient(run: Path) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return tp, fp and fn of each group (scans, 3 groups, 3) and the scans' patients, one each in a phantom."""
    scans = pd.read_csv(run / "scans.csv")
    counts = np.stack([scans[[f"{key}_{part}" for part in ("tp", "fp", "fn")]].to_numpy(float) for key in GROUPS], 1)
    return counts, scans["scan_id"].to_numpy()


def _mean_iou(tables: NDArray[np.generic]) -> float:
    """Return the mean over groups of the pooled IOU, from counts (scans, groups, 3); for `clustered_bootstrap`."""
    total = np.asarray(tables, float).sum(0)
    return float(np.mean(total[:, 0] / total.sum(1).clip(min=1)))


def table_of(figures: pd.DataFrame) -> str:
    """Return the table as Markdown: mean over seeds, and the mean of groups of each seed with its interval."""
    columns = [*FIGURES, "mean of groups"]
    rows = []
    for variant, part in figures.groupby("variant", sort=False):
        means = [f"{part[column].astype(float).mean():.3f}" for column in columns]
        seeds = "; ".join(f"{row['mean of groups']:.3f} ({row.low:.3f}..{row.high:.3f})" for _, row in part.iterrows())
        rows.append([VARIANTS[str(variant)].name, *means, seeds])
    return markdown(["", *columns, "each seed (95 % by patient)"], rows)


def draw_priors(out: Path, variants: Sequence[str], seeds: Sequence[int], path: Path) -> bool:
    """Draw the course of the learned prior's centre and steepness; return whether there was any."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    drawn = 0
    for variant in variants:
        for seed in seeds:
            course = run_of(out, variant, seed) / "metrics.csv"
            table = pd.read_csv(course) if course.is_file() else pd.DataFrame()
            if "e_step/consolidation/b2" not in table:
                continue
            table = table.dropna(subset=["e_step/consolidation/b2"])
            style = {"color": LINE_COLOURS[list(variants).index(variant) % len(LINE_COLOURS)], "alpha": 0.8}
            label = VARIANTS[variant].name if seed == seeds[0] else None
            axes[0].plot(table["epoch"], 110 * table["e_step/consolidation/b2"] - 1024, label=label, **style)
            axes[1].plot(table["epoch"], table["e_step/consolidation/k2"], **style)
            drawn += 1
    if not drawn:
        plt.close(figure)
        return False
    for axis, text in zip(axes, ("centre b2, HU", "steepness k2, per 110 HU"), strict=True):
        axis.set_xlabel("epoch")
        axis.set_ylabel(text)
    axes[1].set_yscale("log")
    axes[0].legend(frameon=False)
    save(figure, path)
    return True


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.em_study", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/em_study"), help="folder of the runs and the table")
    parser.add_argument("--cohorts", type=Path, default=Path("cohorts/mixed"), help="folder of the mixed phantom")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time")
    parser.add_argument("more", nargs="*", help="options of every training, after --")
    options = parser.parse_args(args)
    out, cohorts = options.out.resolve(), options.cohorts.resolve()
    if not (cohorts / "cohort.csv").is_file():
        print(
            f"error: {cohorts} holds no mixed phantom; make it: python -m phantom.mixed --out {cohorts}",
            file=sys.stderr,
        )
        return 2
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // options.jobs)))
    todo = [(variant, seed) for seed in options.seeds for variant in options.variants]
    with ThreadPoolExecutor(options.jobs) as pool:
        trained = [pool.submit(train, out, cohorts, variant, seed, options.more) for variant, seed in todo]
        for (variant, seed), future in tqdm(list(zip(todo, trained, strict=True)), "trainings", disable=None):
            if future.result():
                print(
                    f"warning: {variant}, seed {seed} failed; see {out / variant / f'seed{seed}' / 'log'}",
                    file=sys.stderr,
                )
    figures = records(out, options.variants, options.seeds)
    if figures.empty:
        print(f"error: {out}: no training finished", file=sys.stderr)
        return 1
    figures.to_csv(out / "em_study.csv", index=False)
    text = table_of(figures)
    write_text(text, out / "em_study.md")
    print(text)
    if draw_priors(out, options.variants, options.seeds, out / "priors.png"):
        print(f"the course of the learned prior: {out / 'priors.png'}")
    return 0 if len(figures) == len(todo) else 1


if __name__ == "__main__":
    run_command(main)
