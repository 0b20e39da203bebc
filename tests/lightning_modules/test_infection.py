"""Stage 1 from weights that exist."""

from functools import partial

import pytest
import torch
from places import ROOT

from lightning_modules.infection import InfectionModule
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
