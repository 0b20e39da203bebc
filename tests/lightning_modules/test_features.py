from functools import partial

import pytest
import torch

from lightning_modules.features import pooled_features
from lightning_modules.infection import InfectionModule
from networks.contract import NetworkFactory
from networks.deeplab import DeepLabV3Plus
from networks.pspnet import PSPNet
from networks.unet import UNet

SMALL = partial(UNet, channels=4)


@pytest.mark.parametrize(("build", "channels"), [(SMALL, 64), (DeepLabV3Plus, 2048), (PSPNet, 320)])
def test_every_network_gives_its_deepest_features(build: NetworkFactory, channels: int) -> None:
    network = build(1, 5).eval()
    with pooled_features(network) as features, torch.no_grad():
        network(torch.randn(2, 1, 64, 64))
        network(torch.randn(1, 1, 70, 64))
    assert [tuple(batch.shape) for batch in features] == [(2, channels), (1, channels)]
    with torch.no_grad():
        network(torch.randn(1, 1, 64, 64))
    assert len(features) == 2, "nothing is collected afterwards"


def test_features_of_a_unet_are_the_mean_of_its_lowest_level() -> None:
    module = InfectionModule(SMALL, context=3).train()
    x = torch.randn(2, 3, 48, 32)
    features = module.features(x)
    level = x
    assert isinstance(module.network, UNet)
    with torch.no_grad():
        for down in module.network.down:
            level = down.eval()(level)
    torch.testing.assert_close(features, level.mean((2, 3)))
