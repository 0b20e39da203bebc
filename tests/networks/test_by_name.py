import pytest
import torch

from networks.by_name import Name, build_network
from networks.unet import UNet


@pytest.mark.parametrize("name", ["unet", "deeplabv3plus", "pspnet"])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 64, 64), (3, 45, 71)])
def test_logits_have_the_size_of_the_input(name: Name, channels: int, height: int, width: int) -> None:
    network = build_network(name, channels, 5, channels=4).eval()
    with torch.no_grad():
        assert network(torch.randn(2, channels, height, width)).shape == (2, 5, height, width)


def test_names_mean_the_networks_of_the_paper() -> None:
    assert isinstance(build_network("unet", 1, 5, 4), UNet)
    deeplab, pspnet = build_network("deeplabv3plus", 1, 5), build_network("pspnet", 1, 5)
    assert type(deeplab.network).__name__ == "DeepLabV3Plus"
    assert type(pspnet.network).__name__ == "PSPNet"
    assert "ResNet" in type(deeplab.network.encoder).__name__
    assert "InceptionResNetV2" in type(pspnet.network.encoder).__name__


def test_padding_shifts_nothing() -> None:
    """An odd image gives, where it overlaps, what the same image padded by hand gives."""
    network = build_network("deeplabv3plus", 1, 5).eval()
    x = torch.randn(1, 1, 30, 47)
    by_hand = torch.nn.functional.pad(x, (0, 1, 0, 2), mode="replicate")
    with torch.no_grad():
        torch.testing.assert_close(network(x), network.network(by_hand)[..., :30, :47])


def test_encoder_weights_that_do_not_exist_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="no encoder"):
        build_network("unet", 1, 5, encoder_weights="imagenet")
    with pytest.raises(ValueError, match="'moon' for deeplabv3plus cannot be had"):
        build_network("deeplabv3plus", 1, 5, encoder_weights="moon")
