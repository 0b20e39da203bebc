import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from run_harness import PATIENTS, SHAPE, SPACING_MM, random_arrays, write_run

from evaluation.run_data import Run, finished_runs, read_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path)


def test_a_run_holds_its_files_and_its_scans(folder: Path) -> None:
    run = read_run(folder.parent / "latest")
    assert (run.folder, run.experiment, run.task) == (folder, "unet_em", "consolidation")
    assert run.findings == ("infection", "consolidation", "threshold")
    assert run.metrics["infection/dice_mean"] is None
    assert run.has_masks
    assert dict(zip(run.scans["scan_id"], run.patients, strict=True)) == PATIENTS
    np.testing.assert_allclose(run.scans["voxel_ml"], [np.prod(SPACING_MM) / 1000] * 3 + [np.nan])
    assert len(run.scans) == 4


def test_pairs_count_what_scans_csv_counts(folder: Path) -> None:
    run = read_run(folder)
    for row in run.scans.to_dict("records"):
        for finding in run.findings:
            truth, prediction = run.pair(row["scan_id"], finding)
            assert (truth.dtype, prediction.dtype, truth.shape) == (np.dtype(np.int8), np.dtype(np.bool_), SHAPE)
            for name, true, called in (("tp", 1, True), ("fp", 0, True), ("fn", 1, False), ("tn", 0, False)):
                assert ((truth == true) & (prediction == called)).sum() == row[f"{finding}_{name}"]
    lung = random_arrays("a")["lung"] > 0
    truth, prediction = run.pair("a", "infection")
    assert (truth[~lung] == -1).all()
    assert not prediction[~lung].any()


def test_groups_are_judged_one_against_the_rest(tmp_path: Path) -> None:
    groups = np.array([-1, 0, 1, 2, 3, 4, 4], np.int8).reshape(1, 1, 7)
    predicted = np.array([4, 2, 3, 2, 4, 4, 0], np.int8).reshape(1, 1, 7)
    arrays: dict[str, Any] = {
        "z": np.array([2]),
        "lung": np.ones_like(groups),
        "truth_groups": groups,
        "groups": predicted,
    }
    arrays["lung"][0, 0, 6] = 0
    arrays["opacity"] = (predicted >= 2).astype(np.int8)
    masks = tmp_path / "masks"
    masks.mkdir()
    np.savez(masks / "s.npz", **arrays)
    np.save(tmp_path / "hu.npy", np.arange(28).reshape(4, 1, 7).astype(np.int16))
    scans = pd.DataFrame({"scan_id": ["s"], "folder": [str(tmp_path)], "opacity_tp": [0], "patient": ["p"]})
    run = Run(tmp_path, "x", {}, {}, scans)
    assert run.findings == ("opacity", "group_2", "group_3", "group_4")
    assert run.pair("s", "opacity")[0].ravel().tolist() == [-1, 0, 0, 1, 1, 1, -1]
    assert run.pair("s", "opacity")[1].ravel().tolist() == [True] * 6 + [False]
    assert run.pair("s", "group_4")[0].ravel().tolist() == [-1, 0, 0, 0, 0, 1, -1]
    assert run.pair("s", "group_4")[1].ravel().tolist() == [True, False, False, False, True, True, False]
    assert run.arrays("s")["hu"].tolist() == [[list(range(14, 21))]]  # row z = 2 of the prepared scan


def test_masks_that_are_written_again_are_read_again(folder: Path) -> None:
    run = read_run(folder)
    before = run.arrays("a")["infection"]
    with pytest.raises(ValueError, match="read-only"):
        before[:] = 0
    changed = random_arrays("a") | {"infection": 1 - before}
    masks: dict[str, Any] = {name: array for name, array in changed.items() if name != "hu"}
    np.savez_compressed(folder / "masks" / "a.npz", **masks)
    np.testing.assert_array_equal(run.arrays("a")["infection"], 1 - before)


def test_a_run_without_masks_says_so(folder: Path) -> None:
    shutil.rmtree(folder / "masks")
    run = read_run(folder)
    assert not run.has_masks
    assert run.scans["voxel_ml"].isna().all()
    with pytest.raises(ValueError, match=r"a\.npz: not found; save the masks"):
        run.arrays("a")
    with pytest.raises(ValueError, match="does not say whose 4 of 4 scans are"):
        _ = run.patients


def test_one_missing_mask_is_no_set_of_masks(folder: Path) -> None:
    (folder / "masks" / "c.npz").unlink()
    assert not read_run(folder).has_masks


def test_what_does_not_belong_together_is_refused(folder: Path, tmp_path: Path) -> None:
    run = read_run(folder)
    with pytest.raises(ValueError, match="has no finding 'opacity'; expected one of infection, consolidation"):
        run.pair("a", "opacity")
    np.save(tmp_path / "prepared" / "b" / "hu.npy", np.zeros((5, 8, 8), np.int16))
    with pytest.raises(ValueError, match="was prepared differently since"):
        run.arrays("b")
    shutil.rmtree(tmp_path / "prepared" / "c")
    with pytest.raises(ValueError, match="test the run again to have it prepared"):
        run.arrays("c")
    masks = pd.read_csv(folder / "masks" / "scans.csv")
    masks[masks["scan_id"] != "d"].to_csv(folder / "masks" / "scans.csv", index=False)
    with pytest.raises(ValueError, match="says nothing of scan d"):
        read_run(folder).arrays("d")


@pytest.mark.parametrize("name", ["metrics.json", "scans.csv", "config.yaml"])
def test_an_unfinished_run_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"no {name}; expected the folder of a finished run"):
        read_run(folder)


def test_finished_runs_are_the_latest_of_each_experiment(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for place, files in (("b/2", 3), ("b/1", 3), ("study/seed0/a/1", 3), ("killed/1", 1), ("gone/1", 0)):
        (runs / place).mkdir(parents=True)
        for name in ("metrics.json", "scans.csv", "config.yaml")[:files]:
            (runs / place / name).write_text("")
    for place, target in (("b", "2"), ("study/seed0/a", "1"), ("killed", "1"), ("gone", "0")):
        (runs / place / "latest").symlink_to(target)
    (runs / "again").symlink_to(runs / "study")
    assert finished_runs(runs) == [runs / "b" / "2", runs / "study" / "seed0" / "a" / "1"]
    assert finished_runs(tmp_path / "nowhere") == []


def test_scan_ids_and_patients_stay_text(folder: Path) -> None:
    for path in (folder / "scans.csv", folder / "masks" / "scans.csv"):
        table = pd.read_csv(path)
        table.assign(scan_id=["001", "NA", "003", "004"]).to_csv(path, index=False)
    masks = pd.read_csv(folder / "masks" / "scans.csv", dtype=str, keep_default_na=False)
    masks["patient"] = ["01", "2e5", "02", "02"]
    masks.to_csv(folder / "masks" / "scans.csv", index=False)
    run = read_run(folder)
    assert run.scans["scan_id"].tolist() == ["001", "NA", "003", "004"]
    assert run.patients.tolist() == ["01", "2e5", "02", "02"]
