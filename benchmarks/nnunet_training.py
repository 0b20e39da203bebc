"""Training of nnU-Net v2's 2D configuration within a budget of CPU time: its fingerprint, its plan and its trainer."""

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.dice_recorder import Recorder
from benchmarks.held_out_folds import Fold, HeldOutScan
from benchmarks.timed_training import poly
from machine.host_memory import keep_freed_memory
from machine.whole_file import whole_folder, write_json

PACKAGES = ("nnunetv2", "batchgeneratorsv2", "dynamic-network-architectures")
# Slices are given to it as 8-bit images, as these are published: 0 outside the lungs, a grey is 8 HU.
LOW_HU, HU_PER_GREY = -1350.0, 8.0
# Memory that its planner fills with a batch: 8 GB, its default, are batches of 5 % of the set, minutes of a CPU each.
PLANNED_GB = 3.0
BATCH_SIZE = 64  # of what is written


def greys(hu: NDArray[np.int16], lung: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the 8-bit images of slices (n, Y, X), 0 outside the lungs and only there."""
    return (np.clip(np.rint((hu - LOW_HU) / HU_PER_GREY), 1, 255) * lung).astype(np.uint8)


def write_dataset(fold: Fold, number: int, raw: Path) -> str:
    """Write the training slices of a fold as a data set of nnU-Net, a case each; return its name."""
    name = f"Dataset{number:03d}_Fold"
    if (raw / name).is_dir():
        return name
    raw.mkdir(parents=True, exist_ok=True)
    with whole_folder(raw / name) as folder:
        (folder / "imagesTr").mkdir()
        (folder / "labelsTr").mkdir()
        rows = np.sort(fold.own.train_indices(0))
        for batch in fold.own.batches("train", rows, BATCH_SIZE):
            lung = batch["lung"][:, 0].numpy()
            masks = ((batch["target"][:, 0].numpy() > 0) & lung).astype(np.uint8)
            images = greys(batch["image"][:, 0].numpy(), lung)
            for row, image, mask in zip(batch["slice_index"].tolist(), images, masks, strict=True):
                Image.fromarray(image).save(folder / "imagesTr" / f"slice_{row:05d}_0000.png")
                Image.fromarray(mask).save(folder / "labelsTr" / f"slice_{row:05d}.png")
        description = {
            "channel_names": {"0": "lungs of a CT"},
            "labels": {"background": 0, "infection": 1},
            "numTraining": len(rows),
            "file_ending": ".png",
        }
        write_json(description, folder / "dataset.json")
    return name


def planned(fold: Fold, number: int, out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the plans and the description of a fold's data set; plan and preprocess it unless that is done."""
    folders = {name: out / "nnunet" / name for name in ("raw", "preprocessed", "results")}
    # Its planner takes the number of its workers for that of threads, and needs one.
    os.environ |= {f"nnUNet_{name}": str(folder) for name, folder in folders.items()} | {"nnUNet_n_proc_DA": "1"}
    from nnunetv2.experiment_planning import plan_and_preprocess_api as planner

    name = write_dataset(fold, number, folders["raw"])
    folder = folders["preprocessed"] / name
    finished = folder / "finished"
    if not finished.is_file():
        planner.extract_fingerprints([number], num_processes=1)
        planner.plan_experiments([number], gpu_memory_target_in_gb=PLANNED_GB)
        planner.preprocess([number], configurations=("2d",), num_processes=(1,))
        finished.touch()
    return json.loads((folder / "nnUNetPlans.json").read_text()), json.loads((folder / "dataset.json").read_text())


class NnUNet:
    """nnU-Net's own trainer and predictor, step by step.

    Args:
        fold: The data.
        number: Of its data set.
        out: Where its folders go.
    """

    def __init__(self, fold: Fold, number: int, out: Path) -> None:
        plans, description = planned(fold, number, out)
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        device = torch.device("cpu")
        # No workers: all the work of a training is in this process, as that of the others.
        os.environ |= {"nnUNet_n_proc_DA": "0"}
        trainer = nnUNetTrainer(plans | {"continue_training": False}, "2d", "all", description, device)
        trainer.initialize()
        trainer.dataloader_train, _ = trainer.get_dataloaders()
        trainer.set_deep_supervision_enabled(True)
        trainer.network.train()
        # Nobody's slices are mirrored to predict them.
        predictor = nnUNetPredictor(
            use_mirroring=False, perform_everything_on_device=False, device=device, allow_tqdm=False
        )
        predictor.manual_initialization(
            trainer.network,
            trainer.plans_manager,
            trainer.configuration_manager,
            [trainer.network.state_dict()],  # shares its memory, so always the weights as they are
            description,
            "nnUNetTrainer",
            None,
        )
        self.trainer, self.predictor = trainer, predictor

    def step(self, share: float) -> None:
        """Take a step at the learning rate of a share of the training."""
        self.trainer.optimizer.param_groups[0]["lr"] = self.trainer.initial_lr * poly(share)
        self.trainer.train_step(next(self.trainer.dataloader_train))

    def predict(self, scan: HeldOutScan) -> NDArray[np.bool_]:
        """Predict infection, bool (n, Y, X)."""
        network = self.trainer.network.eval()
        self.trainer.set_deep_supervision_enabled(False)
        images = greys(scan.hu, scan.lung).astype(np.float32)
        geometry = {"spacing": (999, 1, 1)}  # as its reader of PNG gives it
        with contextlib.redirect_stdout(io.StringIO()):
            labels = [self._label(image, dict(geometry)) for image in images]
        self.trainer.set_deep_supervision_enabled(True)
        network.train()
        return np.stack(labels) == 1

    def _label(self, image: NDArray[np.float32], geometry: dict[str, Any]) -> NDArray[np.uint8]:
        label: NDArray[np.uint8] = self.predictor.predict_single_npy_array(image[None, None], geometry)[0]
        return label

    def save(self, path: Path) -> None:
        """Write network and optimizer."""
        state = {"network": self.trainer.network.state_dict(), "optimizer": self.trainer.optimizer.state_dict()}
        torch.save(state, path)

    def load(self, path: Path) -> None:
        """Read what `save` wrote."""
        state = torch.load(path, weights_only=True)
        self.trainer.network.load_state_dict(state["network"])
        self.trainer.optimizer.load_state_dict(state["optimizer"])


def train_nnunet(recorder: Recorder, out: Path) -> None:
    """Train nnU-Net: its batches, augmentation, loss, optimizer and schedule, which ends with the budget."""
    keep_freed_memory()
    model = NnUNet(recorder.fold, recorder.training.fold + 1, out)
    if recorder.state is not None:
        model.load(recorder.state)
    done = recorder.done
    recorder.start()
    while not done:
        model.step(recorder.share)
        done = recorder.step_done(model.predict, model.save)
