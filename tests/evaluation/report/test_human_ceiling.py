from pathlib import Path

import numpy as np
import pytest
from report_harness import make_run
from sklearn.metrics import f1_score, jaccard_score

from evaluation.report.human_ceiling import ceiling_table


def opinions(root: Path, scan_id: str, least: int) -> tuple[np.ndarray, np.ndarray]:
    """bool (3, N): what each reader, and the other two together (a tie is a yes), call at least `least`."""
    codes = np.load(root / "prepared" / scan_id / "readers.npy")
    inside = (np.load(root / "prepared" / scan_id / "lung.npy") > 0) & (codes[0] >= 0)
    called = codes[:, inside] >= least
    return called, np.stack([np.delete(called, reader, 0).any(0) for reader in range(3)])


@pytest.mark.parametrize(("finding", "least"), [("infection", 5), ("consolidation", 10)])
def test_ceiling_is_scikit_learns_over_readers(tmp_path: Path, finding: str, least: int) -> None:
    run = make_run(tmp_path / "runs", "unet_em", "consolidation")
    table = ceiling_table(run).set_index(["site", "finding", "figure"])
    per_scan = {scan: opinions(tmp_path, scan, least) for scan in "ac"}
    dice = [np.mean([f1_score(o, s) for s, o in zip(*per_scan[scan], strict=True)]) for scan in "ac"]
    assert table.loc[("all", finding, "dice_mean"), "reader"] == pytest.approx(np.mean(dice))
    assert table.loc[("B", finding, "dice_mean"), "reader"] == pytest.approx(dice[1])
    own, others = (np.concatenate([per_scan[scan][part] for scan in "ac"], axis=1) for part in (0, 1))
    pooled = [jaccard_score(o, s) for s, o in zip(own, others, strict=True)]
    assert table.loc[("all", finding, "iou_pooled"), "reader"] == pytest.approx(np.mean(pooled))
    prediction = np.concatenate([run.pair(scan, finding)[1][run.pair(scan, finding)[0] >= 0] for scan in "ac"])
    model = [jaccard_score(o, prediction) for o in others]
    assert table.loc[("all", finding, "iou_pooled"), "model"] == pytest.approx(np.mean(model))
    assert table.loc[("all", finding, "iou_pooled"), "scans"] == 2


def test_without_readers_there_is_no_ceiling(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", "unet_em", "consolidation")
    run.scans["readers"] = 1
    table = ceiling_table(run)
    assert table.empty
    assert table.columns.tolist() == ["site", "finding", "figure", "reader", "model", "scans"]
