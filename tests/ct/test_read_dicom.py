import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import JPEGLossless, RLELossless

from ct.read import read_scan
from ct.write import write_dicom_series


def affine(z_mm=5.0):
    matrix = np.diag([-0.75, -0.75, z_mm, 1.0])
    matrix[:3, 3] = (120.0, 130.5, -211.25)
    return matrix


def ct(slices=6):
    hu = np.random.default_rng(0).integers(-1024, 800, (slices, 12, 10)).astype(np.int16)
    hu[:, 0, 0] = -1000
    return hu


@pytest.fixture
def series(tmp_path):
    write_dicom_series(ct(), affine(), tmp_path / "series", patient_id="p1")
    return tmp_path / "series"


def edit(folder, change, only=None):
    for number, file in enumerate(sorted(folder.glob("*.dcm"))):
        if only is None or number == only:
            dataset = pydicom.dcmread(file)
            change(dataset)
            dataset.save_as(file)


def refused(path, fragment):
    with pytest.raises(ValueError, match=fragment) as caught:
        read_scan(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_series_goes_there_and_back(series):
    scan = read_scan(series)
    np.testing.assert_array_equal(scan.hu, ct())
    np.testing.assert_allclose(scan.affine, affine())
    assert (scan.scan_id, scan.repairs) == ("series", ())


def test_simpleitk_reads_the_same(series):
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(series))
    image = SimpleITK.ReadImage(names)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), read_scan(series).hu)
    np.testing.assert_allclose(np.array(image.GetOrigin()) * (-1, -1, 1), affine()[:3, 3])
    np.testing.assert_allclose(image.GetSpacing(), (0.75, 0.75, 5.0))


def test_the_same_input_gives_the_same_bytes(series, tmp_path):
    write_dicom_series(ct(), affine(), tmp_path / "again", patient_id="p1")
    for file in sorted(series.iterdir()):
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


def test_slices_are_sorted_by_place_not_by_name_or_number(series):
    files = sorted(series.iterdir())
    for number, file in enumerate(files):
        file.rename(series / f"{(number * 5) % 6}_{number}")
    np.testing.assert_array_equal(read_scan(series).hu, ct())


def test_slope_and_padding(series):
    def change(dataset):
        dataset.RescaleSlope, dataset.RescaleIntercept = "2", "-3000"

    edit(series, change)
    scan = read_scan(series)
    raw = (ct().astype(int) + 1024) * 2 - 3000
    np.testing.assert_array_equal(scan.hu, np.maximum(raw, -1024))
    assert any("below -1024" in repair for repair in scan.repairs)


def test_compressed_pixels(series):
    edit(series, lambda dataset: dataset.compress(RLELossless))
    np.testing.assert_array_equal(read_scan(series).hu, ct())


def test_undecodable_pixels_are_refused(series):
    def change(dataset):
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 broken \xff\xd9"])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = JPEGLossless

    edit(series, change, only=2)
    refused(series, "cannot be decoded")


def test_files_that_are_not_dicom_are_left_out_and_said(series):
    (series / "README.txt").write_text("hello")
    (series / ".DS_Store").write_text("x")
    assert read_scan(series).repairs == ("1 files in the folder that are not DICOM images were left out",)


def test_a_single_slice(series):
    scan = read_scan(series / "IM0001.dcm")
    np.testing.assert_array_equal(scan.hu[0], ct()[-1])
    assert scan.spacing_mm == (5.0, 0.75, 0.75)
    edit(series, lambda dataset: dataset.__delattr__("SliceThickness"))
    refused(series / "IM0001.dcm", "SliceThickness is missing")


@pytest.mark.parametrize(
    ("tag", "value", "fragment"),
    [
        ("Modality", "MR", "Modality is 'MR'"),
        ("Modality", None, "Modality is missing"),
        ("PhotometricInterpretation", "MONOCHROME1", "MONOCHROME1"),
        ("PhotometricInterpretation", "RGB", "RGB"),
        ("ImagePositionPatient", None, "ImagePositionPatient is missing"),
        ("ImageOrientationPatient", None, "ImageOrientationPatient is missing"),
        ("RescaleIntercept", None, "RescaleIntercept is missing"),
        ("RescaleSlope", None, "RescaleSlope is missing"),
        ("RescaleType", "OD", "RescaleType is 'OD'"),
        ("NumberOfFrames", 3, "holds 3 frames"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"], "localizer"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "impossible"),
        ("PixelSpacing", [0, 0.75], "impossible"),
        ("RescaleIntercept", "0", "without any air"),
    ],
)
def test_what_is_no_ct_in_hu_is_refused(series, tag, value, fragment):
    def change(dataset):
        if value is None:
            delattr(dataset, tag)
        else:
            setattr(dataset, tag, value)

    edit(series, change)
    refused(series, fragment)


@pytest.mark.parametrize(
    ("tag", "value", "fragment"),
    [
        ("SeriesInstanceUID", "1.2.3", "holds 2 series"),
        ("PixelSpacing", [0.8, 0.8], "PixelSpacing is"),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0.9998, 0.02], "ImageOrientationPatient is"),
        ("ImagePositionPatient", [-120, -130.5, -190], "apart near"),
        ("ImagePositionPatient", [-120, -130.5, -201.25], "same place"),
        ("ImagePositionPatient", [-110, -130.5, -196.25], "shifted sideways"),
    ],
)
def test_slices_that_disagree_are_refused(series, tag, value, fragment):
    edit(series, lambda dataset: setattr(dataset, tag, value), only=2)
    refused(series, fragment)


def test_a_missing_slice_is_refused(series):
    (series / "IM0003.dcm").unlink()
    refused(series, r"10\.00 mm apart near .* but 5\.00 mm elsewhere")


def test_a_tilted_gantry_is_refused(series):
    def change(dataset):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, f"{y + 0.1 * z:.3f}", z]

    edit(series, change)
    refused(series, r"5\.71 degrees off")


def test_noise_in_the_orientation_is_no_reason_to_refuse(series):
    edit(series, lambda dataset: setattr(dataset, "ImageOrientationPatient", [1, 1e-4, 0, -1e-4, 1, 0]), only=1)
    np.testing.assert_array_equal(read_scan(series).hu, ct())


def test_a_feet_first_and_a_coronal_series(series):
    def feet_first(dataset):
        dataset.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]

    edit(series, feet_first)
    scan = read_scan(series)
    np.testing.assert_array_equal(scan.hu, ct()[:, :, ::-1])
    x, y, z = (int(v) for v in np.argwhere(scan.hu == scan.hu[2, 3, 4])[0][::-1])
    assert (scan.affine @ [9, 0, 0, 1])[0] == pytest.approx(120.0)
    assert z >= 0
    assert y >= 0
    assert x >= 0
