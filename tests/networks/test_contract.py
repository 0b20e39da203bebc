"""Every network keeps the contract; one that does not is refused before it is trained."""

import pytest
import torch
from torch import Tensor, nn

from networks.contract import Network, NetworkFactory, check_contract
from networks.deeplab import DeepLabV3Plus
from networks.pspnet import PSPNet
from networks.unet import UNet

NETWORKS = [UNet, DeepLabV3Plus, PSPNet]


@pytest.mark.slow
@pytest.mark.parametrize("build", NETWORKS)
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 64, 64), (3, 45, 71)])
def test_logits_have_the_size_of_the_input(build: NetworkFactory, channels: int, height: int, width: int) -> None:
    network = build(channels, 5).eval()
    with torch.no_grad():
        assert network(torch.randn(2, channels, height, width)).shape == (2, 5, height, width)


@pytest.mark.parametrize("build", NETWORKS)
def test_looking_at_a_network_leaves_no_trace(build: NetworkFactory) -> None:
    torch.manual_seed(0)
    network = build(3, 2)
    network.deepest.eval()  # frozen, say
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    state = torch.get_rng_state()
    check_contract(network, 3, 2, 64)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert not network.deepest._forward_hooks


class Broken(Network):
    """Half the size in its logits, or features that are no maps, or none at all."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, deepest: str = "body") -> None:
        super().__init__()
        self.body = nn.Conv2d(in_channels, out_channels, 1, stride=stride)
        self.pooled = nn.Flatten()
        self.unused = nn.Identity()
        self.part = deepest

    @property
    def deepest(self) -> nn.Module:
        return self.get_submodule(self.part)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        self.pooled(logits)
        return logits


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Broken(2, 3, stride=2), r"Broken gives logits of shape \(1, 3, 4, 4\); expected \(1, 3, 8, 8\)"),
        (Broken(2, 1), r"Broken gives logits of shape \(1, 1, 8, 8\); expected \(1, 3, 8, 8\)"),
        (Broken(2, 3, deepest="pooled"), r"Broken calls deepest gives \(1, 192\); expected maps"),
        (Broken(2, 3, deepest="unused"), r"Broken calls deepest gives NoneType; expected maps"),
    ],
)
def test_what_breaks_the_contract_is_refused_in_one_sentence(network: Network, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_contract(network, 2, 3, 8)


def test_a_network_must_say_where_its_deepest_features_are() -> None:
    class Silent(Network):
        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(TypeError, match="deepest"):
        Silent()  # type: ignore[abstract]  # that it cannot be made is what is tested
