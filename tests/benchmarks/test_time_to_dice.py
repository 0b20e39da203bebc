"""Time to Dice: folds by patient, Dice on the slices' own grid, and short trainings that are resumed."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from phantom_slices import write_slices
from places import ROOT

from benchmarks import dice_recorder
from benchmarks.dice_recorder import CHECKPOINTS, Recorder, Training, read_points
from benchmarks.held_out_folds import FOLDS, Fold, HeldOutScan, split_by_patient, write_folds
from benchmarks.nnunet_training import greys, write_dataset
from benchmarks.time_to_dice import main
from benchmarks.timed_training import PeerData
from cohort.table import CohortRow, read_cohort
from datamodules.infection_data import InfectionData
from datamodules.slices import SliceTable

EXPERIMENT = ROOT / "experiments" / "covid20_infection.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slices(tmp_path_factory.mktemp("slices"), patients=6, slices=4, size=32)


@pytest.fixture(scope="module")
def cohorts(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_folds(folder, tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def fold(cohorts: list[Path]) -> Fold:
    prepared = str(cohorts[1].parents[1] / "prepared")
    return Fold(InfectionData(str(cohorts[1]), prepared, size=16, context=1, batch_size=4, prepare_jobs=1), every=2)


def row(number: int, patient: str, split: str = "") -> CohortRow:
    return CohortRow(f"S{number}", patient, "site", Path("x"), split=split)


def test_no_patient_is_on_both_sides_and_each_is_held_out_once() -> None:
    rows = tuple(row(number, f"P{number // 2}", "train") for number in range(14))  # two scans of each of 7 patients
    held_out: Counter[str] = Counter()
    for fold in range(FOLDS):
        splits: dict[str, set[str]] = {}
        for r in split_by_patient(rows, fold):
            splits.setdefault(r.patient_id, set()).add(r.split)
        assert all(len(names) == 1 for names in splits.values())
        assert set.union(*splits.values()) == {"train", "val", "test"}
        held_out.update(patient for patient, names in splits.items() if names != {"train"})
    assert held_out == Counter({f"P{number}": 1 for number in range(7)})


def test_a_fold_of_one_patient_is_refused() -> None:
    with pytest.raises(ValueError, match=r"holds out \['P\d'\]; expected at least two patients.*at least 6"):
        [split_by_patient(tuple(row(number, f"P{number}") for number in range(5)), fold) for fold in range(FOLDS)]


def test_folds_are_written_once(folder: Path, cohorts: list[Path]) -> None:
    before = [path.stat().st_mtime_ns for path in (cohorts[0].parents[1] / "cohort").rglob("*.png")]
    assert write_folds(folder, cohorts[0].parents[1]) == cohorts
    assert [path.stat().st_mtime_ns for path in (cohorts[0].parents[1] / "cohort").rglob("*.png")] == before
    everybody = sorted(r.patient_id for path in cohorts for r in read_cohort(path).rows if r.split != "train")
    assert everybody == [f"case{number:02d}" for number in range(1, 7)]


def test_held_out_slices_are_read_on_their_own_grid(fold: Fold) -> None:
    held_out = [r.scan_id for r in read_cohort(fold.data.cohort).rows if r.split != "train"]
    index = SliceTable.read_index(fold.own.prepared).set_index("scan_id")
    assert sorted(scan.patient for scan in fold.scans) == sorted(index["patient_id"][held_out])
    assert {scan.hu.shape for scan in fold.scans} == {(2, 32, 32)}  # every other of four slices
    assert all((scan.truth <= scan.lung).all() and scan.truth.any() for scan in fold.scans)


def test_dice_of_answers_whose_dice_is_known(fold: Fold) -> None:
    assert fold.evaluate(lambda scan: scan.truth)["dice_mean"] == 1
    assert fold.evaluate(lambda scan: scan.truth | ~scan.lung)["dice_mean"] == 1  # outside the lungs nothing counts
    assert fold.evaluate(lambda scan: np.zeros_like(scan.truth))["dice_pooled"] == 0
    found = fold.evaluate(lambda scan: scan.lung)
    expected = {scan.patient: 2 * scan.truth.sum() / (scan.truth.sum() + scan.lung.sum()) for scan in fold.scans}
    assert found["dice_by_patient"] == pytest.approx(expected)
    assert found["dice_mean"] == pytest.approx(np.mean(list(expected.values())))
    truth, lung = (sum(int(getattr(scan, name).sum()) for scan in fold.scans) for name in ("truth", "lung"))
    assert found["dice_pooled"] == pytest.approx(2 * truth / (truth + lung))


def test_a_network_on_the_prepared_grid_answers_on_the_slices_own(fold: Fold) -> None:
    left, top = torch.arange(16) < 4, torch.arange(16)[:, None] < 8  # of 16 x 16 pixels, a quarter and a half
    answer = fold.on_own_grid(lambda x: (left & top).float().expand(x.shape))(fold.scans[0])
    expected = np.zeros((2, 32, 32), np.bool_)
    expected[:, :16, :8] = True
    np.testing.assert_array_equal(answer, expected)


def test_the_peers_learn_from_the_same_slices_in_the_same_order(fold: Fold) -> None:
    data = PeerData(fold)
    for epoch in (0, 1):  # of 16 slices in batches of 4
        rows = np.concatenate([data.rows(step) for step in range(4 * epoch, 4 * epoch + 4)])
        np.testing.assert_array_equal(rows, fold.data.train_indices(epoch))
    cast(Any, data).transform = lambda pair: pair
    image, target = data.batch(5)
    batch = fold.data.dataset(fold.data.slice_table("train")).__getitems__(data.rows(5).tolist())
    torch.testing.assert_close(image, (batch["image"] + 1024) / 110 * batch["lung"])
    torch.testing.assert_close(target, batch["target"][:, :1].float())


def test_the_peers_augmentation_moves_image_and_masks_together(fold: Fold) -> None:
    data = PeerData(fold)
    data.transform.set_random_state(0)
    image, target = data.batch(0)
    assert image.shape == (4, 1, 16, 16)
    assert set(target.unique().tolist()) <= {0.0, 1.0}
    plain = data.images[[data.place[int(row)] for row in data.rows(0)]]
    assert not torch.equal(image, plain)
    inside = image[target > 0]  # infection stays where it is bright
    assert inside.mean() > image[image != 0].mean()


def test_nnunet_gets_the_greys_of_the_lungs_and_the_training_patients_only(fold: Fold, tmp_path: Path) -> None:
    lung = np.array([[[True, True, True, False]]])
    assert greys(np.array([[[-1350, -1342, 700, 0]]], np.int16), lung).tolist() == [[[1, 1, 255, 0]]]
    assert greys(np.array([[[-1100, -934, 690, 0]]], np.int16), lung).tolist() == [[[31, 52, 255, 0]]]
    raw = tmp_path / "nnunet" / "raw"
    name = write_dataset(fold, 2, raw)
    assert len(list((raw / name / "imagesTr").glob("*_0000.png"))) == 16
    assert json.loads((raw / name / "dataset.json").read_text())["numTraining"] == 16
    assert write_dataset(fold, 2, raw) == name


class Judge:
    """A fold whose Dice is what it is told."""

    def __init__(self) -> None:
        self.dice = 0.1

    def evaluate(self, predict: Any) -> dict[str, Any]:
        return {"dice_mean": self.dice, "dice_pooled": self.dice, "dice_by_patient": {"P": self.dice}}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that a test sets; evaluations are outside of it."""
    from contextlib import nullcontext

    time = SimpleNamespace(seconds=0.0)

    class Clock:
        paused = staticmethod(nullcontext)

        def __init__(self, spent: float = 0.0) -> None:
            self.before = spent - time.seconds

        @property
        def seconds(self) -> float:
            return self.before + time.seconds

    monkeypatch.setattr(dice_recorder, "CpuClock", Clock)
    return time


def predict(scan: HeldOutScan) -> Any:
    raise AssertionError("the judge does not ask")


def test_a_training_is_evaluated_at_every_twentieth_of_its_budget_and_goes_on_where_it_was(
    clock: SimpleNamespace, tmp_path: Path
) -> None:
    training, judge = Training("ours", 0, 40.0), cast(Fold, Judge())
    recorder = Recorder(training, judge, tmp_path)
    assert recorder.state is None
    recorder.start()
    for seconds in (1.0, 2.5, 3.0, 9.0):  # checkpoints are due at 2, 4, 6, 8, ...; a long step passes some
        clock.seconds = seconds
        assert not recorder.step_done(predict, lambda path: path.write_text(f"{clock.seconds}"))
    assert [(p["checkpoint"], p["cpu_s"], p["steps"]) for p in read_points(tmp_path)] == [(1, 2.5, 2), (4, 9.0, 4)]
    clock.seconds = 500.0  # another process, after a step that was lost
    again = Recorder(training, judge, tmp_path)
    assert (again.reached, again.steps, again.done) == (4, 4, False)
    assert again.state is not None
    assert again.state.read_text() == "9.0"
    again.start()
    assert again.share == pytest.approx(9 / 40)
    clock.seconds += 31.5
    assert again.step_done(predict, lambda path: path.write_text("end"))
    last = read_points(tmp_path)[-1]
    assert (last["checkpoint"], last["cpu_s"], last["steps"]) == (CHECKPOINTS, 40.5, 5)
    assert Recorder(training, judge, tmp_path).done
    assert [path.read_text() for path in (tmp_path / "states").iterdir()] == ["end"]
    assert not Recorder(Training("ours", 1, 40.0), judge, tmp_path).reached


def test_a_state_without_its_point_is_not_used(clock: SimpleNamespace, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    training, judge = Training("dynunet", 0, 20.0), cast(Fold, Judge())
    recorder = Recorder(training, judge, tmp_path)

    def save(path: Path) -> None:
        path.write_text("half")
        raise KilledError

    clock.seconds = 1.5
    with pytest.raises(KilledError):
        recorder.step_done(predict, save)
    assert Recorder(training, judge, tmp_path).state is None


def test_a_torn_line_is_refused(tmp_path: Path) -> None:
    (tmp_path / dice_recorder.POINTS).write_text('{"method": "ours"}\n{"meth')
    with pytest.raises(ValueError, match=r"points.jsonl: line 2 is no JSON; remove it"):
        read_points(tmp_path)


def test_wrong_numbers_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"--budget-s is 0\.0; expected a number above 0"):
        main(["--data", str(folder), "--budget-s", "0"])


@pytest.mark.slow
def test_ours_and_a_peer_from_slices_to_table_and_picture(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--data", str(folder), "--out", str(tmp_path), "--experiment", str(EXPERIMENT), "--budget-s", "2"]
    command += ["--fold", "1", "--method", "ours", "--method", "basic_unet"]
    command += ["--option=--data.size=32", "--option=--data.batch_size=4"]
    assert main(command) == 0
    text = capsys.readouterr().out
    points = read_points(tmp_path)
    assert {(point["method"], point["fold"]) for point in points} == {("ours", 1), ("basic_unet", 1)}
    for method in ("ours", "basic_unet"):
        seconds = [point["cpu_s"] for point in points if point["method"] == method]
        assert seconds == sorted(seconds)
        assert 2 <= seconds[-1] < 4
    line = json.loads(text.splitlines()[-1])
    assert line["name"] == "time_to_dice"
    assert line["best_peer"] == "MONAI BasicUNet, 2 s"
    assert "| ours, 2 s | 1 |" in text
    assert (tmp_path / "time_to_dice.png").is_file()
    # Cut both before their end: they go on from there and do not begin anew.
    kept = [point for point in points if point["cpu_s"] < 1.2]
    for method in ("ours", "basic_unet"):
        name = Training(method, 1, 2.0).name
        reached = max(point["checkpoint"] for point in kept if point["method"] == method)
        (last,) = (tmp_path / "states").glob(f"{name}-*.ckpt")
        last.rename(last.with_name(f"{name}-{reached:02d}.ckpt"))
    (tmp_path / dice_recorder.POINTS).write_text("".join(json.dumps(point) + "\n" for point in kept))
    assert main(command) == 0
    resumed = read_points(tmp_path)
    assert resumed[: len(kept)] == kept
    for method in ("ours", "basic_unet"):
        steps = [point["steps"] for point in resumed if point["method"] == method]
        assert steps == sorted(set(steps))
        assert resumed[-1]["cpu_s"] >= 2
    # With nothing left to train, the same table once more.
    capsys.readouterr()
    assert main(command) == 0
    assert read_points(tmp_path) == resumed
