"""What a mixture of labels leaves possible, pixel by pixel, from cohort.csv to a batch."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_ct import ct

from ct.classes import L3
from ct.files.write import write_scan_nifti
from datamodules.any_label_data import AnyLabelData, joined
from datamodules.infection_data import InfectionData
from datamodules.opacity_data import OpacityData

SIZE = 8
FULL, OPAQUE, CLEAR = {0, 1, 2, 3, 4}, {2, 3, 4}, {0, 1}
# Columns of the image: unlabelled, background, lung, pure ground glass, crazy paving, consolidation, lung, lung.
CODES = np.array([-1, 0, 1, 5, 7, 10, 2, 1], np.int8)
INFECTED = CODES >= 5
AFFINE = np.diag([-4.0, -4.0, 4.0, 1.0])


def write_masks(folder: Path) -> None:
    """One chest for all rows: what differs is which masks the row has."""
    shape = (6, SIZE, SIZE)
    for name, values in {
        "lungs": np.ones(shape, np.uint8),
        "patterns": np.broadcast_to(CODES, shape).astype(np.uint8),
        "infection": np.broadcast_to(INFECTED, shape).astype(np.uint8),
    }.items():
        write_scan_nifti(values, AFFINE, folder / f"{name}.nii.gz", "LPS")


def make_cohort(folder: Path, *rows: dict[str, Any]) -> Path:
    """Rows of training scans, with one validation and one test scan that are labelled whole."""
    folder.mkdir()
    write_masks(folder)
    (folder / "report.txt").write_text(
        "Findings: Patchy consolidation in the left lower lobe. No ground-glass opacity.\n"
    )
    columns = dict.fromkeys(key for row in rows for key in row)
    whole = {"pattern_mask": "patterns.nii.gz"}
    full = [*({"split": "train"} | row for row in rows), {"split": "val"} | whole, {"split": "test"} | whole]
    with (folder / "cohort.csv").open("w", newline="") as file:
        fixed = ["scan_id", "patient_id", "site", "image", "lung_mask", "split", "pattern_mask"]
        writer = csv.DictWriter(file, list(dict.fromkeys([*fixed, *columns])), restval="")
        writer.writeheader()
        for number, row in enumerate(full):
            # Each scan another image, or they would count as one patient in several splits.
            image = f"image{number}.nii.gz"
            hu = np.random.default_rng(number).permutation(ct((6, SIZE, SIZE)).ravel()).reshape(6, SIZE, SIZE)
            write_scan_nifti(hu, AFFINE, folder / image, "LPS")
            names = {"scan_id": f"s{number}", "patient_id": f"p{number}", "site": "A"}
            writer.writerow(names | {"image": image, "lung_mask": "lungs.nii.gz"} | row)
    return folder / "cohort.csv"


def data_of(cohort: Path, **options: Any) -> AnyLabelData:
    data = AnyLabelData(str(cohort), str(cohort.parent / "prepared"), SIZE, batch_size=2, prepare_jobs=1, **options)
    data.prepare_data()
    return data


def columns_of(data: AnyLabelData, split: str = "train", scan: int = 0) -> tuple[list[set[int]], NDArray[np.int8], Any]:
    """Leaves that each column of a slice may have, its target, and the batch."""
    table = data.slice_table(split)
    row = int(np.flatnonzero(table.scan == scan)[2])
    batch = data.dataset(table).__getitems__([row])
    bits = batch["allowed"][0, 0, SIZE // 2].tolist()
    return (
        [{leaf for leaf in FULL if value >> leaf & 1} for value in bits],
        batch["target"][0, 0, SIZE // 2].numpy(),
        batch,
    )


def test_each_kind_of_label_leaves_its_leaves(tmp_path: Path) -> None:
    cohort = make_cohort(
        tmp_path / "c",
        {"pattern_mask": "patterns.nii.gz"},
        {"infection_mask": "infection.nii.gz"},
        {"report": "report.txt"},
        {"infection_mask": "infection.nii.gz", "has_consolidation": "0"},
        {"pattern_mask": "patterns.nii.gz", "labels": "consolidation"},
        {"pattern_mask": "patterns.nii.gz", "labels": "infection;group_3", "has_group_2": "1"},
        {"infection_mask": "infection.nii.gz", "pattern_mask": "patterns.nii.gz"},
    )
    data = data_of(cohort)
    of_scan = [columns_of(data, scan=scan) for scan in range(7)]
    leaves = [FULL, {0}, {1}, {2}, {3}, {4}, {1}, {1}]
    assert of_scan[0][0] == leaves
    assert of_scan[0][1].tolist() == [-1, 0, 1, 2, 3, 4, 1, 1]
    inside = [OPAQUE if infected else CLEAR for infected in INFECTED]
    assert of_scan[1][0] == inside
    assert (of_scan[1][1] == -1).all()
    assert of_scan[2][0] == [{0, 1, 3, 4}] * SIZE, "the report rules pure ground glass out, and states consolidation"
    assert of_scan[3][0] == [allowed - {4} for allowed in inside]
    # Consolidation alone is drawn: what is not may be any of the others.
    others = {0, 1, 2, 3}
    assert of_scan[4][0] == [FULL, others, others, others, others, {4}, others, others]
    assert of_scan[4][1].tolist() == [-1, -1, -1, -1, -1, 4, -1, -1]
    assert of_scan[5][0] == [FULL, CLEAR, CLEAR, {2, 4}, {3}, {2, 4}, CLEAR, CLEAR]
    # Where the pattern mask is silent, the infection mask counts.
    assert of_scan[6][0] == [CLEAR, *leaves[1:]]
    keys = list(L3.unions)
    bits = [of_scan[scan][2]["bits"][0].tolist() for scan in (2, 3, 5)]
    assert [bits[0][keys.index(key)] for key in ("consolidation", "group_4", "group_2", "group_3")] == [1, 1, 0, -1]
    assert [bits[1][keys.index(key)] for key in ("consolidation", "group_4", "group_2")] == [0, 0, -1]
    assert bits[2][keys.index("group_2")] == 1


def test_what_was_drawn_at_a_pixel_is_not_ruled_out_by_what_was_said_of_the_scan(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c", {"pattern_mask": "patterns.nii.gz", "has_consolidation": "0"})
    allowed, _, _ = columns_of(data_of(cohort))
    assert allowed == [FULL - {4}, {0}, {1}, {2}, {3}, {4}, {1}, {1}]


def test_training_can_be_shown_coarser_masks_and_no_bits_and_evaluation_sees_all(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c", {"pattern_mask": "patterns.nii.gz", "has_consolidation": "0"})
    data = data_of(cohort, told_apart=["infection"], bits=[])
    allowed, target, batch = columns_of(data)
    assert allowed == [FULL, CLEAR, CLEAR, OPAQUE, OPAQUE, OPAQUE, CLEAR, CLEAR]
    assert (target == -1).all()
    assert (batch["bits"] == -1).all()
    assert columns_of(data, "test")[1].tolist() == [-1, 0, 1, 2, 3, 4, 1, 1]
    frequency = data.statistics(-1000, 350).group_frequency
    assert frequency == pytest.approx([4 / 7 / 2, 4 / 7 / 2, 1 / 7, 1 / 7, 1 / 7])


@pytest.mark.parametrize(
    ("drawn", "told_apart", "expected"),
    [
        (None, None, [{0}, {1}, {2}, {3}, {4}]),
        (["consolidation"], None, [{0, 1, 2, 3}] * 4 + [{4}]),
        (None, ["infection"], [{0, 1}, {0, 1}, {2, 3, 4}, {2, 3, 4}, {2, 3, 4}]),
        # A mask of consolidation alone tells nothing of where infection ends, unless at consolidation.
        (["consolidation"], ["infection"], [FULL] * 5),
        (["infection", "consolidation"], ["consolidation"], [{0, 1, 2, 3}] * 4 + [{4}]),
    ],
)
def test_what_a_mask_tells_apart_and_what_counts_are_joined(
    drawn: list[str] | None, told_apart: list[str] | None, expected: list[set[int]]
) -> None:
    assert joined(L3, drawn, told_apart) == expected


def test_scans_of_which_nothing_is_known_are_not_read(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c", {"pattern_mask": "patterns.nii.gz"}, {}, {"has_infection": "1"})
    data = data_of(cohort)
    usable = data.usable(data.slice_table("train"), training=True)
    assert {int(scan) for scan in data.slice_table("train").scan[usable]} == {0, 2}
    data = data_of(cohort, bits=["consolidation"])
    assert set(data.slice_table("train").scan[data.usable(data.slice_table("train"), training=True)]) == {0}


def test_half_of_a_balanced_batch_is_of_scans_that_have_the_finding(tmp_path: Path) -> None:
    cohort = make_cohort(
        tmp_path / "c", {"has_consolidation": "1"}, {"infection_mask": "infection.nii.gz"}, {"has_consolidation": "0"},
    )  # fmt: skip
    data = data_of(cohort, balanced="consolidation")
    scans = data.slice_table("train").scan[data.train_indices(0)]
    assert (scans == 0).mean() == 0.5
    assert set(scans) == {0, 1, 2}


@pytest.mark.parametrize("other", [OpacityData, InfectionData])
def test_masks_of_some_classes_are_refused_where_they_would_be_read_as_whole(tmp_path: Path, other: Any) -> None:
    cohort = make_cohort(tmp_path / "c", {"pattern_mask": "patterns.nii.gz", "labels": "consolidation"})
    data = other(str(cohort), str(tmp_path / "prepared"), SIZE, context=1, batch_size=2, prepare_jobs=1)
    data.prepare_data()
    with pytest.raises(ValueError, match="1 scans of split 'train' have a pattern mask that draws some classes only"):
        data.slice_table("train")


def test_masks_of_some_classes_are_refused_in_a_test_split(tmp_path: Path) -> None:
    cohort = make_cohort(
        tmp_path / "c",
        {"pattern_mask": "patterns.nii.gz"},
        {"pattern_mask": "patterns.nii.gz", "labels": "infection", "split": "test"},
    )
    with pytest.raises(ValueError, match="split 'test' have a pattern mask that draws some classes only"):
        data_of(cohort).slice_table("test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"told_apart": ["infektion"]}, "data.told_apart has 'infektion'; expected some of infection, consolidation"),
        ({"bits": ["lungs"]}, "data.bits has 'lungs'"),
        ({"balanced": "group_9"}, "data.balanced has 'group_9'"),
    ],
)
def test_a_finding_that_the_class_set_lacks_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnyLabelData(**options)


def test_a_label_of_no_class_refuses_its_scan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cohort = make_cohort(
        tmp_path / "c",
        {"pattern_mask": "patterns.nii.gz"},
        {"pattern_mask": "patterns.nii.gz", "labels": "infection;grou_2", "has_fever": "yes"},
    )
    data = data_of(cohort)
    assert len(data.slice_table("train").scans) == 1
    assert (
        "column labels: found 'grou_2', which is no finding or leaf of the class set" in data.verdicts_csv.read_text()
    )
    assert "the columns has_fever name no finding or leaf of the class set l3" in capsys.readouterr().err


def test_a_class_set_with_too_many_leaves_for_the_bits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.any_label_data.MOST_LEAVES", 4)
    with pytest.raises(ValueError, match="has 5 leaves; expected at most 4"):
        AnyLabelData()


def test_a_batch_holds_whole_tensors(tmp_path: Path) -> None:
    data = data_of(make_cohort(tmp_path / "c", {"pattern_mask": "patterns.nii.gz"}))
    batch = data.dataset(data.slice_table("train")).__getitems__([0, 3, 1])
    assert batch["allowed"].shape == (3, 1, SIZE, SIZE)
    assert batch["allowed"].dtype == torch.int16
    assert batch["bits"].shape == (3, len(L3.unions))
