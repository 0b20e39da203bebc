"""model.onnx against `predict`: the resampling inside the graph, and the masks that come of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from phantom_scan import save_phantom
from places import ROOT

from ct.files.read import read_scan
from ct.lungs.find import find_lungs
from ct.resample import plan_transform
from ct.scan import Scan
from inference.load import load_module
from inference.portable import whole_scan
from inference.portable.whole_scan import WholeScan
from inference.scan_masks import segment_scan

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")
onnx_model = pytest.importorskip("inference.portable.onnx_model")

REAL = ROOT.parent / "shared" / "data"
SCANS = (
    "covidctmd_dev/P002_2x2x4mm.nii.gz", "covidctmd_dev/normal002_2x2x4mm.nii.gz", "cip_ct64/ct-64.nrrd",
    "ibsi_lung_ct/phantom.nii.gz", "elastix_ct/3DCT_lung.mha", "elastix_ct/3DCT_lung_baseline_small.mha",
    "covidctmd_dev/P002_dicom",
)  # fmt: skip
# Left out: cip_ct64/ct-64Dicom, ct-64.nrrd again; lungmask_dicom, which the gate refuses (one slice without
# Modality); cip_ct64/crop_ct_2slices.nrrd, in which nothing is found, so that empty masks would agree; medseg_dev and
# covid20_dev, pictures without the spacing that the graph takes; lidc_multireader, patches of nodules; mosmed_masks and
# lobe_masks_dev, masks without their scans.


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((20, 100, 90), (2.0, 3.0, 3.3)),  # thin: fewer slices; wider than it is high
        ((9, 64, 80), (5.0, 4.1, 4.1)),  # thick slices stay; coarser than the prepared grid, so interpolated
        ((1, 40, 41), (1.0, 5.0, 5.0)),
        ((7, 300, 256), (3.99999, 0.7, 0.9)),  # within rounding of 4 mm
        ((12, 128, 128), (4.0, 2.7, 2.7)),
    ],
)
def test_it_resamples_as_the_prepared_grid_does(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    whole = WholeScan(load_module("default"))
    rng = np.random.default_rng(sum(shape))
    hu, lungs = rng.integers(-1024, 600, shape).astype(np.int16), rng.random(shape) > 0.4
    transform = plan_transform(shape, spacing, whole.size)
    z, y, x = whole._axes(torch.from_numpy(hu), torch.tensor(spacing, dtype=torch.float64))
    forward = [whole_scan.forward_weights(axis) for axis in (z, y, x)]
    for weights, axis in zip(forward, (transform.z, transform.y, transform.x), strict=True):
        np.testing.assert_allclose(weights.numpy(), axis.forward().toarray(), atol=1e-6)
    for axes, axis in zip((z, y, x), (transform.z, transform.y, transform.x), strict=True):
        np.testing.assert_allclose(whole_scan.backward_weights(axes).numpy(), axis.inverse().toarray(), atol=1e-6)
    assert np.array_equal(
        whole_scan._nearest(torch.from_numpy(lungs), z, y, x).numpy(), transform.apply_mask(lungs) > 0
    )
    above = whole_scan._resampled(torch.from_numpy(hu).float() + 1024, *forward)
    assert np.abs(above.numpy() - 1024 - transform.apply_hu(hu)).max() <= 0.51


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The default model in onnxruntime."""
    path = onnx_model.write_onnx(load_module("default"), tmp_path_factory.mktemp("onnx"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def masks_of(session: Any, scan: Scan, lungs: np.ndarray) -> dict[str, np.ndarray]:
    """The masks that come of the graph."""
    described = json.loads(session.get_modelmeta().custom_metadata_map["ground_glass"])
    answer = session.run(None, {"hu": scan.hu, "lungs": lungs, "spacing_mm": np.array(scan.spacing_mm)})
    masks: dict[str, np.ndarray] = onnx_model.masks_of(dict(zip(described["outputs"], answer, strict=True)), lungs)
    return masks


def check(session: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the masks of a scan against those of `predict`, and their volumes against it in single precision."""
    scan = read_scan(path)
    lungs = find_lungs(scan).mask
    module = load_module("default")
    theirs = masks_of(session, scan, lungs)["infection"]
    ours = segment_scan(scan, lungs, [module]).masks["infection"]
    assert (theirs == ours).mean() >= 0.999
    monkeypatch.setattr("inference.scan_masks.fastest_precision", lambda: "32-true")
    exact = segment_scan(scan, lungs, [module]).masks["infection"]
    assert (theirs == exact).mean() >= 0.9999
    assert abs(int(theirs.sum()) - int(exact.sum())) <= 0.001 * exact.sum()


@pytest.mark.slow
@pytest.mark.parametrize(("size", "slices"), [(64, None), (96, 9)])
def test_its_masks_are_those_of_predict(
    session: Any, size: int, slices: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(session, save_phantom(tmp_path / "scan.nii.gz", size=size, slices=slices), monkeypatch)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", SCANS)
def test_its_masks_of_real_scans_are_those_of_predict(session: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(session, REAL / name, monkeypatch)
