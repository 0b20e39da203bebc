"""Stage 1 from weights that exist."""

from functools import partial

import pytest
import torch
from places import ROOT

from batch import SliceBatch
from lightning_modules.augment import Augmentation
from lightning_modules.infection import InfectionModule
from lightning_modules.repaint import Repainting
from networks.unet import UNet

DEFAULT = str(ROOT / "models" / "default" / "best.ckpt")


def test_it_starts_from_the_default_model() -> None:
    stored = torch.load(DEFAULT, weights_only=True)["state_dict"]
    module = InfectionModule(partial(UNet, channels=16), context=7, pretrained=DEFAULT)
    for name, value in module.network.state_dict().items():
        torch.testing.assert_close(value, stored[f"network.{name}"], rtol=0, atol=0)
    assert "pretrained" not in module.hparams, "its checkpoint must load where that file is not"


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"set the same model.network and model.context in both"):
        InfectionModule(partial(UNet, channels=16), context=1, pretrained=DEFAULT)


def augmented(repainting: Repainting | None) -> SliceBatch:
    """Return two slices as a training step gets them, not moved: a lung at -850 HU, half of it a lesion."""
    lung = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    lung[:, :, 4:28, 4:28] = True
    target = torch.zeros(2, 2, 32, 32, dtype=torch.int8)
    target[:, 0, :16] = 1
    target[:, 0, :, :8] = -1
    image = torch.where(lung, -850, 40).to(torch.int16).expand(2, 3, 32, 32)
    still = Augmentation(rotation_deg=0, shift=0, zoom=0, flip=False)
    module = InfectionModule(partial(UNet, channels=2), context=3, augmentation=still, repainting=repainting)
    return module.augment({"image": image, "lung": lung, "target": target})  # type: ignore[typeddict-item]


def test_phantoms_are_repainted_where_they_have_lesions_and_nothing_else_of_them_changes() -> None:
    plain, painted = augmented(None), augmented(Repainting(denser=1.0, uneven=1.0, uneven_hu=200))
    for name in ("lung", "target"):
        assert torch.equal(plain[name], painted[name])
    change = (painted["x"] - plain["x"]).abs().amax((0, 1))
    assert change[5:12, 12:26].min() > 0
    assert change[21:].max() == 0, "no lesion"
    assert change[:, 4].max() == 0, "not known to be one"
    assert painted["image"].dtype == torch.int16
    torch.testing.assert_close(augmented(Repainting())["x"], plain["x"])
    assert (augmented(Repainting(enhanced=1.0))["x"] != plain["x"]).any()
