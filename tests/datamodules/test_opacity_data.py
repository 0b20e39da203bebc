import os
from pathlib import Path

import numpy as np
import pytest

from cohort.training_statistics import training_statistics
from ct.borders import nearest_border
from ct.classes import L3
from datamodules.opacity_data import OpacityData


@pytest.fixture(scope="module")
def data(panel_cohort: Path, work: Path) -> OpacityData:
    data = OpacityData(str(panel_cohort), str(work / "prepared"), size=32, batch_size=4, prepare_jobs=1)
    data.prepare_data()
    return data


def test_batches_hold_groups_borders_and_votes(data: OpacityData) -> None:
    table = data.slice_table("test")
    rows = np.flatnonzero(table.z == 3)
    (batch,) = data.batches("test", rows, 4)
    assert batch["target"].shape == (len(rows), 1, 32, 32)
    assert batch["border"].shape == (len(rows), 2, 32, 32)
    assert batch["votes"].shape == (len(rows), 5, 32, 32)
    for number, (_, scan) in enumerate(table.scans.iterrows()):
        folder = Path(scan["folder"])
        groups = L3.leaves_of(np.load(folder / "patterns.npy"))[3]
        np.testing.assert_array_equal(batch["target"][number, 0], groups)
        expected = nearest_border(groups, (scan["spacing_y_mm"], scan["spacing_x_mm"]))
        np.testing.assert_array_equal(batch["border"][number], expected)
        readers = L3.leaves_of(np.load(folder / "readers.npy"))[:, 3]
        for group in range(5):
            np.testing.assert_array_equal(batch["votes"][number, group], (readers == group).sum(0))
        assert batch["votes"][number].sum(0).unique().tolist() == [3]


@pytest.mark.slow
def test_borders_follow_their_label_map_whatever_the_clock_says(panel_cohort: Path, tmp_path: Path) -> None:
    data = OpacityData(str(panel_cohort), str(tmp_path), size=32, batch_size=4, prepare_jobs=1)
    data.prepare_data()
    source = next(data.prepared.glob("*/patterns.npy"))
    path = data.borders / f"{source.parent.name}.npy"
    before = np.load(path)
    np.save(source, np.full_like(np.load(source), 5))
    os.utime(source, (1e9, 1e9))  # a machine whose clock is far behind
    data.prepare_data()
    assert not np.array_equal(np.load(path), before)
    made = path.stat().st_ino
    data.prepare_data()
    assert path.stat().st_ino == made, "what is right is not made again"


@pytest.mark.parametrize("name", ["l3", "em"])  # they read the same codes, so they share the prepared scans
def test_each_class_set_has_borders_of_its_own(data: OpacityData, panel_cohort: Path, work: Path, name: str) -> None:
    own = OpacityData(str(panel_cohort), str(work / "prepared"), 32, 1, 4, prepare_jobs=1, classes=name)
    own.prepare_data()
    assert own.prepared == data.prepared
    for scan in own.slice_table("test").scans.to_dict("records"):
        leaves = own.classes.leaves_of(np.load(Path(scan["folder"]) / "patterns.npy"))
        spacing_mm = scan["spacing_y_mm"], scan["spacing_x_mm"]
        expected = np.stack([nearest_border(plane, spacing_mm) for plane in leaves])
        np.testing.assert_array_equal(np.load(own.borders / f"{scan['scan_id']}.npy"), expected)


def test_slices_without_a_label_are_not_read(data: OpacityData) -> None:
    table = data.slice_table("train")
    labelled = np.concatenate([(np.load(Path(f) / "patterns.npy") >= 0).sum((1, 2)) for f in table.scans["folder"]])
    np.testing.assert_array_equal(table.labelled_pixels, labelled)
    assert (labelled == 0).any()
    assert set(data.train_indices(0)) == set(np.flatnonzero(labelled > 0))


def test_statistics_are_those_of_the_labelled_training_slices(data: OpacityData) -> None:
    hu, groups = [], []
    for folder in map(Path, data.slice_table("train").scans["folder"]):
        codes = np.load(folder / "patterns.npy")
        labelled = (codes >= 0).any((1, 2))
        hu.append(np.load(folder / "hu.npy")[labelled].clip(-1000, 350).ravel())
        groups.append(L3.leaves_of(codes)[codes >= 0])
    statistics = data.statistics(-1000, 350)
    values, leaves = np.concatenate(hu).astype(np.float64), np.concatenate(groups)
    assert statistics.mean_hu == pytest.approx(values.mean(), rel=1e-12)
    assert statistics.std_hu == pytest.approx(values.std(), rel=1e-12)
    np.testing.assert_allclose(statistics.group_frequency, np.bincount(leaves, minlength=5) / len(leaves), rtol=1e-12)
    assert statistics.labelled_pixels == len(leaves)


def test_statistics_do_not_depend_on_the_number_of_processes_and_are_kept(data: OpacityData) -> None:
    results = []
    for jobs in (1, 2):
        (data.prepared / "statistics_-900_200_l3.json").unlink(missing_ok=True)
        results.append(training_statistics(data.prepared, (-900, 200), jobs))
    assert results[0] == results[1]
    cache = data.prepared / "statistics_-900_200_l3.json"
    before = cache.stat().st_mtime_ns
    assert training_statistics(data.prepared, (-900, 200)) == results[0]
    assert cache.stat().st_mtime_ns == before
    cache.write_text(cache.read_text().replace('"key": "', '"key": "old'))
    assert training_statistics(data.prepared, (-900, 200)) == results[0]
    assert "old" not in cache.read_text()


def test_a_window_that_is_none_is_refused(data: OpacityData) -> None:
    for window in [(350, -1000), (-999.5, 350)]:
        with pytest.raises(ValueError, match="two whole numbers"):
            training_statistics(data.prepared, window)


def test_a_cohort_without_pattern_masks_is_refused(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("split,has_pattern_mask,folder\ntrain,0,a\n")
    with pytest.raises(ValueError, match="no training scan has a pattern_mask"):
        training_statistics(tmp_path, (-1000, 350))
