"""DeepLabV3+ with the encoder of paper L3."""

from typing import ClassVar

import segmentation_models_pytorch as smp

from networks.encoders import EncoderNetwork


class DeepLabV3Plus(EncoderNetwork):
    """DeepLabV3+ with a ResNet50 encoder (paper L3, section 4); arguments as of `EncoderNetwork`."""

    architecture: ClassVar = smp.DeepLabV3Plus
    encoder: ClassVar = "resnet50"
    stride: ClassVar = 16
