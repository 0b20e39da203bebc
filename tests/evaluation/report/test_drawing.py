from pathlib import Path

import matplotlib.image
import numpy as np
from matplotlib import pyplot as plt

from evaluation.report.drawing import crop_to, extent_of, marker_of, save


def test_a_saved_figure_is_a_picture_and_a_page_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        figure, axis = plt.subplots(figsize=(2, 1), layout="constrained")
        axis.plot([0, 1], [1, 0])
        save(figure, tmp_path / "deep" / name)
        assert not plt.fignum_exists(figure.number)
    assert matplotlib.image.imread(tmp_path / "deep" / "one.png").shape[:2] == (150, 300)
    assert (tmp_path / "deep" / "one.pdf").read_bytes().startswith(b"%PDF")
    for suffix in (".png", ".pdf"):
        assert (tmp_path / "deep" / f"one{suffix}").read_bytes() == (tmp_path / "deep" / f"two{suffix}").read_bytes()


def test_findings_of_one_figure_differ_in_marker() -> None:
    for findings in (("infection", "consolidation", "threshold"), ("opacity", "group_2", "group_3", "group_4")):
        assert len({marker_of(name) for name in findings}) == len(findings)


def test_a_crop_has_a_margin_and_takes_everything_when_empty() -> None:
    mask = np.zeros((20, 30), bool)
    mask[8:10, 1:25] = True
    assert crop_to(mask) == (slice(5, 13), slice(0, 28))
    assert crop_to(mask, 10) == (slice(0, 20), slice(0, 30))
    assert crop_to(np.zeros((20, 30), bool)) == (slice(0, 20), slice(0, 30))


def test_a_slice_of_unknown_spacing_is_measured_in_pixels() -> None:
    assert extent_of((4, 3), {"spacing_y_mm": 2.0, "spacing_x_mm": 0.5}) == ((0, 1.5, 8, 0), "mm")
    assert extent_of((4, 3), {"spacing_y_mm": 2.0, "spacing_x_mm": float("nan")}) == ((0, 3, 4, 0), "pixels")
