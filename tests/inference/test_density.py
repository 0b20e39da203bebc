"""Density of regions against their voxels, the same however the scan is stored, and what warns of it."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_harness import write_series
from numpy.typing import NDArray
from places import SHARED_DATA
from scipy import stats

from ct.classes import EM
from ct.files.read import read_mask, read_scan
from ct.grey_window import GreyWindow
from ct.lungs.fissure_shapes import LOBES
from ct.lungs.vessels import vessel_mask
from ct.scan import Grid, Scan, grid_facing, to_canonical, to_source
from inference.density import density_warnings, measure_density
from inference.measure import measure
from inference.result import Measurements

AFFINE = np.diag([-1.2, -1.1, 2.0, 1.0])
CIP = SHARED_DATA / "cip_ct64"
BoolArray = NDArray[np.bool_]


def chest() -> tuple[Scan, BoolArray, NDArray[np.int8]]:
    """Two blocks of lung with noise and a few thick lines, and a lobe for each voxel: the front of each is the last."""
    rng = np.random.default_rng(0)
    lung, lobes = np.zeros((15, 40, 70), np.bool_), np.zeros((15, 40, 70), np.int8)
    lung[2:13, 5:36, 5:30], lung[3:13, 8:34, 40:65] = True, True
    hu = rng.normal(-850, 60, lung.shape) + 300 * np.linspace(0, 1, 40)[:, None]
    hu[:, 10:34:6, 8:64:7] += 700
    lobes[2:8, :, :35], lobes[8:11, :, :35], lobes[11:, :, :35], lobes[:8, :, 35:], lobes[8:, :, 35:] = 3, 2, 1, 5, 4
    scan = Scan(np.where(lung, hu, 40).astype(np.int16), AFFINE, Grid((70, 40, 15), AFFINE), "x")
    return scan, lung, np.where(lung, lobes, 0).astype(np.int8)


def test_every_region_is_measured_on_its_own_voxels() -> None:
    scan, lung, lobes = chest()
    opacity = lung & (np.arange(70) < 15)
    measured = measure_density(scan, lung, lobes, opacity)
    columns, rows = np.arange(70), np.arange(40)[:, None]
    regions = {"lung": lung, "right": lung & (columns < 35), "left": lung & (columns >= 35)}
    regions |= {name: lobes == number for number, name in enumerate(LOBES, 1)}
    regions |= {"ventral": lung & (rows < 20), "dorsal": lung & (rows >= 20)}
    bare = ~vessel_mask(scan.hu, lung, scan.spacing_mm, opacity)
    assert 0.005 < np.mean(~bare[lung]) < 0.2
    for region, mask in regions.items():
        for suffix, part in (("", mask), ("_without_vessels", mask & bare)):
            hu = scan.hu[part].astype(float)
            expected = {
                "emphysema_percent": 100 * np.mean(hu < -950),
                "haa_percent": 100 * np.mean((hu >= -600) & (hu <= -250)),
                "percentile_15_hu": np.percentile(hu, 15, method="inverted_cdf"),
                "mean_hu": hu.mean(),
                "sd_hu": hu.std(),
                "skewness": stats.skew(hu),
                "kurtosis": stats.kurtosis(hu),
                "mass_g": np.maximum(hu + 1000, 0).sum() / 1000 * 1.2 * 1.1 * 2 / 1000,
            }
            values = {name: measured[f"{region}_{name}{suffix}"] for name in expected}
            assert values == pytest.approx(expected), (region, suffix)


def known(measured: Measurements) -> dict[str, float]:
    """Return what is known of measurements: here, all but the lobes."""
    return {name: value for name, value in measured.items() if value is not None}


def test_names_and_values_agree_with_the_other_measurements() -> None:
    scan, lung, lobes = chest()
    other = measure(scan, {"lungs": lung, "infection": lung}, EM)
    measured = measure_density(scan, lung, lobes)
    assert measured["lung_mean_hu"] == pytest.approx(other["lung_mean_hu"], rel=1e-12)
    assert measured["lung_mass_g"] == pytest.approx(other["infection_mass_g"], rel=1e-12)
    assert len(measured) == 2 * 13 * (3 + 5 + 2)
    without = measure_density(scan, lung)
    assert without == {name: None if "_lobe_" in name else value for name, value in measured.items()}


@pytest.mark.parametrize("axcodes", ["LPS", "RAS", "PIR", "ASL"])
def test_orientation_of_the_file_does_not_matter(axcodes: str) -> None:
    scan, lung, lobes = chest()
    grid = grid_facing(scan.hu.shape, AFFINE, axcodes)
    hu, affine = to_canonical(to_source(scan.hu, grid), grid.affine)
    again, _ = to_canonical(to_source(lung, grid), grid.affine)
    of_lobes, _ = to_canonical(to_source(lobes, grid), grid.affine)
    assert measure_density(Scan(hu, affine, grid, "x"), again, of_lobes) == measure_density(scan, lung, lobes)


def test_a_prone_patient_is_no_other_patient(tmp_path: Path) -> None:
    scan, lung, _ = chest()
    # Prone, the rows of the image run from the back to the front and its columns from left to right.
    prone = np.diag([1.2, 1.1, 2.0, 1.0])
    measured = []
    for name, affine, step in (("supine", AFFINE, 1), ("prone", prone, -1)):
        for kind, array in (("ct", scan.hu), ("lung", lung.astype(np.int16))):
            image = nibabel.Nifti1Image(array.transpose(2, 1, 0)[::step, ::step], affine)
            image.to_filename(tmp_path / f"{name}_{kind}.nii.gz")
        read = read_scan(tmp_path / f"{name}_ct.nii.gz")
        mask = read_mask(tmp_path / f"{name}_lung.nii.gz", read, [], "lung mask") != 0
        measured.append(known(measure_density(read, mask)))
    assert measured[0] == pytest.approx(measured[1], rel=1e-6)
    ventral, dorsal = (measured[1][f"{half}_mean_hu"] for half in ("ventral", "dorsal"))
    assert ventral is not None
    assert dorsal is not None
    assert dorsal - ventral > 100, "the back is denser"


@pytest.mark.parametrize("width", [((0, 0), (7, 0), (0, 0)), ((3, 1), (0, 12), (5, 2))])
def test_padding_does_not_matter(width: tuple[tuple[int, int], ...]) -> None:
    scan, lung, lobes = chest()
    padded = replace(scan, hu=np.pad(scan.hu, width, constant_values=-1024))
    measured = measure_density(padded, np.pad(lung, width), np.pad(lobes, width))
    assert measured == measure_density(scan, lung, lobes)


def test_what_is_undefined_is_none() -> None:
    scan, lung, lobes = chest()
    measured = measure_density(scan, lung, np.where(lobes == 2, 0, lobes))
    undefined = {name for name, value in measured.items() if value is None}
    assert undefined == {name for name in measured if name.startswith("right_middle_lobe_")}
    one = measure_density(scan, lung & (np.arange(70) < 35))
    assert [one["right_mean_hu"], one["left_mean_hu"]].count(None) == 1
    assert set(measure_density(scan, lung & False, lobes * 0).values()) == {None}
    unknown = measure_density(replace(scan, affine=np.eye(4), spacing_known=False), lung)
    undefined = {name for name, value in unknown.items() if value is None and "_lobe_" not in name}
    assert undefined == {n for n in unknown if n.endswith(("_mass_g", "_without_vessels")) and "_lobe_" not in n}
    assert not any(value is not None and np.isnan(value) for value in unknown.values())


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"needs the real scans in {SHARED_DATA}")
def test_dicom_and_nifti_of_the_same_voxels_are_the_same(tmp_path: Path) -> None:
    nrrd, dicom = read_scan(CIP / "ct-64.nrrd"), read_scan(CIP / "ct-64Dicom")
    image = nibabel.Nifti1Image(to_source(nrrd.hu, nrrd.source), nrrd.source.affine)
    image.to_filename(tmp_path / "ct.nii.gz")
    nifti = read_scan(tmp_path / "ct.nii.gz")
    lung = read_mask(CIP / "wholeLung-64.nrrd", nrrd, [], "lung mask") != 0
    measured = known(measure_density(nrrd, lung))
    assert measured["lung_mean_hu"] == pytest.approx(nrrd.hu[lung].mean())
    assert known(measure_density(nifti, lung)) == pytest.approx(measured, rel=1e-5)
    np.testing.assert_array_equal(dicom.hu, nrrd.hu)
    assert known(measure_density(dicom, lung)) == pytest.approx(measured, rel=1e-4)


PLAIN = {"Manufacturer": "SIEMENS", "ConvolutionKernel": "B30f", "SliceThickness": "1.0", "Exposure": "90"}


def warnings_of(folder: Path, **tags: object) -> tuple[str, ...]:
    """Return the warnings of a series whose slices have these tags beside plain ones."""
    return density_warnings(read_scan(write_series(folder, None, **PLAIN | tags)))


def test_a_plain_series_is_not_warned_of(tmp_path: Path) -> None:
    assert warnings_of(tmp_path) == ()


@pytest.mark.parametrize(
    ("tags", "sentence"),
    [
        ({"SliceThickness": "5"}, "slices are 5 mm thick, more than 3 mm"),
        ({"SliceThickness": None}, "slices lie 5 mm apart, more than 3 mm"),
        ({"SliceThickness": "0"}, "slices lie 5 mm apart"),
        ({"ConvolutionKernel": "B70f"}, "the kernel is sharp"),
        ({"ConvolutionKernel": ["Br64d", "3"]}, "the kernel is sharp"),
        ({"Manufacturer": "GE MEDICAL SYSTEMS", "ConvolutionKernel": "BONEPLUS"}, "the kernel is sharp"),
        ({"Manufacturer": "Philips", "ConvolutionKernel": "YA"}, "the kernel is sharp"),
        ({"Manufacturer": "TOSHIBA", "ConvolutionKernel": "FC51"}, "the kernel is sharp"),
        ({"ContrastBolusAgent": "Omnipaque 300"}, "contrast medium was given"),
        ({"Exposure": "12"}, "the dose is low, 12 mAs, less than 30"),
        ({"Exposure": "", "ExposureInuAs": "12000"}, "the dose is low, 12 mAs"),
    ],
)
def test_each_reason_has_its_sentence(tmp_path: Path, tags: dict[str, object], sentence: str) -> None:
    (warning,) = warnings_of(tmp_path, **tags)
    assert warning.startswith(sentence)


@pytest.mark.parametrize(
    "tags",
    [
        {"ConvolutionKernel": "D40s"},
        {"ConvolutionKernel": "YA"},  # another maker's
        {"ConvolutionKernel": ""},
        {"Manufacturer": "GE MEDICAL SYSTEMS", "ConvolutionKernel": "STANDARD"},
        {"Manufacturer": "Philips", "ConvolutionKernel": "B"},
        {"Manufacturer": "TOSHIBA", "ConvolutionKernel": "FC03"},
        {"ContrastBolusAgent": "NONE"},
        {"ContrastBolusAgent": "Gastrografin", "ContrastBolusRoute": "ORAL"},
        {"Exposure": ""},
        {"Exposure": "0"},
    ],
)
def test_what_is_usual_or_unknown_has_none(tmp_path: Path, tags: dict[str, object]) -> None:
    assert warnings_of(tmp_path, **tags) == ()


def test_a_sentence_repeats_no_text_of_the_header(tmp_path: Path) -> None:
    tags = {"ContrastBolusAgent": "for Mr Smith", "ConvolutionKernel": "B70f", "PatientName": "Smith"}
    for warning in density_warnings(read_scan(write_series(tmp_path, None, **PLAIN | tags))):
        assert "mith" not in warning + warning.public
        assert warning == warning.public


def test_files_that_have_gone_leave_the_distance_of_slices(tmp_path: Path) -> None:
    scan = read_scan(write_series(tmp_path, None, **PLAIN | {"ConvolutionKernel": "B70f"}))
    for file in tmp_path.glob("*.dcm"):
        file.unlink()
    (warning,) = density_warnings(scan)
    assert warning.startswith("slices lie 5 mm apart")


def test_greys_and_unknown_spacing_are_warned_of() -> None:
    scan, _, _ = chest()
    assert density_warnings(scan) == ()
    unknown = replace(scan, affine=np.eye(4), spacing_known=False, grey_windows=(GreyWindow(-1000, 400),))
    assert [warning[:22] for warning in density_warnings(unknown)] == [
        "HU are declared greys,",
        "the spacing of the sca",
    ]
    estimated = replace(scan, grey_windows=(GreyWindow(-1000, 400, 50.0),))
    assert [warning[:16] for warning in density_warnings(estimated)] == ["HU are estimated"]
