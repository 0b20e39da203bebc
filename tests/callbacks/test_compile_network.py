from types import SimpleNamespace

import pytest
import torch

from callbacks.compile_network import CompileNetwork
from networks.unet import UNet


@pytest.mark.slow
def test_a_compiled_network_is_the_same_network() -> None:
    torch.manual_seed(0)
    network, x = UNet(3, 1, 4).eval(), torch.randn(2, 3, 32, 32)
    names, expected = list(network.state_dict()), network(x)
    CompileNetwork().setup(None, SimpleNamespace(network=network), "fit")
    assert network._compiled_call_impl is not None
    assert list(network.state_dict()) == names
    with torch.compiler.set_stance("force_eager"):  # compiling takes a minute; that it is asked for is what counts here
        assert torch.equal(network(x), expected)
