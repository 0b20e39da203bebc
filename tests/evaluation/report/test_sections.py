import numpy as np
import pandas as pd

from evaluation.report.sections import with_intervals
from evaluation.statistics import TO


def test_what_is_undefined_at_a_site_is_a_dash() -> None:
    figures = {"dice_mean": (np.nan,) * 3, "iou_pooled": (0.5, 0.25, 0.75), "relative_volume": (1.5, np.nan, np.nan)}
    figures |= {"tpr": (np.nan,) * 3, "fpr": (0.0, 0.0, 0.0)}
    rows = [
        {"finding": "infection", "site": "nanaimo", "figure": figure, "value": value, "low": low, "high": high}
        for figure, (value, low, high) in figures.items()
    ]
    (row,) = with_intervals(pd.DataFrame(rows).assign(scans=2, patients=2)).to_dict("records")
    assert row["site"] == "nanaimo"
    assert [row[name] for name in ("Dice, mean", "IOU", "RV", "TPR", "FPR")] == [
        "-",
        f"0.500 (0.250{TO}0.750)",
        "1.500",
        "-",
        f"0.000 (0.000{TO}0.000)",
    ]
