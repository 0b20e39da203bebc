from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_harness import affine, ct

from ct.files.dicom.volume import read_dicom
from ct.files.write import write_dicom_series
from ct.scan import to_canonical

# Axial in all ways, coronal and sagittal: where the column index, the row index and the slices grow to.
ORIENTATIONS = ("LPS", "RPS", "LAS", "RAI", "PLS", "LSA", "RIP", "LIA", "PSR", "AIL", "SPL")


@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_every_orientation_comes_back_and_lies_where_simpleitk_sees_it(tmp_path: Path, axcodes: str) -> None:
    hu = ct()
    hu[1, 8, 3] = 3000
    write_dicom_series(hu, affine(), tmp_path, axcodes=axcodes)
    voxels, source, repairs, _ = read_dicom(tmp_path)
    back, canonical = to_canonical(voxels, source)
    np.testing.assert_array_equal(back, hu)
    np.testing.assert_allclose(canonical, affine(), atol=1e-9)
    assert repairs == ()

    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
    k, j, i = (int(v) for v in np.argwhere(SimpleITK.GetArrayFromImage(image) == 3000)[0])
    lps = np.array(image.TransformIndexToPhysicalPoint((i, j, k)))
    np.testing.assert_allclose(lps * (-1, -1, 1), (affine() @ [3, 8, 1, 1])[:3], atol=1e-6)
    np.testing.assert_allclose((source @ [*np.argwhere(voxels == 3000)[0], 1])[:3], lps * (-1, -1, 1), atol=1e-6)


def test_the_letters_say_where_the_indices_grow_to(tmp_path: Path) -> None:
    write_dicom_series(ct(), affine(), tmp_path, axcodes="PIR")
    first = pydicom.dcmread(tmp_path / "IM0001.dcm")
    # LPS+: the column index grows to the back (+y), the row index to the foot (-z).
    assert list(first.ImageOrientationPatient) == [0, 1, 0, 0, 0, -1]
    assert (first.Rows, first.Columns, list(first.PixelSpacing)) == (6, 12, [5.0, 0.5])
    assert len(list(tmp_path.iterdir())) == 10


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_dicom_series(ct(), affine(), tmp_path / name, patient_id="p1")
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


@pytest.mark.parametrize("hu", [-1025, 31744])
def test_hu_that_do_not_fit_are_refused(tmp_path: Path, hu: int) -> None:
    scan = ct()
    scan[0, 0, 0] = hu
    with pytest.raises(ValueError, match=r"expected -1024\.\.31743"):
        write_dicom_series(scan, affine(), tmp_path / "a")


def test_an_impossible_orientation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'LLS'"):
        write_dicom_series(ct(), affine(), tmp_path / "a", axcodes="LLS")
