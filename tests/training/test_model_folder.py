"""A model as a folder: every door takes it, it is the same model, and damage is told."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ground_glass.__main__ import main
from inference.segmenter import Segmenter
from training.model_folder import CALIBRATION, GRAPH, MANIFEST, WEIGHTS, checksum, read_manifest, write_manifest
from training.weights import identity, read_checkpoint


@pytest.fixture(scope="module")
def folder(infection_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke run of stage 1, exported by its run folder."""
    out = tmp_path_factory.mktemp("exported") / "model"
    assert main(["export", str(infection_run), "-o", str(out), "--no-onnx", "--licence", "CC0-1.0"]) == 0
    return out


@pytest.mark.slow
def test_it_is_the_same_model(folder: Path, infection_run: Path) -> None:
    ours, theirs = read_checkpoint(infection_run / "best.ckpt"), read_checkpoint(folder)
    assert set(ours["state_dict"]) == set(theirs["state_dict"])
    assert all(torch.equal(value, theirs["state_dict"][name]) for name, value in ours["state_dict"].items())
    about, again = ours["ground_glass"], theirs["ground_glass"]
    assert again["arguments"]["network"] == about["arguments"]["network"]
    for name in ("task", "size", "validation", "trained_on"):
        assert again[name] == about[name]
    for name, value in about["training"].items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(again["training"][name])), name
    assert identity(folder) == identity(folder / MANIFEST) == identity(infection_run / "best.ckpt")
    cards = [Segmenter([place]).card for place in (folder, infection_run / "best.ckpt", infection_run)]
    assert cards[0] == cards[1] == cards[2]


@pytest.mark.slow
def test_stage_2_starts_from_it(folder: Path, infection_run: Path) -> None:
    from networks.unet import UNet
    from training.weights import load_network_weights

    arguments = read_checkpoint(folder)["ground_glass"]["arguments"]
    networks = [UNet(arguments["context"], 1, **arguments["network"]["init_args"]) for _ in range(2)]
    load_network_weights(folder, "infection", networks[0])
    load_network_weights(infection_run / "best.ckpt", "infection", networks[1])
    assert all(map(torch.equal, networks[0].state_dict().values(), networks[1].state_dict().values()))


@pytest.mark.slow
def test_its_documents_hold_the_figures_of_the_run_and_tell_what_is_missing(
    folder: Path, infection_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = json.loads((infection_run / "metrics.json").read_text())
    card, methods = ((folder / name).read_text() for name in ("model_card.md", "methods.md"))
    row = next(line for line in card.splitlines() if line.startswith("| infection | Dice, mean"))
    assert f" {metrics['infection/dice_mean']:.3f}" in row
    assert f"| {metrics['infection/dice_mean_n']} |" in row
    assert "licence: CC0-1.0" in card
    assert "synthetic" in methods
    assert "age, sex" not in methods, "nobody asks that of phantoms"
    assert "intended use" in card
    assert main(["export", str(infection_run), "-o", str(folder), "--check"]) == 0
    copied, verdict = capsys.readouterr().out.splitlines()
    assert copied.startswith("copied, not computed: validation figures")
    assert verdict == "no difference"


@pytest.mark.slow
def test_what_is_exported_again_is_the_same(folder: Path, tmp_path: Path) -> None:
    assert main(["export", str(folder), "-o", str(tmp_path / "again"), "--no-onnx"]) == 0
    for path in sorted(folder.rglob("*.*")):
        assert (tmp_path / "again" / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model, exported."""
    out = tmp_path_factory.mktemp("default") / "model"
    assert main(["export", "-o", str(out), "--no-onnx"]) == 0
    return out


def test_the_card_of_the_default_model_says_what_it_learned_from_and_what_it_cannot_do(default: Path) -> None:
    card = (default / "model_card.md").read_text()
    lines = card.splitlines()
    assert "- licence: Apache-2.0" in lines
    assert "- scans: synthetic: no scan of a patient" in lines
    assert "- split val: 24 scans (clear 7, infected 12, severe 5)" in lines
    assert "| labelled slices: AUC of that share | 0.911 |" in lines
    limits = card.partition("## Limits")[2].partition("## Missing")[0]
    for subject in ("synthetic", "consolidation from ground glass", "Small and faint", "contrast was enhanced"):
        assert subject in limits
    missing = card.partition("## Missing")[2]
    assert "funding" in missing
    for asked_of_patients in ("age", "ethics", "dose"):
        assert asked_of_patients not in missing
    for name in ("model_card.md", "methods.md"):
        assert "{P002" not in (default / name).read_text()
        assert "real_slices, P002" not in (default / name).read_text()
    methods = (default / "methods.md").read_text()
    assert "We used synthetic chest CT scans" in methods
    assert "10 epochs, 5960 steps" in methods
    assert "None" not in methods


def test_the_check_says_which_figures_it_copied_and_what_computes_them(
    default: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "-o", str(default), "--check"]) == 0
    *copied, verdict = capsys.readouterr().out.splitlines()
    assert verdict == "no difference"
    assert [line.removeprefix("copied, not computed: ").split(",")[0] for line in copied] == [
        "validation figures", "real_slices", "medseg", "covid20", "faint_lesions"
    ]  # fmt: skip
    assert "python -m benchmarks.real_slices --ckpt models/default/best.ckpt" in copied[1]


def test_a_manifest_holds_what_its_weights_mean(default: Path) -> None:
    manifest = read_manifest(default)
    assert set(manifest) == {
        "format", "task", "architecture", "classes", "arguments", "preprocessing", "trained_on", "training_set",
        "validation", "written_with", "checkpoint_sha256", "experiment", "licence", "run", "measured", "sha256",
    }  # fmt: skip
    assert manifest["classes"]["name"] == "em"
    assert [finding["key"] for finding in manifest["classes"]["findings"]] == ["infection", "consolidation"]
    assert set(manifest["run"]) == {"data", "training", "limits"}
    assert manifest["sha256"] == {WEIGHTS: checksum(default / WEIGHTS)}


@pytest.mark.parametrize(
    ("class_path", "said"),
    [
        ("os.system", "names the class os.system, which is not of this project"),
        ("training.model_folder.checksum", "which is not of this project"),
        ("networks.unet.block", r"is no networks\.contract\.Network"),
    ],
)
def test_a_manifest_may_name_no_class_that_a_checkpoint_may_not(
    default: Path, tmp_path: Path, class_path: str, said: str
) -> None:
    manifest = read_manifest(default)
    other = Path(shutil.copytree(default, tmp_path / "model"))
    architecture = {"class_path": class_path, "init_args": {}}
    (other / MANIFEST).write_text(json.dumps(manifest | {"architecture": architecture}))
    with pytest.raises(ValueError, match=said):
        Segmenter([other])


def test_every_file_beside_the_manifest_is_held_against_its_checksum(
    default: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(default, tmp_path / "model"))
    for name in (GRAPH, CALIBRATION):
        (model / name).write_text("{}")
    written = write_manifest(read_manifest(model), model)
    assert set(written["sha256"]) == {WEIGHTS, GRAPH, CALIBRATION}
    (model / CALIBRATION).write_text("{ }")
    with pytest.raises(ValueError, match=r"calibration\.json is damaged, .*or calibrate the model again"):
        Segmenter([model])
    (model / CALIBRATION).unlink()
    (model / GRAPH).write_text("{ }")
    with pytest.raises(ValueError, match=r"model\.onnx is damaged"):
        read_checkpoint(model)
    weights = bytearray((model / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (model / WEIGHTS).write_bytes(weights)
    assert main(["export", "-o", str(model), "--check"]) == 1
    said = capsys.readouterr().out
    assert "calibration.json: is missing" in said
    assert f"model.onnx: has the SHA-256 {checksum(model / GRAPH)}; the manifest states" in said
    assert f"model.safetensors: has the SHA-256 {checksum(model / WEIGHTS)}; the manifest states" in said
    assert "model.safetensors: has other weights than " in said


def test_weights_of_another_model_are_told_though_their_checksum_is_right(
    default: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(default, tmp_path / "model"))
    tensors = load_file(model / WEIGHTS)
    tensors["network.head.bias"] += 1
    save_file(tensors, model / WEIGHTS, {"format": "pt"})
    write_manifest(read_manifest(model), model)
    assert main(["export", "-o", str(model), "--check"]) == 1
    assert "model.safetensors: has other weights than " in capsys.readouterr().out


@pytest.mark.slow
def test_a_figure_that_was_changed_is_found(
    folder: Path, infection_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = Path(shutil.copytree(folder, tmp_path / "model"))
    card = (changed / "model_card.md").read_text()
    (changed / "model_card.md").write_text(card.replace("| infection | RV | 0", "| infection | RV | 9", 1) + "more\n")
    assert main(["export", str(infection_run), "-o", str(changed), "--check"]) == 1
    assert "model_card.md: has " in capsys.readouterr().out
    run = Path(shutil.copytree(infection_run, tmp_path / "run" / "smoke" / "x"))
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"infection/dice_mean": 0.99}))
    assert main(["export", str(run), "-o", str(tmp_path / "new"), "--no-onnx"]) == 2
    assert "infection/dice_mean is 0.99 in metrics.json and 0." in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_damage_is_told_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(folder, tmp_path / "model"))
    weights = bytearray((damaged / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (damaged / WEIGHTS).write_bytes(weights)
    with pytest.raises(ValueError, match="is damaged, or of another model than the manifest beside it"):
        read_checkpoint(damaged)
    (damaged / WEIGHTS).unlink()
    with pytest.raises(ValueError, match="cannot be read with its manifest"):
        read_checkpoint(damaged)
    manifest = read_manifest(damaged)
    (damaged / MANIFEST).write_text(json.dumps(manifest | {"format": "ground-glass model 9"}))
    with pytest.raises(ValueError, match="is of the format 'ground-glass model 9'; expected 'ground-glass model 1'"):
        read_checkpoint(damaged)
    (damaged / MANIFEST).write_text("{")
    with pytest.raises(ValueError, match="is no model"):
        read_checkpoint(damaged)


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no model .* expected the best\.ckpt of a run"):
        read_checkpoint(tmp_path)


@pytest.mark.slow
def test_what_is_there_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "default", "-o", str(folder)]) == 2
    assert "exists already; name a new folder" in capsys.readouterr().err
