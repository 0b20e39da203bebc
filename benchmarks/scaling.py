"""Bytes that ranks exchange and hold, measured on the real objects and scaled to a million scans: tables, a JSON line.

python -m benchmarks.scaling
"""

import json
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from datamodules.slices import SliceTable
from evaluation.tables import markdown
from lightning_modules.consolidation import ConsolidationModule
from lightning_modules.infection import InfectionModule
from lightning_modules.latent import MaskStore
from lightning_modules.opacity import OpacityModule
from metrics.hu_histogram import HuHistogram

MEASURED = 1000  # slices
SIZE = 256
SLICES_PER_SCAN = 60  # a chest of 300 mm in slices of 5 mm
TRAIN, TEST = 0.8, 0.1
SCANS = (100, 10_000, 1_000_000)
MODULES: dict[str, nn.Module] = {
    "stage 1": InfectionModule(),
    "stage 2 (EM)": ConsolidationModule(),
    "opacity, UNet": OpacityModule(),
}


def bytes_of(tensors: Any) -> int:
    """Sum the bytes of all tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def state_bytes_per_slice(module: nn.Module) -> float:
    """Return the bytes of evaluation tables for a slice."""
    states = [state for table in module.modules() for state in getattr(table, "_defaults", {}).values()]
    return bytes_of(states) / MEASURED


def exchanged(module: Any) -> dict[str, float]:
    """Return the bytes exchanged by all ranks: in a step, once an epoch, and in a test for each slice."""
    norms = [n for n in module.modules() if isinstance(n, nn.BatchNorm2d) and n.weight.requires_grad]
    return {
        "step_gradients": bytes_of(p for p in module.parameters() if p.requires_grad),
        # Mean and variance forward, and the gradients of both backward.
        "step_sync_batchnorm": 4 * sum(4 * norm.num_features for norm in norms),
        "epoch_buffers": bytes_of(module.buffers()),
        "test_per_slice": state_bytes_per_slice(nn.ModuleDict(module.new_tables(MEASURED))),
    }


def held() -> dict[str, float]:
    """Return the bytes that a rank holds for a slice: latent labels and regions of stage 2, and the table of slices."""
    store = MaskStore(MEASURED, (SIZE, SIZE), torch.device("cpu"))
    scans = pd.DataFrame(
        {"scan_id": ["S000001"] * MEASURED, "patient_id": ["p0123456789ab"] * MEASURED, "site": ["A"] * MEASURED}
        | {"split": "train", "folder": "prepared/0123456789abcdef/S000001", "weak_label": 1, "slices": SLICES_PER_SCAN}
        | {"spacing_z_mm": 5.0, "spacing_y_mm": 1.5, "spacing_x_mm": 1.5}
    )
    rows = np.arange(MEASURED)
    table = SliceTable(scans, rows, rows)
    per_scan = scans.memory_usage(deep=True).sum() / MEASURED
    return {
        "latent_per_train_slice": 2 * (bytes_of([store._bits, store.known])) / MEASURED,
        "table_per_slice": (table.scan.nbytes + table.z.nbytes) / MEASURED + per_scan / SLICES_PER_SCAN,
        "thresholds_per_val_slice": 2 * bytes_of(HuHistogram(MEASURED)._defaults.values()) / MEASURED,
    }


def readable(size: float) -> str:
    """Format bytes with a prefix."""
    for prefix in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {prefix}"
        size /= 1000
    return f"{size:.3g} TB"


def grown(of_em: dict[str, float], of_rank: dict[str, float]) -> list[list[str]]:
    """Return a row per number of scans with what stage 2 exchanges and holds."""
    rows = []
    for scans in SCANS:
        slices = scans * SLICES_PER_SCAN
        figures = (
            of_em["test_per_slice"] * TEST * slices,
            of_rank["thresholds_per_val_slice"] * (1 - TRAIN - TEST) * slices,
            of_rank["latent_per_train_slice"] * TRAIN * slices,
            of_rank["table_per_slice"] * slices,
            (2 + 1) * SIZE * SIZE * slices,  # hu.npy and lung.npy
        )
        rows.append([f"{scans:,}", f"{slices:,}", *map(readable, figures)])
    return rows


def main() -> None:
    """Print both tables and the line."""
    exchange, rank = {name: exchanged(module) for name, module in MODULES.items()}, held()
    keys = list(next(iter(exchange.values())))
    print(markdown(["training", *keys], [[n, *(readable(v[key]) for key in keys)] for n, v in exchange.items()]))
    head = ["scans", "slices", "test tables", "validation histograms", "latent labels", "table of slices", "prepared"]
    print(markdown(head, grown(exchange["stage 2 (EM)"], rank)))
    print(json.dumps({"name": "scaling", "exchanged_bytes": exchange, "held_bytes": rank, "n": MEASURED}))


if __name__ == "__main__":
    main()
