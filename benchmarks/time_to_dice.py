"""Dice on held-out patients against CPU time, ours beside what people would use instead: curve, table, JSON line.

The claim: the best peer's best Dice in a third of its time, and a better end. Ours is an experiment with its own
trainer, logger and datamodule; the peers are BasicUNet and DynUNet of MONAI, UNet-ResNet34 of segmentation-models-
pytorch from scratch, each with its project's usual optimizer and MONAI's augmentation, in ours' precision and memory
layout, and nnU-Net v2's 2D configuration with its own fingerprint, plan, preprocessing, augmentation and trainer, as
they are on a CPU (float32). All learn from the same slices, cut to the given lungs: those without a plan of their own
in the experiment's size, nnU-Net in the slices' own. Every schedule of a learning rate ends with the budget, so half a
training is not a training of half the budget: for that, give half the budget. Time is that of the process and its
workers from the first step on; preparing, planning and evaluating do not count. Dice is on the slices' own grid,
inside the lungs, by patient, of the weights as they are: nothing is selected, averaged over flips or smoothed. Three
folds by patient.

A training that was stopped goes on from its last point when the same command is given again; with nothing left to
train the command draws the picture and prints the table. Hours: see --budget-s.

    python -m benchmarks.time_to_dice --data <folder> --budget-s 1200
"""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.dice_curves import LABELS, OURS, best_peer, curves_of, draw, table
from benchmarks.dice_recorder import Recorder, Training, read_points
from benchmarks.held_out_folds import FOLDS, Fold, write_folds
from benchmarks.nnunet_training import PACKAGES, train_nnunet
from benchmarks.timed_training import PEERS, Experiment, train_ours, train_peer
from ct.refusal import Refusal
from machine.command_line import run_command

NNUNET = "nnunet_2d"
PICTURE = "time_to_dice.png"


def train(training: Training, cohort: Path, options: argparse.Namespace) -> None:
    """Train one method on one fold until its budget is spent, unless that is done."""
    out: Path = options.out
    experiment = Experiment(options.experiment, cohort, out, options.option)
    fold = Fold(experiment.datamodule, options.every)
    packages = {OURS: ("pytorch-lightning",), NNUNET: PACKAGES} | {name: peer.packages for name, peer in PEERS.items()}
    recorder = Recorder(training, fold, out, packages[training.method])
    if recorder.done:
        return
    if training.method == OURS:
        train_ours(recorder, experiment)
    elif training.method == NNUNET:
        train_nnunet(recorder, out)
    else:
        train_peer(recorder, PEERS[training.method])


def missing(methods: list[str]) -> list[str]:
    """Return the methods that cannot be measured here, because they are not installed."""
    return [method for method in methods if method == NNUNET and find_spec("nnunetv2") is None]


def report(out: Path, absent: list[str]) -> None:
    """Draw the picture of all points, and print the table and the line."""
    points = read_points(out)
    curves = curves_of(points)
    draw(curves, out / PICTURE, f"{len(curves[0].folds)} fold(s) by patient, {points[-1]['threads']} thread(s)")
    print(table(curves))
    ours = [curve for curve in curves if curve.method == OURS]
    peer = best_peer(curves)
    times = [reached for curve in ours if peer and (reached := curve.first_reaches(peer[1])) is not None]
    figures = {
        "name": "time_to_dice",
        "ours": min(times, default=None),
        "other": peer[2] if peer else None,
        "ratio": min(times) / peer[2] if peer and times else None,
        "unit": "CPU s",
        "n": len(curves[0].folds),
        "best_peer": peer[0].label if peer else None,
        "best_peer_dice": peer[1] if peer else None,
        "ours_last_dice": {curve.label: float(curve.mean_dice[-1]) for curve in ours},
        "missing": absent,
        **{key: points[-1][key] for key in ("cpu", "threads", "versions", "precision")},
    }
    print(json.dumps(figures))


def parse(args: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="folder with ct/, lungs/, covid/ and cases.csv")
    parser.add_argument("--budget-s", type=float, default=1200.0, help="CPU seconds of every training")
    parser.add_argument("--method", choices=list(LABELS), action="append", help="may be repeated; all if not given")
    parser.add_argument("--fold", type=int, choices=range(FOLDS), action="append", help="likewise")
    parser.add_argument("--out", type=Path, default=Path("runs/time_to_dice"), help="points, states, picture, prepared")
    parser.add_argument("--experiment", type=Path, default=Path("experiments/covid20_infection.yaml"), help="ours")
    parser.add_argument(
        "--option", action="append", default=[], help="of train.py for ours, as --option=--data.size=64"
    )
    parser.add_argument("--every", type=int, default=3, help="every how many-th slice of a patient is evaluated")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(args)
    for name, value in {"--budget-s": options.budget_s, "--every": options.every, "--threads": options.threads}.items():
        if not value > 0:
            raise Refusal("{name} is {value}; expected a number above 0", name=name, value=value)
    return options


def main(args: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    options = parse(args)
    torch.set_num_threads(options.threads)
    methods = options.method or list(LABELS)
    absent = missing(methods)
    if absent and options.method:
        raise Refusal("nnU-Net is not installed; install it by pip install -e '.[bench]', or name another --method")
    options.out.mkdir(parents=True, exist_ok=True)
    cohorts = write_folds(options.data, options.out)
    for fold in options.fold or range(FOLDS):
        for method in methods:
            if method not in absent:
                train(Training(method, fold, options.budget_s), cohorts[fold], options)
    report(options.out, absent)
    return 0


if __name__ == "__main__":
    run_command(main)
