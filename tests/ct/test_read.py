import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from ct.read import read_mask, read_pattern_mask, read_scan
from ct.scan import to_source
from ct.write import write_mask, write_scan_nifti

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real scans are not at {SHARED}")
ORIENTATIONS = [
    "".join(codes) for order in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*order)
]


def ct(shape=(4, 5, 6)):
    hu = np.full(shape, -1000, dtype=np.int16)
    hu[1, 2, 4], hu[3, 0, 1] = 60, 400
    return hu


def affine():
    matrix = np.diag([-1.5, -2.0, 7.0, 1.0])
    matrix[:3, 3] = (101.0, 57.0, -300.0)
    return matrix


def save(array, matrix, path):
    image = nibabel.Nifti1Image(array, matrix)
    image.set_qform(matrix, 1)
    image.set_sform(matrix, 1)
    image.to_filename(path)
    return path


def overwrite(path, value_at):
    """Put values into the stored header, past all checks of a library."""
    raw = bytearray(path.read_bytes())
    for at, value in value_at.items():
        raw[at : at + value.nbytes] = value.tobytes()
    path.write_bytes(raw)


def world_centroid(path):
    image = nibabel.load(path)
    index = np.argwhere(np.asarray(image.dataobj) > 0)
    return (index @ image.affine[:3, :3].T + image.affine[:3, 3]).mean(axis=0)


@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_write_and_read_in_every_orientation(tmp_path, axcodes):
    write_scan_nifti(ct(), affine(), tmp_path / "ct.nii.gz", axcodes)
    assert "".join(nibabel.aff2axcodes(nibabel.load(tmp_path / "ct.nii.gz").affine)) == axcodes
    scan = read_scan(tmp_path / "ct.nii.gz")
    np.testing.assert_array_equal(scan.hu, ct())
    np.testing.assert_allclose(scan.affine, affine(), atol=1e-5)
    assert (scan.scan_id, scan.repairs) == ("ct", ())
    mask = scan.hu > 0
    write_mask(mask, scan, tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", scan), mask)
    written = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(written.affine, nibabel.load(tmp_path / "ct.nii.gz").affine)
    np.testing.assert_allclose(
        world_centroid(tmp_path / "mask.nii.gz"), world_centroid(tmp_path / "ct.nii.gz"), atol=1e-4
    )


def test_mask_in_another_axis_order_than_its_scan(tmp_path):
    write_scan_nifti(ct(), affine(), tmp_path / "ct.nii", "RAS")
    write_scan_nifti((ct() > 0).astype(np.uint8), affine(), tmp_path / "mask.nii", "SLP")
    scan = read_scan(tmp_path / "ct.nii")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii", scan), ct() > 0)


def test_float_values_scaling_and_a_fourth_axis_of_one(tmp_path):
    stored = ct().transpose(2, 1, 0)
    save(stored[..., None].astype(np.float32), affine(), tmp_path / "four.nii")
    np.testing.assert_array_equal(read_scan(tmp_path / "four.nii").hu, ct())
    path = save((stored + 1000).astype(np.int16), affine(), tmp_path / "scaled.nii")
    overwrite(path, {112: np.float32(2), 116: np.float32(-1024)})
    np.testing.assert_array_equal(read_scan(path).hu, (ct().astype(int) + 1000) * 2 - 1024)


def test_padding_and_fractions_are_repaired_and_said(tmp_path):
    values = ct().transpose(2, 1, 0).astype(np.float32)
    values[0, 0, 0], values[1, 0, 0] = -2048.0, 12.4
    scan = read_scan(save(values, affine(), tmp_path / "ct.nii"))
    assert scan.hu.min() == -1024
    assert scan.hu[0, 0, 1] == 12
    assert any("1 voxels below -1024 HU" in repair for repair in scan.repairs)
    assert any("rounded" in repair for repair in scan.repairs)


def refused(path, fragment):
    with pytest.raises(ValueError, match=fragment) as caught:
        read_scan(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_values_are_refused(tmp_path):
    stored = ct().transpose(2, 1, 0)
    holes = stored.astype(np.float32)
    holes[0, 0, 0] = np.nan
    refused(save(holes, affine(), tmp_path / "nan.nii"), "1 voxels are NaN")
    refused(save((stored + 1024).astype(np.int16), affine(), tmp_path / "raw.nii"), "without any air")
    refused(save(np.stack([stored] * 2, axis=-1), affine(), tmp_path / "two.nii"), "one volume")
    refused(save(stored.astype(np.complex64), affine(), tmp_path / "complex.nii"), "real numbers")


def test_bad_geometry_is_refused(tmp_path):
    stored = ct().transpose(2, 1, 0)
    for name, size in {"zero": 0.0, "nan": np.nan}.items():
        flat = save(stored, affine(), tmp_path / f"{name}.nii")
        overwrite(flat, {80: np.float32(size), 254: np.int16(0)})
        refused(flat, r"pixdim gives voxel sizes \[")
    other_size = save(stored, affine(), tmp_path / "size.nii")
    overwrite(other_size, {80: np.float32(1.0), 252: np.int16(0)})
    refused(other_size, "but the affine")
    angle = np.radians(10)
    tilted = affine()
    tilted[1:3, 1:3] = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ tilted[1:3, 1:3]
    refused(save(stored, tilted, tmp_path / "oblique.nii"), "oblique")
    lost = save(stored, affine(), tmp_path / "lost.nii")
    overwrite(lost, {252: np.int16(0), 254: np.int16(0)})
    refused(lost, "neither sform nor qform")
    metres = save(stored, affine(), tmp_path / "metres.nii")
    overwrite(metres, {123: np.uint8(1)})
    refused(metres, "lengths are in meter")
    image = nibabel.Nifti1Image(stored, affine())
    other = affine()
    other[:3, 3] += 20
    image.set_qform(other, 1)
    image.set_sform(affine(), 1)
    image.to_filename(tmp_path / "two.nii")
    refused(tmp_path / "two.nii", "sform and qform")


def test_other_files_are_refused_in_one_sentence(tmp_path):
    (tmp_path / "text.nii").write_text("no image")
    (tmp_path / "text.nrrd").write_text("no image")
    (tmp_path / "text.dcm").write_text("no image")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "text.nii", "not a readable NIfTI")
    refused(tmp_path / "text.nrrd", "NRRD header")
    refused(tmp_path / "text.dcm", "not a readable DICOM")
    refused(tmp_path / "empty", "no DICOM file")
    refused(tmp_path / "absent.nii.gz", "no such file")
    whole = save(ct((8, 64, 64)).transpose(2, 1, 0), affine(), tmp_path / "cut.nii")
    whole.write_bytes(whole.read_bytes()[:4000])
    refused(whole, "cannot be read")
    noise = np.random.default_rng(0).integers(-1000, 500, (64, 64, 8)).astype(np.int16)
    packed = save(noise, affine(), tmp_path / "cut.nii.gz")
    packed.write_bytes(packed.read_bytes()[:20000])
    refused(packed, "cannot be read")


def test_masks_off_the_grid_are_refused(tmp_path):
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
    save(np.full((6, 5, 4), 0.5, dtype=np.float32), affine(), tmp_path / "half.nii")
    with pytest.raises(ValueError, match="whole numbers"):
        read_mask(tmp_path / "half.nii", scan)


def test_pattern_masks(tmp_path):
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


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1)])
def test_nrrd_of_simpleitk_in_any_direction(tmp_path, signs):
    image = SimpleITK.GetImageFromArray(ct())
    image.SetSpacing((1.5, 2.0, 7.0))
    image.SetDirection(np.diag(np.array(signs, dtype=float)).ravel().tolist())
    image.SetOrigin((-101.0, -57.0, -300.0))
    SimpleITK.WriteImage(image, str(tmp_path / "ct.nrrd"))
    scan = read_scan(tmp_path / "ct.nrrd")
    z, y, x = (int(value) for value in np.argwhere(scan.hu == 60)[0])
    lps = np.array(image.TransformIndexToPhysicalPoint((4, 2, 1)))
    np.testing.assert_allclose((scan.affine @ [x, y, z, 1])[:3], lps * (-1, -1, 1))
    np.testing.assert_array_equal(to_source(scan.hu, scan.source), ct().transpose(2, 1, 0))


def test_nrrd_without_a_space_is_refused(tmp_path):
    (tmp_path / "ct.nrrd").write_bytes(
        b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nencoding: raw\nendian: little\n\n" + b"\0" * 16
    )
    refused(tmp_path / "ct.nrrd", "space, directions and origin")


@needs_shared
@pytest.mark.shared_data
def test_real_nifti_nrrd_and_dicom_scans():
    folder = SHARED / "cip_ct64"
    nrrd, dicom = read_scan(folder / "ct-64.nrrd"), read_scan(folder / "ct-64Dicom")
    assert nrrd.hu.shape == (79, 64, 64)
    np.testing.assert_array_equal(nrrd.hu, dicom.hu)
    np.testing.assert_allclose(nrrd.affine, dicom.affine, atol=1e-3)
    assert read_mask(folder / "wholeLung-64.nrrd", dicom).any()
    lung = read_scan(SHARED / "ibsi_lung_ct" / "phantom.nii.gz")
    assert (lung.hu.min(), lung.hu.max(), lung.repairs) == (-1000, 3065, ())
    assert read_mask(SHARED / "ibsi_lung_ct" / "mask.nii.gz", lung).max() == 1
    assert read_scan(SHARED / "covidctmd_dev" / "P002_2x2x4mm.nii.gz").hu.shape == (66, 154, 154)


@needs_shared
@pytest.mark.shared_data
def test_real_compressed_dicom_lies_where_the_volume_made_from_it_lies():
    slices = read_scan(SHARED / "covidctmd_dev" / "P002_dicom")
    volume = read_scan(SHARED / "covidctmd_dev" / "P002_2x2x4mm.nii.gz")
    assert slices.hu.shape == (20, 512, 512)
    centre = slices.affine @ [256, 256, 10, 1]
    x, y, z = np.rint(np.linalg.solve(volume.affine, centre)[:3]).astype(int)
    around = volume.hu[z, y - 30 : y + 30, x - 30 : x + 30]
    fine = slices.hu[10, 256 - 99 : 256 + 99, 256 - 99 : 256 + 99]
    assert abs(float(np.mean(around)) - float(np.mean(fine))) < 25


@needs_shared
@pytest.mark.shared_data
def test_real_slice_without_modality_gets_one_sentence():
    refused(SHARED / "lungmask_dicom" / "0.dcm", "Modality is missing; expected 'CT'")
