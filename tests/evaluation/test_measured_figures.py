"""Measured figures as tables, with the command of each."""

from evaluation.measured_figures import measured_tables, origins

MEASURED = {
    "medseg": {"name": "zero_shot", "lungs": "found", "slices": 50, "dice_pooled": 0.58951, "iou_pooled": 0.0421},
    "balls": {
        "name": "faint_lesions",
        "balls": 4,
        "sensitivity": {"10 mm, 50 HU": 0.0, "10 mm, 100 HU": 0.5, "20 mm, 50 HU": 0.25, "20 mm, 100 HU": 1.0},
    },
    "mine": {"my_own_figure": 2.5},
    "commands": ["python -m benchmarks.zero_shot --cohort c.csv", "python -m benchmarks.faint_lesions"],
}


def test_a_measurement_is_a_table_and_sensitivities_are_a_grid() -> None:
    assert measured_tables(MEASURED).splitlines() == [
        "MedSeg: single slices as pictures, HU estimated; all opacities:",
        "",
        "| figure | value |",
        "| --- | ---: |",
        "| lungs | found |",
        "| slices | 50 |",
        "| Dice, pooled | 0.590 |",
        "| IOU, pooled | 0.0421 |",
        "",
        "balls:",
        "",
        "| figure | value |",
        "| --- | ---: |",
        "| balls | 4 |",
        "",
        "| found, by contrast and diameter | 10 mm | 20 mm |",
        "| --- | ---: | ---: |",
        "| 50 HU | 0 | 0.250 |",
        "| 100 HU | 0.500 | 1.000 |",
        "",
        "mine:",
        "",
        "| figure | value |",
        "| --- | ---: |",
        "| my own figure | 2.500 |",
        "",
        "Computed anew by, in a checkout of the sources:",
        "",
        "- medseg: `python -m benchmarks.zero_shot --cohort c.csv`",
        "- balls: `python -m benchmarks.faint_lesions`",
        "- mine: not stated",
    ]


def test_a_measurement_has_the_command_of_its_own_benchmark() -> None:
    assert origins(MEASURED) == [
        ("medseg", "python -m benchmarks.zero_shot --cohort c.csv"),
        ("balls", "python -m benchmarks.faint_lesions"),
        ("mine", ""),
    ]
    assert origins({}) == []
