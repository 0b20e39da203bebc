import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, NoReturn
from urllib.error import URLError

import nibabel
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from ct.files.images import read_slice_images
from ct.files.read import read_scan
from ct.lungs.classical import classical_lungs
from ct.lungs.find import find_lungs
from ct.scan import to_source
from phantom.patient import Phantom, make_phantom

INFERER = "LMInferer"


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Phantom, Path]:
    """A phantom as a NIfTI file whose axes point forward, to the foot and to the right, and its lungs likewise."""
    phantom = make_phantom(4, "A", False, 0.0, 48, 12)
    folder = tmp_path_factory.mktemp("chest")
    z_mm, y_mm, x_mm = phantom.spacing_mm
    affine = np.zeros((4, 4))
    affine[1, 0], affine[2, 1], affine[0, 2], affine[3, 3] = y_mm, -z_mm, x_mm, 1
    for name, volume in (("scan", phantom.hu), ("lungs", phantom.lungs)):
        stored = volume.transpose(1, 0, 2)[::-1, ::-1, ::-1]
        nibabel.save(nibabel.Nifti1Image(stored, affine), folder / f"{name}.nii.gz")
    return phantom, folder


class FakeInferer:
    """Calls the dark pixels lung, 1 in the image's left half and 2 in its right half."""

    made: ClassVar[tuple[str | None, bool] | None] = None
    seen: ClassVar[list[NDArray[Any]]]

    def __init__(self, modelname: str | None, tqdm_disable: bool = False) -> None:
        FakeInferer.made = (modelname, tqdm_disable)

    def apply(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        self.seen.append(image)
        label = np.where(np.arange(image.shape[2]) < image.shape[2] / 2, 1, 2)
        body = np.hypot(*np.ogrid[-1 : 1 : image.shape[1] * 1j, -1 : 1 : image.shape[2] * 1j]) < 0.75
        return np.where((image < -600) & body, label, 0).astype(np.uint8)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeInferer]:
    """A module in lungmask's place, with the class above."""
    FakeInferer.seen, FakeInferer.made = [], None
    module = ModuleType("lungmask")
    setattr(module, INFERER, FakeInferer)
    monkeypatch.setitem(sys.modules, "lungmask", module)
    return FakeInferer


def test_a_given_mask(chest: tuple[Phantom, Path]) -> None:
    phantom, folder = chest
    lungs = find_lungs(read_scan(folder / "scan.nii.gz"), folder / "lungs.nii.gz", method="classical")
    assert lungs.source == "file"
    assert lungs.warnings == ()
    assert lungs.mask.dtype == np.bool_
    np.testing.assert_array_equal(lungs.mask, phantom.lungs > 0)


def test_a_given_mask_that_is_empty_or_odd(chest: tuple[Phantom, Path], tmp_path: Path) -> None:
    _, folder = chest
    scan = read_scan(folder / "scan.nii.gz")
    stored = nibabel.Nifti1Image.from_filename(folder / "lungs.nii.gz")
    empty = np.zeros(stored.shape, np.uint8)
    nibabel.save(nibabel.Nifti1Image(empty, stored.affine), tmp_path / "empty.nii.gz")
    with pytest.raises(ValueError, match=r"empty\.nii\.gz: no lung voxels"):
        find_lungs(scan, tmp_path / "empty.nii.gz")
    nibabel.save(nibabel.Nifti1Image(empty + 1, stored.affine), tmp_path / "full.nii.gz")
    assert len(find_lungs(scan, tmp_path / "full.nii.gz").warnings) >= 2, "a given mask is not refused, but warned of"


def test_the_classical_method(chest: tuple[Phantom, Path]) -> None:
    phantom, folder = chest
    scan = read_scan(folder / "scan.nii.gz")
    lungs = find_lungs(scan)
    assert lungs.source == "classical"
    np.testing.assert_array_equal(lungs.mask, classical_lungs(scan.hu, phantom.spacing_mm))


def test_slice_images_are_searched_without_a_scale(tmp_path: Path) -> None:
    phantom = make_phantom(4, "A", False, 0.0, 48, 12)
    for z in (5, 7):
        grey = np.rint((phantom.hu[z].clip(-1100, 260) + 1100.0) / 1360 * 255).astype(np.uint8)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(grey), str(tmp_path / f"{z}.png"))
    scan = read_slice_images(tmp_path, (-1100, 260))
    lungs = find_lungs(scan)
    np.testing.assert_array_equal(lungs.mask, classical_lungs(scan.hu, None))
    truth = phantom.lungs[[5, 7]] > 0
    assert 2 * (lungs.mask & truth).sum() / (lungs.mask.sum() + truth.sum()) > 0.9
    assert lungs.warnings == ()


def test_lungmask_gets_axial_slices_as_it_expects_them(chest: tuple[Phantom, Path], fake: type[FakeInferer]) -> None:
    """Against SimpleITK: rows run to the back, columns to the patient's left, slices to the head; label 1 is right."""
    phantom, folder = chest
    scan = read_scan(folder / "scan.nii.gz")
    lungs = find_lungs(scan, method="lungmask")
    assert fake.made == ("R231CovidWeb", True)
    assert lungs.source == "lungmask"
    assert lungs.mask.dtype == np.bool_
    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(folder / "scan.nii.gz")), "LPS")
    np.testing.assert_array_equal(fake.seen[0], SimpleITK.GetArrayFromImage(image))
    labels = fake(None).apply(phantom.hu)
    np.testing.assert_array_equal(lungs.mask, labels > 0)
    # NIfTI's world x grows to the patient's right, where label 1 must lie.
    labels = to_source(labels, scan.source)
    ijk = np.stack(np.nonzero(labels == 1))
    x_mm = scan.source.affine[0, :3] @ ijk + scan.source.affine[0, 3]
    middle = scan.source.affine[0, :3] @ (np.array(labels.shape) - 1) / 2 + scan.source.affine[0, 3]
    assert x_mm.min() > middle


def test_lungmask_takes_slice_images_one_by_one(fake: type[FakeInferer], tmp_path: Path) -> None:
    phantom = make_phantom(4, "A", False, 0.0, 48, 12)
    for z in (5, 7, 8):
        grey = np.rint((phantom.hu[z].clip(-1100, 260) + 1100.0) / 1360 * 255).astype(np.uint8)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(grey), str(tmp_path / f"{z}.png"))
    lungs = find_lungs(read_slice_images(tmp_path, (-1100, 260)), method="lungmask")
    assert lungs.mask.shape == (3, 48, 48)
    assert [image.shape for image in fake.seen] == [(1, 48, 48)] * 3


def test_lungmask_is_not_installed(chest: tuple[Phantom, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lungmask", None)
    with pytest.raises(ValueError, match=r"'lungmask' is not installed .*pip install '\.\[lungmask\]'.*lung mask$"):
        find_lungs(read_scan(chest[1] / "scan.nii.gz"), method="lungmask")


def test_the_weights_cannot_be_fetched(
    chest: tuple[Phantom, Path], fake: type[FakeInferer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> NoReturn:
        raise URLError("Name or service not known")

    monkeypatch.setattr(fake, "__init__", offline)
    with pytest.raises(ValueError, match=r"R231CovidWeb could not be fetched .*internet.*classical") as error:
        find_lungs(read_scan(chest[1] / "scan.nii.gz"), method="lungmask")
    assert "\n" not in str(error.value)


def test_an_unknown_method(chest: tuple[Phantom, Path]) -> None:
    with pytest.raises(ValueError, match="'magic'; expected one of classical, lungmask"):
        find_lungs(read_scan(chest[1] / "scan.nii.gz"), method="magic")
