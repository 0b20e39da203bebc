"""PSPNet with the encoder of paper L3."""

from typing import ClassVar

import segmentation_models_pytorch as smp

from networks.encoders import EncoderNetwork


class PSPNet(EncoderNetwork):
    """PSPNet with an InceptionResNetV2 encoder (paper L3, section 4); arguments as of `EncoderNetwork`."""

    architecture: ClassVar = smp.PSPNet
    encoder: ClassVar = "inceptionresnetv2"
    stride: ClassVar = 8
