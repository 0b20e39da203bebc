"""What every segmentation module does the same way."""

from functools import partial

import torch
from torch.nn import functional as F

from lightning_modules.infection import InfectionModule
from networks.unet import UNet


def test_dropout_draws_the_same_in_a_resumed_run() -> None:
    module = InfectionModule(partial(UNet, channels=2), context=1)
    drawn = []
    for before in (0, 5):  # a resumed run has drawn another number of random numbers by the same step
        torch.rand(before)
        module.on_train_batch_start({}, 0)  # type: ignore[typeddict-item]
        drawn.append(F.dropout(torch.ones(50)))
    assert torch.equal(*drawn)
    module.on_train_batch_start({}, 0)  # type: ignore[typeddict-item]
    first = F.dropout(torch.ones(50))
    assert not torch.equal(first, F.dropout(torch.ones(50)))
