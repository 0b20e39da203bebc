import numpy as np

from callbacks.draw_confusion import draw_confusion
from ct.classes import L3


def test_cells_show_the_share_of_each_true_group() -> None:
    table = np.zeros((6, 5), np.int64)
    table[1] = [1, 6, 2, 1, 0]
    table[2, 2] = 5
    table[5] = 99  # unknown truth is not shown
    axis = draw_confusion(table, L3).axes[0]
    texts = np.array([text.get_text() for text in axis.texts]).reshape(5, 5)
    assert texts[1].tolist() == ["0.10", "0.60", "0.20", "0.10", "0.00"]
    assert texts[2].tolist() == ["0.00", "0.00", "1.00", "0.00", "0.00"]
    assert (texts[[0, 3, 4]] == "-").all()
    assert "n = 10" in axis.get_yticklabels()[1].get_text()
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("model", "reader")
