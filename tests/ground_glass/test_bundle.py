"""The MONAI bundle: MONAI itself runs and verifies it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from monai.bundle.scripts import run, verify_metadata, verify_net_in_out
from phantom_scan import save_phantom

from ct.files.nifti import read_nifti
from ground_glass.__main__ import main

# What MONAI's specification of a bundle calls mandatory in its metadata (its schema is a file on the network, which no
# release of MONAI has).
REQUIRED = (
    "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version",
    "optional_packages_version", "task", "description", "authors", "copyright", "network_data_format",
)  # fmt: skip
OF_TENSOR = {
    "type": {"enum": ["image", "series", "tuples", "probabilities"]}, "format": {"type": "string"},
    "num_channels": {"type": "integer", "minimum": 1}, "dtype": {"type": "string"},
    "spatial_shape": {"type": "array", "minItems": 2, "items": {"type": ["integer", "string"]}},
    "value_range": {"type": "array"}, "is_patch_data": {"type": "boolean"}, "channel_def": {"type": "object"},
}  # fmt: skip
TENSORS = {"type": "object", "additionalProperties": {"required": list(OF_TENSOR), "properties": OF_TENSOR}}
FORMAT = {"required": ["inputs", "outputs"], "properties": {"inputs": TENSORS, "outputs": TENSORS}}
SCHEMA = {"type": "object", "required": list(REQUIRED), "properties": {"network_data_format": FORMAT}}


@pytest.mark.slow
def test_monai_runs_it_and_verifies_it(infection_run: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "model"
    assert main(["export", str(infection_run), "-o", str(bundle), "--no-onnx"]) == 0
    configs = bundle / "configs"
    metadata = json.loads((configs / "metadata.json").read_text())
    assert set(REQUIRED) <= set(metadata)
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    meta, config = str(configs / "metadata.json"), str(configs / "inference.json")
    verify_metadata(meta_file=meta, filepath=str(schema))
    page = (bundle / "docs" / "README.md").read_text()
    assert "python -m monai.bundle run --config_file configs/inference.json --bundle_root ." in page
    assert set(re.findall(r"`([\w/]+\.(?:md|json|safetensors))`", page)) <= {
        path.relative_to(bundle).as_posix() for path in bundle.rglob("*.*")
    }
    verify_net_in_out(net_id="network_def", meta_file=meta, config_file=config, device="cpu", bundle_root=str(bundle))
    save_phantom(tmp_path / "scans" / "a.nii.gz", slices=9)
    scans, out = str(tmp_path / "scans"), str(tmp_path / "theirs")
    run(run_id="run", config_file=config, bundle_root=str(bundle), dataset_dir=scans, output_dir=out)
    assert main(["predict", str(tmp_path / "scans"), "-o", str(tmp_path / "ours"), "--ckpt", str(bundle)]) == 0
    theirs, ours = (
        read_nifti(tmp_path / folder / "scan-0001" / "infection.nii.gz").values for folder in ("theirs", "ours")
    )
    assert np.array_equal(theirs, ours)
