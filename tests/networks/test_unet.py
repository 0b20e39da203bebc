import pytest
import torch
from torch import nn

from networks.unet import UNet


def paper_parameters(slices: int, outputs: int, channels: int) -> int:
    """Section III-B, counted: 3x3 convolutions without bias, batch norms, 2x2 transposed and the 1x1 convolution."""
    widths = [channels * 2**level for level in range(5)]
    total, before = 0, slices
    for width in widths:
        total += 9 * before * width + 9 * width * width + 2 * 2 * width
        before = width
    for width in widths[-2::-1]:
        total += 4 * (2 * width) * width + width + 2 * 9 * width * width + 2 * 2 * width
    return total + channels * outputs + outputs


@pytest.mark.parametrize(("slices", "outputs", "channels"), [(7, 1, 32), (1, 5, 8)])
def test_parameter_count(slices: int, outputs: int, channels: int) -> None:
    net = UNet(slices, outputs, channels)
    assert sum(p.numel() for p in net.parameters()) == paper_parameters(slices, outputs, channels)


def test_layer_table_is_the_papers() -> None:
    net = UNet()
    convolutions = [(m.in_channels, m.out_channels, m.stride[0]) for m in net.modules() if type(m) is nn.Conv2d]
    down = [(7, 32, 1), (32, 32, 1)]
    for width in (64, 128, 256, 512):
        down += [(width // 2, width, 2), (width, width, 1)]
    up = [(width, width, 1) for width in (256, 256, 128, 128, 64, 64, 32, 32)]
    assert convolutions == [*down, *up, (32, 1, 1)]
    transposed = [(m.in_channels, m.out_channels, m.stride) for m in net.modules() if type(m) is nn.ConvTranspose2d]
    assert transposed == [(width, width // 2, (2, 2)) for width in (512, 256, 128, 64)]
    assert sum(type(m) is nn.BatchNorm2d for m in net.modules()) == 18
    assert sum(type(m) is nn.LeakyReLU for m in net.modules()) == 18
    kernels = [m.kernel_size for m in net.modules() if type(m) is nn.Conv2d]
    assert kernels == [(3, 3)] * 18 + [(1, 1)]


def test_level_sizes_and_added_skips() -> None:
    """Level l works on H / 2^l pixels; what an up block gets is the sum of the enlarged map and the skip."""
    net = UNet(channels=2).eval()
    seen: dict[str, torch.Tensor] = {}
    for name, module in net.named_modules():
        if name.count(".") == 1 and name.split(".")[0] in ("down", "enlarge"):
            module.register_forward_hook(lambda m, i, o, name=name: seen.__setitem__(name, o.clone()))
        if name.count(".") == 1 and name.startswith("up."):
            module.register_forward_hook(lambda m, i, o, name=name: seen.__setitem__(name, i[0].clone()))
    net(torch.randn(1, 7, 64, 48))
    assert [tuple(seen[f"down.{i}"].shape[1:]) for i in range(5)] == [(2 << i, 64 >> i, 48 >> i) for i in range(5)]
    for i in range(4):
        torch.testing.assert_close(seen[f"up.{i}"], seen[f"enlarge.{i}"] + seen[f"down.{3 - i}"])


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (1, 50), (64, 45)])
def test_odd_sizes_are_padded_with_air_and_cropped(size: tuple[int, int]) -> None:
    net = UNet(in_channels=3, channels=2).eval()
    x = torch.randn(2, 3, *size)
    y = net(x)
    assert y.shape == (2, 1, *size)
    padded = torch.zeros(2, 3, *(-(-side // 16) * 16 for side in size))
    padded[..., : size[0], : size[1]] = x
    torch.testing.assert_close(y, net(padded)[..., : size[0], : size[1]])


def test_logits_are_not_squashed_and_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    net = UNet(in_channels=1, channels=4)
    y = net(5 * torch.randn(2, 1, 32, 32))
    assert y.min() < 0
    (y**2).mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
