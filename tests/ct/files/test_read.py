import itertools
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from grey_slices import as_grey, chest, errors_hu
from numpy.typing import NDArray
from PIL import Image
from places import SHARED_DATA
from refusing import assert_refused
from small_ct import affine, ct

from ct.files.read import read_mask, read_pattern_mask, read_scan
from ct.files.write import write_dicom_series, write_mask, write_scan_nifti
from ct.grey_window import AUTO, GreyWindow, describe_windows

needs_shared = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"the real scans are not at {SHARED_DATA}")
ORIENTATIONS = [
    "".join(codes) for order in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*order)
]


def world_centroid(path: Path) -> NDArray[np.float64]:
    image = nibabel.Nifti1Image.from_filename(path)
    index = np.argwhere(np.asarray(image.dataobj) > 0)
    return (index @ image.affine[:3, :3].T + image.affine[:3, 3]).mean(axis=0)


@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_write_and_read_in_every_orientation(tmp_path: Path, axcodes: str) -> None:
    write_scan_nifti(ct(), affine(), tmp_path / "ct.nii.gz", axcodes)
    stored = nibabel.Nifti1Image.from_filename(tmp_path / "ct.nii.gz")
    assert "".join(nibabel.aff2axcodes(stored.affine)) == axcodes
    scan = read_scan(tmp_path / "ct.nii.gz")
    np.testing.assert_array_equal(scan.hu, ct())
    np.testing.assert_allclose(scan.affine, affine(), atol=1e-5)
    assert (scan.scan_id, scan.repairs) == ("ct", ())
    mask = scan.hu > 0
    write_mask(mask, scan, tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", scan), mask)
    written = nibabel.Nifti1Image.from_filename(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(written.affine, stored.affine)
    np.testing.assert_allclose(
        world_centroid(tmp_path / "mask.nii.gz"), world_centroid(tmp_path / "ct.nii.gz"), atol=1e-4
    )


def test_a_scan_owns_its_voxels(tmp_path: Path) -> None:
    write_scan_nifti(ct(), affine(), tmp_path / "ct.nii", "LPS")
    scan = read_scan(tmp_path / "ct.nii")
    (tmp_path / "ct.nii").write_bytes(b"")
    scan.hu[0] = 7
    np.testing.assert_array_equal(scan.hu[1:], ct()[1:])


@pytest.mark.parametrize("axcodes", ["LPS", "RAS", "SAR"])
def test_reading_holds_little_more_than_the_file_and_the_scan(tmp_path: Path, axcodes: str) -> None:
    write_scan_nifti(ct((40, 320, 320)), affine(), tmp_path / "ct.nii", axcodes)
    read_scan(tmp_path / "ct.nii")
    tracemalloc.start()
    try:
        scan = read_scan(tmp_path / "ct.nii")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 2.5 * scan.hu.nbytes


def test_other_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("no image")
    (tmp_path / "empty").mkdir()
    assert_refused(read_scan, tmp_path / "text.dcm", "not a readable DICOM")
    assert_refused(read_scan, tmp_path / "empty", "no DICOM file")
    assert_refused(read_scan, tmp_path / "absent.nii.gz", "no such file")


def test_greys_are_declared_for_volumes_and_images_but_not_for_dicom(tmp_path: Path) -> None:
    grey = np.arange(ct().size, dtype=np.uint8).reshape(ct().shape)
    write_scan_nifti(grey, affine(), tmp_path / "grey.nii", "SAR")
    scan = read_scan(tmp_path / "grey.nii", grey_hu=(-1000, 1550))
    np.testing.assert_array_equal(scan.hu, grey.astype(int) * 10 - 1000)
    assert (set(scan.grey_windows), scan.spacing_known) == ({GreyWindow(-1000, 1550)}, True)
    assert scan.repairs == ("values were turned into HU as declared: 0 is -1000 HU and 255 is 1550 HU",)
    assert_refused(read_scan, tmp_path / "grey.nii", "declare grey_low_hu and grey_high_hu")
    write_scan_nifti(ct(), affine(), tmp_path / "hu.nii")
    assert_refused(read_scan, tmp_path / "hu.nii", "values go down to -1000 although", grey_hu=(-1000, 1550))
    write_dicom_series(ct(), affine(), tmp_path / "dicom")
    assert_refused(read_scan, tmp_path / "dicom", "DICOM has its own rescale", grey_hu=(-1000, 1550))
    Image.fromarray(grey[0]).save(tmp_path / "one.png")
    image = read_scan(tmp_path / "one.png", "a", "M", grey_hu=(-1000, 1550))
    np.testing.assert_array_equal(image.hu, scan.hu[:1])
    assert (image.scan_id, image.site, image.spacing_known) == ("a", "M", False)
    assert_refused(read_scan, tmp_path / "one.png", "declare grey_low_hu")


def test_a_volume_of_greys_has_one_window_where_it_is_estimated(tmp_path: Path) -> None:
    greys = as_grey(chest().hu, -1250, 250)
    write_scan_nifti(greys, affine(), tmp_path / "grey.nii")
    scan = read_scan(tmp_path / "grey.nii", grey_hu=AUTO)
    (window,) = set(scan.grey_windows)
    assert len(scan.grey_windows) == len(scan.hu)
    assert np.abs(errors_hu(window, -1250, 250)).max() < 60
    assert window.low_hu < -1024 < window.high_hu  # so that the lowest HU are cut, as those of every volume
    expected = np.rint(window.low_hu + greys * ((window.high_hu - window.low_hu) / 255)).clip(-1024)
    np.testing.assert_array_equal(scan.hu, expected)
    assert scan.repairs[0] == describe_windows([window])


def test_greys_that_cannot_be_estimated_are_refused(tmp_path: Path) -> None:
    write_scan_nifti(ct(), affine(), tmp_path / "hu.nii")
    assert_refused(read_scan, tmp_path / "hu.nii", "expected grey values from 0 to 255, since", grey_hu=AUTO)
    greys = as_grey(chest().hu, -1250, 250)
    values = greys.T.astype(np.float32)
    values[0, 0, 0] = np.nan
    nibabel.nifti1.Nifti1Image(values, affine()).to_filename(tmp_path / "nan.nii")
    assert_refused(read_scan, tmp_path / "nan.nii", "values from nan to nan; expected grey values", grey_hu=AUTO)
    write_scan_nifti((greys > 100).astype(np.uint8), affine(), tmp_path / "mask.nii")
    assert_refused(read_scan, tmp_path / "mask.nii", "has 2 grey values; expected 16 at least", grey_hu=AUTO)
    write_dicom_series(ct(), affine(), tmp_path / "dicom")
    assert_refused(read_scan, tmp_path / "dicom", "DICOM has its own rescale", grey_hu=AUTO)


def test_masks_are_refused_rather_than_resampled(tmp_path: Path) -> None:
    write_scan_nifti(ct(), affine(), tmp_path / "ct.nii")
    scan = read_scan(tmp_path / "ct.nii")
    shifted = affine()
    shifted[0, 3] += 1.0
    write_scan_nifti((ct() > 0).astype(np.uint8), shifted, tmp_path / "shifted.nii")
    with pytest.raises(ValueError, match=r"0\.67 voxels away"):
        read_mask(tmp_path / "shifted.nii", scan)
    write_scan_nifti((ct((4, 5, 7)) > 0).astype(np.uint8), affine(), tmp_path / "wide.nii")
    with pytest.raises(ValueError, match=r"expected the scan's \(4, 5, 6\)"):
        read_mask(tmp_path / "wide.nii", scan)
    for value in (0.5, np.nan, 70000):
        nibabel.save(nibabel.Nifti1Image(np.full((6, 5, 4), value, dtype=np.float32), affine()), tmp_path / "bad.nii")
        with pytest.raises(ValueError, match="whole numbers"):
            read_mask(tmp_path / "bad.nii", scan)


@pytest.mark.parametrize("shift_mm", [0.9, -0.9, 1.1])
def test_an_nrrd_mask_of_a_nifti_scan(tmp_path: Path, shift_mm: float) -> None:
    write_scan_nifti(ct(), affine(), tmp_path / "ct.nii", "RSA")
    scan = read_scan(tmp_path / "ct.nii")
    image = SimpleITK.GetImageFromArray((ct()[::-1] == 400).astype(np.uint8))
    image.SetSpacing((1.5, 2.0, 7.0))
    image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, -1))
    image.SetOrigin((-101.0, -57.0 + shift_mm, -300.0 + 3 * 7.0))
    SimpleITK.WriteImage(image, str(tmp_path / "mask.nrrd"))
    if abs(shift_mm) > 1.0:
        with pytest.raises(ValueError, match=r"0\.55 voxels away"):
            read_mask(tmp_path / "mask.nrrd", scan)
    else:
        np.testing.assert_array_equal(read_mask(tmp_path / "mask.nrrd", scan), ct() == 400)


def test_a_mask_that_was_saved_with_a_scaling(tmp_path: Path) -> None:
    write_scan_nifti(ct(), affine(), tmp_path / "ct.nii", "LPS")
    scan = read_scan(tmp_path / "ct.nii")
    image = nibabel.Nifti1Image((ct() > 0).astype(np.float64).transpose(2, 1, 0) * 3, affine())
    image.header.set_data_dtype(np.int16)
    image.to_filename(tmp_path / "mask.nii")
    stored: Any = nibabel.load(tmp_path / "mask.nii")
    assert stored.dataobj.slope != 1
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii", scan), (ct() > 0) * 3)


def test_pattern_masks(tmp_path: Path) -> None:
    write_scan_nifti(ct(), affine(), tmp_path / "ct.nii")
    scan = read_scan(tmp_path / "ct.nii")
    codes = np.zeros(ct().shape, dtype=np.uint8)
    codes[0, 0, :3] = (255, 10, 7)
    write_mask(codes, scan, tmp_path / "codes.nii")
    np.testing.assert_array_equal(read_pattern_mask(tmp_path / "codes.nii", scan)[0, 0], [-1, 10, 7, 0, 0, 0])
    codes[0, 0, 0] = 11
    write_mask(codes, scan, tmp_path / "codes.nii")
    with pytest.raises(ValueError, match="pattern codes from 0 to 11"):
        read_pattern_mask(tmp_path / "codes.nii", scan)


@needs_shared
@pytest.mark.shared_data
def test_real_nifti_nrrd_and_dicom_scans() -> None:
    folder = SHARED_DATA / "cip_ct64"
    nrrd, dicom = read_scan(folder / "ct-64.nrrd"), read_scan(folder / "ct-64Dicom")
    assert nrrd.hu.shape == (79, 64, 64)
    np.testing.assert_array_equal(nrrd.hu, dicom.hu)
    np.testing.assert_allclose(nrrd.affine, dicom.affine, atol=1e-3)
    assert read_mask(folder / "wholeLung-64.nrrd", dicom).any()
    assert read_scan(folder / "crop_ct_2slices.nrrd").hu.shape == (2, 349, 443)
    lung = read_scan(SHARED_DATA / "ibsi_lung_ct" / "phantom.nii.gz")
    assert (lung.hu.min(), lung.hu.max(), lung.repairs) == (-1000, 3065, ())
    assert read_mask(SHARED_DATA / "ibsi_lung_ct" / "mask.nii.gz", lung).max() == 1
    assert read_scan(SHARED_DATA / "covidctmd_dev" / "P002_2x2x4mm.nii.gz").hu.shape == (66, 154, 154)
    assert read_scan(SHARED_DATA / "covidctmd_dev" / "normal002_2x2x4mm.nii.gz").hu.shape == (83, 192, 192)


@needs_shared
@pytest.mark.shared_data
def test_real_compressed_dicom_lies_where_the_volume_made_from_it_lies() -> None:
    slices = read_scan(SHARED_DATA / "covidctmd_dev" / "P002_dicom")
    volume = read_scan(SHARED_DATA / "covidctmd_dev" / "P002_2x2x4mm.nii.gz")
    assert slices.hu.shape == (20, 512, 512)
    centre = slices.affine @ [256, 256, 10, 1]
    x, y, z = np.rint(np.linalg.solve(volume.affine, centre)[:3]).astype(int)
    around = volume.hu[z, y - 30 : y + 30, x - 30 : x + 30]
    fine = slices.hu[10, 256 - 99 : 256 + 99, 256 - 99 : 256 + 99]
    assert abs(float(np.mean(around)) - float(np.mean(fine))) < 25


@needs_shared
@pytest.mark.shared_data
def test_real_slice_without_modality_gets_one_sentence() -> None:
    assert_refused(
        read_scan, SHARED_DATA / "lungmask_dicom" / "0.dcm", "one slice whose Modality is missing; expected 'CT'"
    )
