"""The networks with an encoder, of segmentation-models-pytorch."""

import pytest
import torch

from networks.contract import Network
from networks.deeplab import DeepLabV3Plus
from networks.pspnet import PSPNet


@pytest.mark.parametrize(
    ("kind", "architecture", "encoder"),
    [(DeepLabV3Plus, "DeepLabV3Plus", "ResNet"), (PSPNet, "PSPNet", "InceptionResNetV2")],
)
def test_they_are_those_of_the_paper(kind: type[Network], architecture: str, encoder: str) -> None:
    network = kind(1, 5)
    assert type(network.network).__name__ == architecture
    assert encoder in type(network.deepest).__name__


def test_padding_shifts_nothing() -> None:
    """An odd image gives, where it overlaps, what the same image padded by hand gives."""
    network = DeepLabV3Plus(1, 5).eval()
    x = torch.randn(1, 1, 30, 47)
    by_hand = torch.nn.functional.pad(x, (0, 1, 0, 2), mode="replicate")
    with torch.no_grad():
        torch.testing.assert_close(network(x), network.network(by_hand)[..., :30, :47])


@pytest.mark.parametrize("kind", [DeepLabV3Plus, PSPNet])
def test_encoder_weights_that_do_not_exist_are_refused_in_one_line(kind: type[Network]) -> None:
    with pytest.raises(
        ValueError, match=rf"'moon' for {kind.__name__} cannot be had .*set model.network.encoder_weigh"
    ):
        kind(1, 5, encoder_weights="moon")
