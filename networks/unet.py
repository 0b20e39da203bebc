"""UNet of paper EM (Wu et al., IEEE JBHI 2020, section III-B)."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from ct.refusal import Refusal
from networks.contract import Network

LEVELS = 5  # down blocks; one up block fewer
STRIDE = 2 ** (LEVELS - 1)


def block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Build twice (3x3 convolution, batch norm, leaky ReLU); the first convolution carries the stride."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(inplace=True),
    )


class UNet(Network):
    """UNet-1 and UNet-2 of paper EM: 5 down blocks, 4 up blocks, skips added instead of concatenated.

    Where the paper leaves room, it is read as follows: the five down blocks are five levels with channels, 2 x
    channels, .. 16 x channels (32 .. 512); the stride-2 convolution is the first one of levels 2 to 5; a 2x2 transposed
    convolution with stride 2 halves the channels before each up block. Convolutions that feed a batch norm have no
    bias.

    Args:
        in_channels: Adjacent slices in the input (paper: 7).
        out_channels: Channels of the output (paper: 1).
        channels: Channels of the first convolution (paper: 32).

    Raises:
        Refusal: A number of channels is below 1.
    """

    def __init__(self, in_channels: int = 7, out_channels: int = 1, channels: int = 32) -> None:
        if in_channels < 1 or channels < 1:
            raise Refusal(
                "the UNet gets channels {channels} and context {context}; expected whole numbers from 1 on",
                channels=channels,
                context=in_channels,
            )
        super().__init__()
        widths = [channels * 2**level for level in range(LEVELS)]
        pairs = list(pairwise(widths))  # (shallow, deep), from the top down
        self.down = nn.ModuleList([block(in_channels, channels), *(block(a, b, stride=2) for a, b in pairs)])
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in reversed(pairs))
        self.up = nn.ModuleList(block(a, a) for a, _ in reversed(pairs))
        self.head = nn.Conv2d(channels, out_channels, 1)

    @property
    def deepest(self) -> nn.Module:
        """Return the lowest level, at a sixteenth of the size."""
        return self.down[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the central slice; the loss applies the paper's sigmoid, numerically stable there.

        Args:
            x: (B, in_channels, H, W) normalised grey values, 0 = air. Sides that are no multiple of 16 are padded with
                air on the right and at the bottom, and the output is cropped.

        Returns:
            (B, out_channels, H, W).
        """
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % STRIDE, 0, -height % STRIDE))
        skips: list[Tensor] = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        for enlarge, up, skip in zip(self.enlarge, self.up, skips[-2::-1], strict=True):
            x = up(enlarge(x) + skip)
        logits: Tensor = self.head(x)[..., :height, :width]
        return logits
