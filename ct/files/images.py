"""8-bit slice images (PNG, JPEG) and the masks that belong to them, paired by file name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from ct.files.dicom.file_set import is_dicom_file
from ct.grey_values import estimate_window
from ct.grey_window import AUTO, Greys, GreyWindow, check_greys, describe_windows
from ct.refusal import Refusal, Sentence
from ct.scan import Grid, Scan, to_canonical

# The image as shown is a slice in radiological convention: left of the image = right of the patient, top = front.
PIXEL_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
SLICE_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def is_slice_image(path: Path) -> bool:
    """Return whether a path is an 8-bit slice image, or a folder of such images that are no previews beside DICOM."""
    if not path.is_dir():
        return path.suffix.lower() in SLICE_IMAGE_SUFFIXES
    children = list(path.iterdir())
    others = [child for child in children if child.suffix.lower() not in SLICE_IMAGE_SUFFIXES]
    return len(others) < len(children) and not any(map(_is_dicom, others))


def _is_dicom(path: Path) -> bool:
    try:
        return path.is_file() and is_dicom_file(path)
    except ValueError:  # raised again when the scan is read
        return False


def read_slice_images(path: str | Path, grey_hu: Greys, scan_id: str | None = None, site: str = "") -> Scan:
    """Read an 8-bit slice image or a folder of them, in HU as declared or as estimated for each slice by itself.

    Args:
        path: A PNG or JPEG file, or a folder; slices are sorted by file name.
        grey_hu: HU of grey 0 and of grey 255, or `AUTO` to estimate both.
        scan_id: Name of the scan; the file's or folder's name if None.
        site: Where it was made.

    Returns:
        The scan, with `spacing_known` False and voxels of 1.

    Raises:
        ValueError: No image, images of different sizes, colour or 16-bit images, grey 0 not below grey 255, or HU that
            cannot be estimated.
    """
    check_greys(grey_hu, str(path))
    source = Path(path)
    files = _image_files(source)
    greys = _stack(files, [_read_grey(file) for file in files])
    windows = _windows(files, greys, grey_hu)
    array_ijk = np.stack([each.hu_of_greys()[plane] for each, plane in zip(windows, greys, strict=True)]).transpose()
    hu, affine = to_canonical(array_ijk, PIXEL_AFFINE)
    return Scan(
        hu=hu,
        affine=affine,
        source=Grid(array_ijk.shape, PIXEL_AFFINE.copy()),
        scan_id=scan_id or source.stem,
        site=site,
        repairs=(_describe(windows),),
        spacing_known=False,
        slice_names=tuple(file.stem for file in files),
        grey_windows=windows,
    )


def _windows(files: list[Path], greys: npt.NDArray[np.uint8], grey_hu: Greys) -> tuple[GreyWindow, ...]:
    """Return the window of each slice."""
    if grey_hu != AUTO:
        return (GreyWindow(*grey_hu),) * len(files)
    windows = []
    for file, plane in zip(files, greys, strict=True):
        try:
            windows.append(estimate_window(plane))
        except Refusal as error:
            raise Refusal("{file}: {problem}", file=file, problem=error.sentence) from None
    return tuple(windows)


def _describe(windows: tuple[GreyWindow, ...]) -> Sentence:
    if windows[0].estimated:
        return describe_windows(windows)
    text = "HU are an approximation: grey 0 = {low:g} HU and grey 255 = {high:g} HU were declared"
    return Sentence(text, low=windows[0].low_hu, high=windows[0].high_hu)


def read_image_mask(path: Path, scan: Scan) -> npt.NDArray[np.int16]:
    """Read the mask images of a scan of slice images.

    Args:
        path: One image, or a folder that holds one of the same name (any suffix) for each slice.
        scan: The scan, with its slice names.

    Returns:
        int16 (Z, Y, X), the stored values (palette indices for palette images).

    Raises:
        ValueError: A slice has no mask, a size differs, or a mask has colours.
    """
    files = _image_files(path)
    if path.is_dir():
        file_of = {file.stem: file for file in files}
        missing = [name for name in scan.slice_names if name not in file_of]
        if missing:
            raise Refusal(
                "{path}: no mask named {missing!r} ({count} of {slices} are missing)",
                path=path,
                missing=missing[0],
                count=len(missing),
                slices=len(scan.slice_names),
            )
        files = [file_of[name] for name in scan.slice_names]
    mask = _stack(files, [_read_values(file) for file in files])
    if mask.shape != scan.hu.shape:
        raise Refusal(
            "{path}: the masks have (slices, rows, columns) = {shape}; expected {expected}",
            path=path,
            shape=mask.shape,
            expected=scan.hu.shape,
        )
    return mask.astype(np.int16)


def _image_files(path: Path) -> list[Path]:
    if not path.exists():
        raise Refusal("{path}: no such file or folder; expected a PNG or JPEG image or a folder of them", path=path)
    if path.is_file():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SLICE_IMAGE_SUFFIXES)
    if not files:
        raise Refusal("{path}: no PNG or JPEG image in this folder; expected one image per slice", path=path)
    stems = [file.stem for file in files]
    duplicates = sorted({stem for stem in stems if stems.count(stem) > 1})
    if duplicates:
        raise Refusal(
            "{path}: two images are named {name!r}; expected one image per slice", path=path, name=duplicates[0]
        )
    return files


def _stack(files: list[Path], slices: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    for file, image in zip(files, slices, strict=True):
        if image.shape != slices[0].shape:
            raise Refusal(
                "{file}: (rows, columns) = {shape}; expected {expected} as in {name}; images of different sizes "
                "are scans of their own",
                file=file,
                shape=image.shape,
                expected=slices[0].shape,
                name=files[0].name,
            )
    return np.stack(slices)


def _read_grey(file: Path) -> npt.NDArray[np.uint8]:
    mode, values = _open(file)
    if mode in ("RGB", "RGBA") and (values[..., :3] == values[..., :1]).all():
        return values[..., 0]
    if mode != "L":
        raise Refusal(
            "{file}: the image is of kind {mode!r}; expected 8-bit grey ('L'); convert it first", file=file, mode=mode
        )
    return values


def _read_values(file: Path) -> npt.NDArray[np.uint8]:
    mode, values = _open(file)
    if mode not in ("L", "P", "1"):
        raise Refusal(
            "{file}: the mask is an image of kind {mode!r}; expected 8-bit grey, palette or 1-bit", file=file, mode=mode
        )
    return values.astype(np.uint8)


def _open(file: Path) -> tuple[str, npt.NDArray[Any]]:
    try:
        with Image.open(file) as image:
            return image.mode, np.asarray(image)
    except (UnidentifiedImageError, OSError) as error:
        raise Refusal(
            "{file}: not a readable image ({error}); expected a PNG or JPEG file", file=file, error=error
        ) from error
