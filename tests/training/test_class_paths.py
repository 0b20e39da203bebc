"""Objects as class_path and init_args: what checkpoints keep, and what they may make the program import."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from losses.em import Phi1, Phi2, Prior
from networks.contract import Network
from networks.deeplab import DeepLabV3Plus
from networks.unet import UNet
from training.class_paths import as_plain_values, class_of

CHECKPOINT = Path("best.ckpt")
# Abstract classes, which mypy refuses where a type[T] is expected.
NETWORK: Any = Network
PRIOR: Any = Prior
UNET = {"class_path": "networks.unet.UNet", "init_args": {"channels": 4}}


@pytest.mark.parametrize(
    ("chosen", "class_path", "init_args"),
    [
        (UNet, "networks.unet.UNet", {}),
        (partial(UNet, channels=4), "networks.unet.UNet", {"channels": 4}),
        (Phi1(), "losses.em.Phi1", {"b1": 1.0}),
        (Phi2(8.0), "losses.em.Phi2", {"b2": 8.0, "k2": 0.5}),
        (partial(DeepLabV3Plus, encoder_weights="imagenet"), "networks.deeplab.DeepLabV3Plus", {}),
    ],
)
def test_a_choice_as_plain_values(chosen: object, class_path: str, init_args: dict[str, Any]) -> None:
    assert as_plain_values(chosen) == {"class_path": class_path, "init_args": init_args}


def test_there_and_back() -> None:
    network = class_of(as_plain_values(partial(UNet, channels=4)), NETWORK, (), CHECKPOINT)(3, 2)
    assert type(network) is UNet
    assert network.head.weight.shape[:2] == (2, 4)
    assert class_of(as_plain_values(Phi2(8.0)), PRIOR, (), CHECKPOINT)() == Phi2(8.0)


def test_encoder_weights_are_not_fetched_for_a_checkpoint() -> None:
    described = {"class_path": "networks.deeplab.DeepLabV3Plus", "init_args": {"encoder_weights": "imagenet"}}
    assert class_of(described, NETWORK, (), CHECKPOINT).keywords == {}


@dataclass(frozen=True)
class Holder:
    """What no checkpoint can hold."""

    part: Any


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (lambda inputs, outputs: UNet(inputs, outputs), "cannot be kept in a checkpoint; expected a dataclass, or a"),
        (
            partial(UNet, channels=Phi1()),  # type: ignore[arg-type]  # which is what is refused
            "networks.unet.UNet: channels is of the type Phi1, which no checkpoint can",
        ),
        (Holder({"a": 1}), "part is of the type dict"),
        (Holder([1, Path("a")]), "part is of the type list"),
    ],
)
def test_what_is_not_plain_is_refused_before_training(chosen: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_plain_values(chosen)


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that appears when the module `trap`, which can be imported, is."""
    trace = tmp_path / "trace"
    source = f"import pathlib\nfrom networks.unet import UNet as Net\npathlib.Path({str(trace)!r}).touch()\n"
    (tmp_path / "trap.py").write_text(source)
    (tmp_path / "networks_of_mine.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    return trace


ELSEWHERE = "which is not of this project"
REFUSED: list[tuple[Any, str]] = [
    ({"class_path": "trap.Net"}, "names the class trap.Net, which is not of this project.*allow its module: --modules"),
    ({"class_path": "networks_of_mine.Net"}, ELSEWHERE),
    ({"class_path": "os.system", "init_args": {"command": "touch trace"}}, ELSEWHERE),
    ({"class_path": "builtins.eval"}, ELSEWHERE),
    ({"class_path": "torch.nn.Linear"}, ELSEWHERE),
    ({"class_path": "eval"}, "where a class is expected"),
    ({"class_path": "networks"}, "where a class is expected"),
    ({"class_path": "training.class_paths.class_of"}, ELSEWHERE),
    ({"class_path": "networks.unet.block"}, "is no networks.contract.Network"),
    ({"class_path": "networks.unet.nn"}, "is no networks.contract.Network"),
    ({"class_path": "networks.contract.Network"}, "is no networks.contract.Network"),
    ({"class_path": "losses.em.Phi2"}, "is no networks.contract.Network"),
    ({"class_path": "networks.unet.Phi2"}, "which is not there"),
    ({"class_path": "networks.trap.Net"}, "which is not there"),
    ({"class_path": "networks.unet.nn.Linear"}, "which is not there"),
    ({"class_path": "networks..trap.Net"}, "where a class is expected"),
    ({"class_path": "networks.unet.UNet\n"}, "where a class is expected"),
    ({"class_path": ""}, "where a class is expected"),
    ({"class_path": 3}, "where a class is expected"),
    ({}, "where a class is expected"),
    ("trap.Net", "where a class is expected"),
    (None, "where a class is expected"),
    (UNET | {"init_args": {"channels": {"class_path": "trap.Net"}}}, "argument channels of .* is no plain value"),
    (UNET | {"init_args": {"channels": [{"class_path": "trap.Net"}]}}, "argument channels of .* is no plain value"),
    (UNET | {"init_args": {1: 2}}, "argument init_args of .* is no plain value"),
    (UNET | {"init_args": ["trap.Net"]}, "argument init_args of .* is no plain value"),
    (UNET | {"init_args": {"width": 4}}, "arguments that networks.unet.UNet does not take .*'width'"),
]


@pytest.mark.parametrize(("described", "message"), REFUSED, ids=[str(described) for described, _ in REFUSED])
def test_what_a_checkpoint_must_not_name(trap: Path, described: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^best.ckpt.*{message}") as refusal:
        class_of(described, NETWORK, (), CHECKPOINT)
    assert len(str(refusal.value).splitlines()) == 1
    assert not trap.exists(), "it was imported"


def test_what_the_user_names_is_imported_and_nothing_beside_it(trap: Path) -> None:
    with pytest.raises(ValueError, match=ELSEWHERE):
        class_of({"class_path": "trap.Net"}, NETWORK, ("tra", "trap.Net", "rap"), CHECKPOINT)
    assert not trap.exists()
    assert class_of({"class_path": "trap.Net"}, NETWORK, ("trap",), CHECKPOINT).func is UNet
    assert trap.exists(), "the trap would have been noticed"
    with pytest.raises(ValueError, match=r"os\.system, which is no networks\.contract\.Network"):
        class_of({"class_path": "os.system"}, NETWORK, ("os",), CHECKPOINT)
