"""Networks of segmentation-models-pytorch behind the contract: built with an encoder, run on images of any size."""

from torch import Tensor, nn
from torch.nn import functional as F

from ct.refusal import Refusal


def build(
    architecture: type[nn.Module], encoder: str, in_channels: int, out_channels: int, weights: str | None
) -> nn.Module:
    """Build a network of segmentation-models-pytorch.

    Args:
        architecture: Its class.
        encoder: Name of its encoder.
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        weights: None to start from random weights, or a name that segmentation-models-pytorch knows, such as
            `imagenet`; those are downloaded on first use.

    Raises:
        Refusal: The weights cannot be had.
    """
    try:
        return architecture(encoder, encoder_weights=weights, in_channels=in_channels, classes=out_channels)
    except (KeyError, OSError) as error:
        raise Refusal(
            "the encoder weights {weights!r} for {name} cannot be had ({error}); they are downloaded on first use: "
            "check the name and the network, or set model.network.encoder_weights to null",
            weights=weights,
            name=architecture.__name__,
            error=error,
        ) from error


def padded(network: nn.Module, x: Tensor, stride: int) -> Tensor:
    """Run a network whose sides must be multiples of a stride: the border is repeated, and cropped again.

    Args:
        network: (B, C, H, W) -> logits of the same height and width.
        x: (B, C, H, W) of any size.
        stride: What H and W must be multiples of.

    Returns:
        Logits (B, classes, H, W).
    """
    height, width = x.shape[-2:]
    x = F.pad(x, (0, -width % stride, 0, -height % stride), mode="replicate")
    logits: Tensor = network(x)[..., :height, :width]
    return logits


def encoder_of(network: nn.Module) -> nn.Module:
    """Return the encoder of a network of segmentation-models-pytorch, the last of whose outputs is the deepest."""
    encoder: nn.Module = network.encoder  # type: ignore[assignment]  # its classes are untyped
    return encoder
