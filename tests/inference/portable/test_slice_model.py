"""What the page's model may be."""

from pathlib import Path

import pytest

from inference.load import load_module
from inference.portable import slice_model
from inference.portable.slice_model import write_slice_model


def test_a_model_that_the_page_cannot_answer_for_is_refused(
    em_run: Path, infection_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="is of the task 'consolidation'; the page takes one of infection"):
        write_slice_model(str(em_run / "best.ckpt"), tmp_path)
    module = load_module(infection_run / "best.ckpt")
    module.whole_image = True
    monkeypatch.setattr(slice_model, "load_module", lambda ckpt: module)
    with pytest.raises(ValueError, match="learned on whole images; the page takes a model that learned inside lungs"):
        write_slice_model(str(infection_run / "best.ckpt"), tmp_path)
    assert not list(tmp_path.iterdir())
