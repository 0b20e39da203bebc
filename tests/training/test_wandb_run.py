"""What W&B is told of a run, read back from the file that `wandb sync` would send."""

import hashlib
import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from harness import EXPERIMENTS, train_in_process
from offline_run import OfflineRun, read_offline_run
from PIL import Image

from callbacks.write_results import per_site
from cohort.prepare.prepare_cohort import prepared_folder
from ct.classes import COLOUR_OF
from ct.colours import rgb_of
from train import main
from training.wandb_run import ALLOWED_KEYS, allowed_config, flatten, git_commit, is_plain, split_hash

# What an experiment may set and W&B must not know (paths), or need not (how the program runs, not what it computes).
WITHHELD = {
    "ckpt_path", "data.cohort", "data.prepared", "flips", "fresh", "members", "model.init_weights",
    "model.noise_model", "model.pretrained", "runs", "trainer.barebones", "trainer.callbacks",
    "trainer.default_root_dir", "trainer.detect_anomaly", "trainer.enable_autolog_hparams",
    "trainer.enable_checkpointing", "trainer.enable_model_summary",
    "trainer.enable_progress_bar", "trainer.inference_mode", "trainer.limit_predict_batches", "trainer.logger",
    "trainer.max_time", "trainer.model_registry", "trainer.num_sanity_val_steps", "trainer.plugins", "trainer.profiler",
    "trainer.reload_dataloaders_every_n_epochs", "trainer.use_distributed_sampler", "weights_only", "lr_scheduler",
    "trainer.callbacks.LearningRateMonitor.log_momentum", "trainer.callbacks.LearningRateMonitor.log_weight_decay",
}  # fmt: skip


def finished(folder: Path) -> OfflineRun:
    """A run that this process made: wandb writes the end of its file after it said that it was done."""
    for _ in range(100):
        run = read_offline_run(folder)
        if "exit" in run.kinds:
            return run
        time.sleep(0.1)
    raise AssertionError("the run never ended")


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [p for p in sorted(EXPERIMENTS.glob("*.yaml")) if p.stem != "base"], ids=lambda p: p.stem
)
def test_it_is_decided_of_every_option_whether_wandb_knows_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", f"--config={EXPERIMENTS / 'base.yaml'}", f"--config={path}", "--print_config"])
    keys = {key for key, _ in flatten(yaml.safe_load(capsys.readouterr().out))}
    assert {key for key in keys if not ALLOWED_KEYS.fullmatch(key)} <= WITHHELD


def test_nothing_is_both_allowed_and_withheld() -> None:
    assert not [key for key in WITHHELD if ALLOWED_KEYS.fullmatch(key)]


def test_only_plain_values_of_allowed_keys_are_sent(tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    config = {
        "experiment": "unet_em",
        "runs": "/data/Zelda",
        "model": {
            "class_path": "lightning_modules.consolidation.ConsolidationModule",
            "init_args": {"init_weights": str(tmp_path / "best.ckpt"), "window_hu": [-1000.0, 350.0]}
            | {"prior": {"class_path": "losses.em.Phi2", "init_args": {"b2": 9.0, "note": "of Zelda C."}}},
        },
        "data": {
            "class_path": "datamodules.infection_data.InfectionData",
            "init_args": {"cohort": "/z.csv", "size": 64},
        },
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 3e-4, "note": "of Zelda C.", "log": "/z"}},
        "trainer": {
            "max_epochs": 2,
            "callbacks": [
                {"class_path": "callbacks.relabel.Relabel", "init_args": {"every": "epoch", "batch_size": 32}},
                {"class_path": "mine.Keep", "init_args": {"dirpath": "/z", "every": "/z"}},
            ],
        },
    }
    assert allowed_config(config) == {
        "experiment": "unet_em",
        "model.class_path": "lightning_modules.consolidation.ConsolidationModule",
        "model.prior.class_path": "losses.em.Phi2",
        "model.prior.b2": 9.0,
        "model.window_hu": [-1000.0, 350.0],
        "data.class_path": "datamodules.infection_data.InfectionData",
        "data.size": 64,
        "optimizer.class_path": "torch.optim.Adam",
        "optimizer.lr": 3e-4,
        "trainer.max_epochs": 2,
        "trainer.callbacks.Relabel.class_path": "callbacks.relabel.Relabel",
        "trainer.callbacks.Relabel.every": "epoch",
        "trainer.callbacks.Relabel.batch_size": 32,
        "trainer.callbacks.Keep.class_path": "mine.Keep",
        "model.init_weights_sha256": hashlib.sha256(b"weights").hexdigest()[:12],
    }


@pytest.mark.parametrize("value", [Path("a"), "a/b", "Zelda C.", "x" * 81, ["a/b"], {"a": 1}, "C:\\a"])
def test_what_is_not_plain_stays(value: Any) -> None:
    assert not is_plain(value)


def test_split_hash_follows_the_assignment_alone() -> None:
    def data(**splits: str) -> Any:
        frames = {split: SimpleNamespace(scans=pd.DataFrame({"scan_id": list(ids)})) for split, ids in splits.items()}
        return SimpleNamespace(slice_table=frames.__getitem__)

    same = {split_hash(data(train=ids, val="c", test="d")) for ids in ("ab", "ba")}
    others = {split_hash(data(train="ac", val="b", test="d")), split_hash(data(train="a", val="c", test="d"))}
    assert len(same) == 1
    assert len(same | others) == 3


def test_table_of_sites() -> None:
    metrics = {"x": 9, "site/A/x": 1, "site/A/y/z": None, "site/B/C/x": 2.5}
    assert per_site(metrics, ["A", "B/C"]) == (["site", "x", "y/z"], [["A", 1, None], ["B/C", 2.5, None]])


def test_a_run_in_wandb(infection_run: Path) -> None:
    run = finished(infection_run)
    assert len(set(run.ids)) == 1
    config = yaml.safe_load((infection_run / "config.yaml").read_text())
    assert run.config["optimizer.lr"] == config["optimizer"]["init_args"]["lr"] == 3e-3
    assert run.config["model.network.channels"] == 8
    assert run.config["trainer.max_epochs"] == 6
    assert run.config["git_commit"] == git_commit()
    assert re.fullmatch(r"[0-9a-f]{40}(-changed)?|unknown", run.config["git_commit"])
    assert len(run.config["split_sha256"]) == 12
    assert not any("cohort" in key or "runs" in key for key in run.config)
    course = pd.read_csv(infection_run / "metrics.csv")["val/dice"].dropna()
    assert run.summary["val/dice"]["max"] == pytest.approx(course.max())
    assert course.max() != course.min()
    metrics = json.loads((infection_run / "metrics.json").read_text())
    assert run.summary["test/infection/dice_mean"] == pytest.approx(metrics["infection/dice_mean"])
    assert "environment" not in run.kinds  # command line, host, user, places of programs
    assert "output_raw" not in run.kinds  # what was printed


def test_the_same_slices_are_drawn_every_epoch(infection_run: Path) -> None:
    drawn = [row for row in finished(infection_run).history if "val/overlays.captions" in row]
    assert len(drawn) == 6
    captions = drawn[0]["val/overlays.captions"]
    assert len(captions) == 2  # one slice of each validation scan
    assert all(row["val/overlays.captions"] == captions for row in drawn)
    data = yaml.safe_load((infection_run / "config.yaml").read_text())["data"]["init_args"]
    index = pd.read_csv(prepared_folder(data["cohort"], data["size"], data["prepared"]) / "index.csv", dtype=str)
    assert {caption.split()[1] for caption in captions} <= set(index["patient_id"])
    assert all("green: infection" in caption for caption in captions)
    pictures = [
        [next(infection_run.glob(f"wandb/offline-run-*/files/{name}")) for name in row["val/overlays.filenames"]]
        for row in drawn
    ]
    for of_epoch in pictures:
        colours = {colour for path in of_epoch for _, colour in Image.open(path).getcolors(1 << 24) or []}
        assert rgb_of(COLOUR_OF["infection"]) in colours
    drawn_once = {tuple(path.read_bytes() for path in of_epoch) for of_epoch in pictures}
    assert len(drawn_once) > 1, "the model's outlines must change"


def test_sites_are_a_table(infection_run: Path) -> None:
    (row,) = (row for row in finished(infection_run).history if "test/sites.path" in row)
    (file,) = infection_run.glob(f"wandb/offline-run-*/files/{row['test/sites.path']}")
    table = json.loads(file.read_text())
    metrics = json.loads((infection_run / "metrics.json").read_text())
    column = table["columns"].index("infection/dice_mean")
    dice_of_site = {line[0]: line[column] for line in table["data"]}
    assert dice_of_site == {site: metrics[f"site/{site}/infection/dice_mean"] for site in "BC"}


@pytest.mark.slow
def test_a_model_is_kept_in_wandb_only_where_it_is_asked_for(cohort: Path, work: Path, infection_run: Path) -> None:
    assert not models(finished(infection_run))
    more = ["--trainer.max_epochs=1", "--trainer.callbacks+=callbacks.keep_model.KeepModel"]
    run = finished(train_in_process("smoke_infection", cohort, work / "kept", *more))
    assert models(run) == [f"model-{run.ids[0]}"]


def models(run: OfflineRun) -> list[str]:
    """Artifacts but for those that wandb makes of tables by itself."""
    return [name for name in run.artifacts if not name.startswith("run-")]
