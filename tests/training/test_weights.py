"""Checkpoints from before networks and priors had class paths."""

from typing import Any

import pytest

from training.weights import update_arguments


def unet(channels: int) -> dict[str, Any]:
    return {"class_path": "networks.unet.UNet", "init_args": {"channels": channels}}


EM = {"context": 7, "supervision": "em", "dice_over": "image"}
OLD_EM = EM | {"channels": 8, "b1": 1.0, "b2": 8.5, "k2": 0.25}
OPACITY = {"context": 1, "labels": "soft", "target": "mean", "weighting": "pixel", "window_hu": (-1000.0, 350.0)}


@pytest.mark.parametrize(
    ("older", "today"),
    [
        ({"channels": 8, "context": 3, "dice_over": "batch"}, {"network": unet(8), "context": 3, "dice_over": "batch"}),
        (
            OLD_EM | {"prior": "phi2"},
            EM | {"network": unet(8), "prior": {"class_path": "losses.em.Phi2", "init_args": {"b2": 8.5, "k2": 0.25}}},
        ),
        (
            OLD_EM | {"prior": "phi1"},
            EM | {"network": unet(8), "prior": {"class_path": "losses.em.Phi1", "init_args": {"b1": 1.0}}},
        ),
        (OPACITY | {"network": "unet", "channels": 16}, OPACITY | {"network": unet(16)}),
        (
            OPACITY | {"network": "deeplabv3plus", "channels": 32},
            OPACITY | {"network": {"class_path": "networks.deeplab.DeepLabV3Plus", "init_args": {}}},
        ),
        (
            OPACITY | {"network": "pspnet", "channels": 32},
            OPACITY | {"network": {"class_path": "networks.pspnet.PSPNet", "init_args": {}}},
        ),
    ],
)
def test_arguments_as_they_are_named_today(older: dict[str, Any], today: dict[str, Any]) -> None:
    assert update_arguments(older) == today
    assert update_arguments(today) == today


def test_a_name_that_never_was_stays_to_be_refused() -> None:
    assert update_arguments({"network": "trap.Net"})["network"]["class_path"] == "trap.Net"
    assert update_arguments({"network": "unet", "prior": "trap.Prior"})["prior"]["class_path"] == "trap.Prior"
