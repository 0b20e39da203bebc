"""Networks of segmentation-models-pytorch behind the contract: built with an encoder, run on images of any size."""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from ct.refusal import Refusal
from networks.contract import Network


class EncoderNetwork(Network):
    """A network of segmentation-models-pytorch; a class for each architecture says which.

    Images whose sides are no multiples of the stride are padded by repeating their border, and the logits cropped.

    Args:
        in_channels: Adjacent slices in the input.
        out_channels: Channels of the logits.
        encoder_weights: None starts from random weights; a name such as `imagenet` from those, which are downloaded on
            first use.

    Attributes:
        architecture: Class of segmentation-models-pytorch.
        encoder: Name of its encoder.
        stride: What height and width of its input must be multiples of.

    Raises:
        Refusal: The weights cannot be had.
    """

    starts_from: ClassVar = ("encoder_weights",)
    architecture: ClassVar[type[nn.Module]]
    encoder: ClassVar[str]
    stride: ClassVar[int]

    def __init__(self, in_channels: int, out_channels: int, encoder_weights: str | None = None) -> None:
        super().__init__()
        try:
            self.network = self.architecture(
                self.encoder, encoder_weights=encoder_weights, in_channels=in_channels, classes=out_channels
            )
        except (KeyError, OSError) as error:
            raise Refusal(
                "the encoder weights {weights!r} for {name} cannot be had ({error}); they are downloaded on first use: "
                "check the name and the network, or set model.network.encoder_weights to null",
                weights=encoder_weights,
                name=self.architecture.__name__,
                error=error,
            ) from error

    @property
    def deepest(self) -> nn.Module:
        """Return the encoder, the last of whose outputs is the deepest."""
        encoder: nn.Module = self.network.encoder  # type: ignore[assignment]  # its classes are untyped
        return encoder

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        logits: Tensor = self.network(x)[..., :height, :width]
        return logits
