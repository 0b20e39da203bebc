import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cohort.table import read_cohort
from datamodules.infection_data import InfectionData
from datamodules.slices import SliceDataset, SliceTable


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Two scans of 3 and 1 slices, 4 x 4; voxel values name scan and slice; the second has no masks."""
    rows = []
    for name, slices, masks in (("a", 3, 1), ("b", 1, 0)):
        folder = tmp_path / name
        folder.mkdir()
        base = 100 if name == "a" else 200
        hu = (base + np.arange(slices, dtype=np.int16))[:, None, None] * np.ones((1, 4, 4), dtype=np.int16)
        np.save(folder / "hu.npy", hu)
        np.save(folder / "lung.npy", np.ones((slices, 4, 4), dtype=np.int8))
        if masks:
            np.save(folder / "infection.npy", np.full((slices, 4, 4), 1, dtype=np.int8))
            np.save(
                folder / "patterns.npy",
                np.array([5, -1, 10], dtype=np.int8)[:, None, None] * np.ones((1, 4, 4), np.int8),
            )
        (folder / "scan.json").write_text(json.dumps({"lung_pixels": [16] * slices}))
        rows.append(
            {
                "scan_id": name, "patient_id": name, "site": "S", "split": "train", "weak_label": 1 if masks else -1,
                "slices": slices, "spacing_z_mm": 5.0, "spacing_y_mm": 2.0 if masks else None, "spacing_x_mm": 2.0,
                "folder": name, "has_infection_mask": masks, "has_pattern_mask": masks,
            }
        )  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "index.csv", index=False)
    return tmp_path


def test_table_rows_and_volumes(prepared: Path) -> None:
    table = SliceTable.read(prepared, "train")
    assert table.scan.tolist() == [0, 0, 0, 1]
    assert table.z.tolist() == [0, 1, 2, 0]
    assert table.weak_label.tolist() == [1, 1, 1, -1]
    np.testing.assert_allclose(table.voxel_ml, [0.02, 0.02, 0.02, np.nan])
    assert list(table.described.columns) == ["scan_id", "site", "voxel_ml", "weak_label"]


def test_stacks_repeat_the_ends_and_unlabelled_is_minus_one(prepared: Path) -> None:
    dataset = SliceDataset(SliceTable.read(prepared, "train"), context=5)
    batch = dataset.__getitems__([0, 2, 3])
    assert batch["image"][:, :, 0, 0].tolist() == [
        [100, 100, 100, 101, 102], [100, 101, 102, 102, 102], [200] * 5
    ]  # fmt: skip
    assert batch["image"].dtype.itemsize == 2
    assert batch["target"][:, :, 0, 0].tolist() == [[1, 0], [1, 1], [-1, -1]]
    assert dataset[1]["target"][0, :, 0, 0].tolist() == [1, -1]
    assert batch["slice_index"].tolist() == [0, 2, 3]


def test_even_context_and_empty_split_are_refused(prepared: Path) -> None:
    table = SliceTable.read(prepared, "train")
    with pytest.raises(ValueError, match="context is 4, expected an odd number"):
        SliceDataset(table, 4)
    with pytest.raises(ValueError, match=r"no scan in split 'val' \(found \['train'\]\)"):
        SliceTable.read(prepared, "val")


def test_workers_and_process_read_the_same(cohort: Path, work: Path) -> None:
    batches = []
    for workers in (0, 2):
        data = InfectionData(str(cohort), str(work / "prepared"), size=32, context=3, batch_size=8, num_workers=workers)
        data.prepare_data()
        batches.append(list(data.train_dataloader()))
    assert len(batches[0]) == len(batches[1]) > 2
    for here, by_workers in zip(*batches, strict=True):
        assert here.keys() == by_workers.keys()
        assert all((here[key] == by_workers[key]).all() for key in here)


def test_too_few_slices_for_a_batch_is_refused(cohort: Path, work: Path) -> None:
    data = InfectionData(str(cohort), str(work / "prepared"), size=32, batch_size=1000)
    data.prepare_data()
    with pytest.raises(ValueError, match="fewer than one batch of 1000"):
        data.train_dataloader()


def test_volumes_in_ml_are_those_of_the_phantoms_truth(cohort: Path, work: Path) -> None:
    data = InfectionData(str(cohort), str(work / "prepared"), size=32)
    data.prepare_data()
    table = data.slice_table("test")
    lung_ml = pd.Series(table.lung_pixels * table.voxel_ml).groupby(table.per_slice("scan_id")).sum()
    for row in read_cohort(cohort).rows:
        if row.scan_id in lung_ml.index and row.lung_mask is not None:
            truth = np.load(cohort.parent / "truth" / f"{row.scan_id}.npz")
            true_ml = (truth["lungs"] > 0).sum() * truth["spacing_mm"].prod() / 1000
            assert lung_ml[row.scan_id] == pytest.approx(true_ml, rel=0.01)
            assert 1500 < true_ml < 9000
    assert len(lung_ml) == 2
