"""PSPNet with the encoder of paper L3."""

from typing import ClassVar

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from networks.contract import Network
from networks.encoders import build, encoder_of, padded

STRIDE = 8


class PSPNet(Network):
    """PSPNet with an InceptionResNetV2 encoder (paper L3, section 4), of segmentation-models-pytorch.

    Args:
        in_channels: Adjacent slices in the input.
        out_channels: Channels of the logits.
        encoder_weights: None starts from random weights; a name such as `imagenet` from those, which are downloaded on
            first use.
    """

    starts_from: ClassVar = ("encoder_weights",)

    def __init__(self, in_channels: int, out_channels: int, encoder_weights: str | None = None) -> None:
        super().__init__()
        self.network = build(smp.PSPNet, "inceptionresnetv2", in_channels, out_channels, encoder_weights)

    @property
    def deepest(self) -> nn.Module:
        return encoder_of(self.network)

    def forward(self, x: Tensor) -> Tensor:
        return padded(self.network, x, STRIDE)
