from pathlib import Path

import matplotlib.image
from matplotlib import pyplot as plt

from evaluation.report.drawing import marker_of, save


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
