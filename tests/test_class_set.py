"""A class set of one file (experiments/classes/ild.yaml) from masks to every output, on a tiny phantom."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from harness import train_in_process
from predict_harness import predict

from ct.classes import class_set, read_class_set
from ct.files.read import read_mask, read_scan
from evaluation.report.write_reports import report_run
from evaluation.run_data import read_run
from evaluation.tables import finding_rows
from inference.overlays import all_overlays, findings_of, mask_of
from inference.scan_list import Source
from inference.segmenter import Segmenter
from training.checkpoint_file import load_checkpoint_file
from viewer.reader_masks import read_truth

pytestmark = pytest.mark.slow

ILD = read_class_set("ild")
# Codes of the phantom's masks as codes of this set.
ILD_CODE = {0: 0, 1: 1, 2: 1, 3: 7, 4: 0, 5: 2, 6: 3, 7: 4, 8: 5, 9: 6, 10: 6, 255: 255}
INSIDE = ("ground_glass", "reticulation", "honeycombing", "emphysema", "consolidation")


def with_effusion(codes: np.ndarray) -> np.ndarray:
    """The codes in this set, and fluid beside the lungs, behind and below, as far as they reach."""
    recoded = np.vectorize(ILD_CODE.get)(codes).astype(np.uint8)
    lung = (codes > 0) & (codes < 255) & (codes != 4)
    x, y, z = np.nonzero(lung)
    beside = np.zeros(codes.shape, bool)
    beside[x.min() : x.max() + 1, y.min() : y.max() + 1, z.min() : (z.min() + z.max()) // 2 + 1] = True
    recoded[beside & ~lung & (recoded == 0)] = 7
    return recoded


@pytest.fixture(scope="module")
def ild_cohort(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny phantom with masks of this set."""
    folder = tmp_path_factory.mktemp("ild")
    with cohort.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["pattern_mask"]]
    for row in rows:
        stored = nibabel.Nifti1Image.from_filename(cohort.parent / row["pattern_mask"])
        mask = folder / f"{row['scan_id']}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(with_effusion(np.asarray(stored.dataobj)), stored.affine), mask)
        row |= {"pattern_mask": mask.name, "infection_mask": "", "readers": "", "report": ""}
        row |= {name: str(cohort.parent / row[name]) for name in ("image", "lung_mask") if row[name]}
    with (folder / "cohort.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "cohort.csv"


@pytest.fixture(scope="module")
def run(ild_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("ild_work")
    more = ["--model.classes=ild", "--data.classes=ild", "--model.labels=hard"]
    more += ["--trainer.callbacks=null", "--trainer.callbacks+=callbacks.save_masks.SaveMasks"]
    more += ["--experiment=ild", "--trainer.max_epochs=12", "--optimizer.lr=0.01"]
    train_in_process("smoke_opacity", ild_cohort, work, *more)
    return (work / "runs" / "ild" / "latest").resolve()


def test_figures_are_those_of_the_set(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    for key in ("abnormal", *INSIDE, "effusion"):
        assert f"{key}/dice_mean" in metrics
        assert f"{key}/iou_pooled" in metrics
    assert not [key for key in metrics if key.startswith(("opacity/", "group_"))]
    assert {"abnormal", "ground glass", "effusion"} <= {row.label for row in finding_rows(metrics)}


def test_a_run_knows_its_set_and_counts_what_lies_outside(run: Path) -> None:
    assert class_set(json.loads((run / "classes.json").read_text())) == ILD
    saved = read_run(run)
    assert saved.classes == ILD
    assert saved.findings == ("abnormal", *INSIDE, "effusion")
    assert (saved.scans["effusion_tp"] + saved.scans["effusion_fn"]).sum() > 0


def test_a_report_is_drawn_of_it(run: Path) -> None:
    page = report_run(read_run(run)).read_text()
    assert "honeycombing" in page


def test_a_checkpoint_names_its_own_classes(run: Path) -> None:
    about = load_checkpoint_file(run / "best.ckpt")["ground_glass"]
    assert class_set(about["arguments"]["classes"]) == ILD
    assert set(about["validation"]) >= {f"{key}/dice_mean" for key in ("abnormal", "effusion")}


@pytest.fixture(scope="module")
def outputs(run: Path, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "scan"
    predict(run / "best.ckpt", cohort.parent / "images" / "B007", out)
    return out


def test_measurements_and_masks(outputs: Path, cohort: Path) -> None:
    measured = json.loads((outputs / "measurements.json").read_text())
    scan = read_scan(cohort.parent / "images" / "B007")
    leaves, lungs = (read_mask(outputs / f"{name}.nii.gz", scan) for name in ("groups", "lungs"))
    for index, leaf in enumerate(ILD.leaves):
        if index in ILD.foreground:
            found = leaves == index
            assert measured[f"{leaf.key}_ml"] == pytest.approx(found.sum() * scan.voxel_ml)
            assert not (found & ((lungs > 0) != leaf.in_lungs)).any(), f"{leaf.key} lies on the wrong side"
    abnormal = read_mask(outputs / "abnormal.nii.gz", scan) > 0
    assert measured["abnormal_ml"] == pytest.approx(abnormal.sum() * scan.voxel_ml)
    assert measured["severity_score"] == pytest.approx(abnormal.sum() / (lungs > 0).sum())
    fluid = leaves == ILD.indices_of("effusion")[0]
    assert fluid.any(), "nothing outside the lungs shows nothing"
    assert measured["effusion_mean_hu"] == pytest.approx(scan.hu[fluid].mean(), abs=0.01)


def test_dicom_objects_have_the_codes_of_the_set(outputs: Path) -> None:
    segments = pydicom.dcmread(outputs / "segmentation.dcm").SegmentSequence
    codes = [item.SegmentedPropertyTypeCodeSequence[0].CodeValue for item in segments]
    assert codes == ["39607008", "112120", "112113", "112106", "87433001", "95436008", "60046008"]
    assert [item.SegmentLabel for item in segments][-1] == "pleural effusion"
    assert "AnatomicRegionSequence" in segments[1]
    assert "AnatomicRegionSequence" not in segments[-1], "an effusion is not in the lung"
    report = (outputs / "measurements.dcm").read_bytes()
    assert b"Pleural effusion" in report
    assert b"Honeycomb pattern" in report


def test_the_page_names_what_is_looked_for(outputs: Path) -> None:
    html = (outputs / "report.html").read_text()
    for name in ("abnormal lung", "honeycombing", "pleural effusion"):
        assert name in html
    assert "group_" not in html


def test_the_viewer_s_overlays_and_truth(run: Path, cohort: Path, ild_cohort: Path) -> None:
    result = Segmenter([run / "best.ckpt"]).segment(Source("B007", cohort.parent / "images" / "B007"))
    overlays = all_overlays(result.masks, result.classes)
    assert [overlay.name for overlay in overlays] == [
        "normal lung",
        *(ILD.leaves[index].name for index in ILD.foreground),
    ]
    counted = np.sum([overlay.mask for overlay in overlays[1:]], axis=0)
    assert counted.max() == 1, "overlays share voxels"
    truth = read_truth(result.scan, ild_cohort.with_name("B007.nii.gz"), None, result.masks, ILD)
    for finding in findings_of(truth, ILD):
        drawn = mask_of(truth, ILD, finding.key)
        codes = read_mask(ild_cohort.with_name("B007.nii.gz"), result.scan)
        assert np.array_equal(drawn, np.isin(codes, ILD.codes_of(finding.key)))
