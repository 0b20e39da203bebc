"""The networks of paper L3 by name: its UNet here, DeepLabV3+ and PSPNet from segmentation-models-pytorch."""

from typing import Literal

import segmentation_models_pytorch as smp
from torch import Tensor, nn
from torch.nn import functional as F

from networks.unet import UNet

Name = Literal["unet", "deeplabv3plus", "pspnet"]


class PaddedNetwork(nn.Module):
    """A network whose sides must be multiples of a stride, for images of any size: padded, and cropped again.

    Args:
        network: (B, C, H, W) -> logits of the same height and width.
        stride: What H and W must be multiples of.
    """

    def __init__(self, network: nn.Module, stride: int) -> None:
        super().__init__()
        self.network, self.stride = network, stride

    @property
    def deepest(self) -> nn.Module:
        """The encoder, the last of whose outputs is the most abstract."""
        encoder: nn.Module = self.network.encoder  # type: ignore[assignment]  # of segmentation-models-pytorch
        return encoder

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes, H, W) for x (B, C, H, W); the padding repeats the border."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        logits: Tensor = self.network(x)[..., :height, :width]
        return logits


def build_network(
    name: Name, in_channels: int, classes: int, channels: int = 32, encoder_weights: str | None = None
) -> nn.Module:
    """Build a segmentation network that gives logits at the size of its input.

    Args:
        name: `unet` (paper EM's, which serves paper L3 too), `deeplabv3plus` with a ResNet50 encoder or `pspnet` with
            an InceptionResNetV2 encoder (paper L3, section 4).
        in_channels: Adjacent slices in the input.
        classes: Channels of the output.
        channels: Channels after the first convolution of the UNet; the encoders have their own.
        encoder_weights: For the two with an encoder: None to start from random weights, or a name that
            segmentation-models-pytorch knows, such as `imagenet`, which are downloaded on first use.

    Returns:
        The network.

    Raises:
        ValueError: Encoder weights for the UNet, or the weights cannot be had.
    """
    if name == "unet":
        if encoder_weights is not None:
            raise ValueError(f"encoder_weights is {encoder_weights!r} but the UNet has no encoder; leave it out")
        return UNet(in_channels, classes, channels)
    options = {"encoder_weights": encoder_weights, "in_channels": in_channels, "classes": classes}
    try:
        if name == "deeplabv3plus":
            return PaddedNetwork(smp.DeepLabV3Plus("resnet50", **options), stride=16)
        return PaddedNetwork(smp.PSPNet("inceptionresnetv2", **options), stride=8)
    except (KeyError, OSError) as error:
        raise ValueError(
            f"the encoder weights {encoder_weights!r} for {name} cannot be had ({error}); they are downloaded on first "
            f"use: check the name and the network, or set model.encoder_weights to null"
        ) from error
