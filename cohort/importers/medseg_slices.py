"""MedSeg: 100 single slices with masks of ground glass, consolidation and effusion, as images or stacked in NIfTI.

Source: MedSeg, "Covid Dataset 1", doi 10.6084/m9.figshare.13521488 (medicalsegmentation.com/covid19), 100 slices of
more than 40 patients collected by the Italian Society of Medical and Interventional Radiology, annotated by one
radiologist. As images, the slices come with Inf-Net (doi 10.1109/TMI.2020.2996645; non-commercial use only).

Two layouts are read: images/ and masks/ (or Imgs/ and GT/) with files of the same names, values 0..3; or tr_im.nii.gz
and tr_mask.nii.gz, in HU that the publishers estimated from air and fat. Their axes are column, row and slice, which
have no place in a body: they are written as images of 8 bits between two declared HU.

Traps: the images are display windows, each another one, not HU, and have no voxel sizes; they may show one patient
several times: the files do not say so, a groups file can (of Inf-Net's, 4, 5, 17 and 46 look like neighbours, and 10
and 43 like one slice twice). Inf-Net's images are the transposed slices (front to the left, the patient's right at the
top): `transpose` sets them upright. Turning them by 90 degrees would not: it would put the heart on the wrong side. No
lung masks come with them, and the classical ones miss what is consolidated down to the pleura (they hold 41 % of the
consolidation of Inf-Net's training half); since the images are cut close to the lungs, `whole_image` counts all pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from PIL import Image
from tqdm import tqdm

from cohort.dataset_files import check_pairs, find_folder, is_visible, look_for_folder, read_groups, recode
from cohort.importers.medseg import CODE_OF_VALUE
from cohort.importing import add_grey_options, grey_limits, importer_options, new_cohort, run_importer
from cohort.table import CohortRow
from ct.classes import CONSOLIDATION, L3
from ct.files.formats import NIFTI_SUFFIXES
from ct.files.images import SLICE_IMAGE_SUFFIXES
from ct.files.volume_file import DAMAGE
from ct.grey_window import AUTO, GreyLimit, Greys
from machine.command_line import run_command

SITE = "sirm"
GROUND_GLASS, GROUND_GLASS_CODE = "ground_glass", 5  # in the class set medseg
IMAGE_FOLDERS, MASK_FOLDERS = ("images", "Imgs"), ("masks", "GT")
STACKS = ("tr_im", "tr_mask")
STACK_HU = (-1150.0, 380.0)  # 6 HU a grey value


def import_medseg_slices(
    folder: str | Path,
    out_dir: str | Path,
    grey_low_hu: GreyLimit | None = None,
    grey_high_hu: GreyLimit | None = None,
    groups: str | Path | None = None,
    transpose: bool = False,
    whole_image: bool = False,
) -> Path:
    """Write a cohort.csv with one scan per slice, and the masks with the codes of paper L3.

    Args:
        folder: Holds the image and mask folders, or the two stacks.
        out_dir: Where masks/, images/ (where they are no plain copies) and cohort.csv go; earlier ones are replaced.
        grey_low_hu: Declared HU of grey 0; `AUTO`, or None with the other one, has the HU of every slice estimated. The
            stacks hold HU: without two numbers they are written between those of `STACK_HU`, which are declared.
        grey_high_hu: Declared HU of grey 255; as above.
        groups: CSV file with the columns name (of the image, without suffix) and patient_id, for slices that show one
            patient; the others are patients of their own.
        transpose: Exchange rows and columns of images and masks.
        whole_image: Write lung masks that hold every pixel, since classical ones miss consolidation at the pleura.

    Returns:
        The cohort.csv; has_consolidation and has_ground_glass come from the masks. Slices whose mask cannot be used are
        in left_out.csv.

    Raises:
        ValueError: The layout is another one, a mask is missing, or an option is wrong.
    """
    greys = grey_limits(grey_low_hu, grey_high_hu) or AUTO
    with new_cohort(folder, out_dir) as cohort:
        pairs, (low, high) = _pairs_and_greys(Path(folder), cohort.folder, greys)
        patients = read_groups(groups, pairs)
        for name, (image, mask) in tqdm(pairs.items(), desc="import", unit="slice", leave=False, disable=None):
            scan_id = f"medseg_slice_{name}"
            try:
                codes = recode(np.asarray(Image.open(mask)), CODE_OF_VALUE, mask)
            except (ValueError, OSError) as error:
                cohort.left_out.append((scan_id, str(error)))
                continue
            if transpose:
                image, codes = _transposed(image, cohort.folder / "images" / f"{name}.png"), codes.T
            target = _save(codes, cohort.folder / "masks" / f"{name}.png")
            lungs = cohort.folder / "lungs" / f"{name}.png"
            cohort.rows.append(
                CohortRow(
                    scan_id=scan_id,
                    patient_id=patients.get(name, scan_id),
                    site=SITE,
                    image=image,
                    lung_mask=_save(np.full_like(codes, 255), lungs) if whole_image else None,
                    pattern_mask=target,
                    has_consolidation=int(np.isin(codes, L3.codes_of(CONSOLIDATION)).any()),
                    has_findings=((GROUND_GLASS, str(int((codes == GROUND_GLASS_CODE).any()))),),
                    grey_low_hu=low,
                    grey_high_hu=high,
                )
            )
    return Path(out_dir) / "cohort.csv"


def _pairs_and_greys(
    folder: Path, out: Path, greys: Greys
) -> tuple[dict[str, tuple[Path, Path]], tuple[GreyLimit, GreyLimit]]:
    """Return the image and the mask of each slice, by number, and what the images' grey 0 and 255 stand for."""
    pairs = _paired_images(folder)
    if not pairs:
        greys = STACK_HU if greys == AUTO else greys
        pairs = _unstack(folder, out, *greys)
    return pairs, (AUTO, AUTO) if greys == AUTO else greys


def _paired_images(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return the image and the mask of each slice, by number; empty if there are no such folders."""
    images_folder = look_for_folder(folder, *IMAGE_FOLDERS)
    if images_folder is None:
        return {}
    masks_folder = find_folder(images_folder.parent, *MASK_FOLDERS)
    images, masks = _images_in(images_folder), _images_in(masks_folder)
    check_pairs(images, masks, masks_folder)
    return {name: (images[name], masks[name]) for name in sorted(images, key=lambda name: (len(name), name))}


def _images_in(folder: Path) -> dict[str, Path]:
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in SLICE_IMAGE_SUFFIXES]
    return {file.stem: file for file in files if is_visible(file, folder)}


def _unstack(folder: Path, target: Path, low_hu: float, high_hu: float) -> dict[str, tuple[Path, Path]]:
    """Write the slices of the two stacks as images; return their paths."""
    names = [
        next((f"{name}{end}" for end in NIFTI_SUFFIXES if (folder / f"{name}{end}").is_file()), "") for name in STACKS
    ]
    if not all(names):
        raise ValueError(
            f"{folder}: holds neither folders images/ and masks/ nor tr_im.nii.gz and tr_mask.nii.gz; expected "
            f"MedSeg's single slices; its nine volumes are imported by FROM=medseg"
        )
    images, masks = (_planes(folder / name) for name in names)
    if images.shape != masks.shape or not images.min() < 0:
        raise ValueError(
            f"{folder / names[0]}: has {images.shape} pixels from {images.min():g} on, and its masks {masks.shape}; "
            f"expected slices in HU and a mask for each"
        )
    greys = np.rint((np.clip(images, low_hu, high_hu) - low_hu) / (high_hu - low_hu) * 255).astype(np.uint8)
    values = recode(masks, {value: value for value in CODE_OF_VALUE}, folder / names[1])
    pairs = {}
    for number, planes in enumerate(zip(greys, values, strict=True)):
        files = target / "images" / f"{number}.png", target / "stack" / f"{number}.png"
        for file, plane in zip(files, planes, strict=True):
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(plane).save(file)
        pairs[str(number)] = files
    return pairs


def _planes(path: Path) -> npt.NDArray[np.float32]:
    """Read a stack as (slices, rows, columns); where its header places it does not matter."""
    try:
        image: Any = nibabel.load(path)
        return image.get_fdata(dtype=np.float32).transpose(2, 1, 0)
    except (ImageFileError, ValueError, *DAMAGE) as error:
        raise ValueError(f"{path}: not a readable stack of slices ({error}); download it again") from error


def _save(values: npt.NDArray[np.uint8], target: Path) -> Path:
    target.parent.mkdir(exist_ok=True)
    Image.fromarray(values).save(target)
    return target


def _transposed(source: Path, target: Path) -> Path:
    with Image.open(source) as image:
        upright = image.transpose(Image.Transpose.TRANSPOSE)
    target.parent.mkdir(exist_ok=True)
    upright.save(target)
    return target


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    folder, out = "holds images/ and masks/, or the stacks tr_*.nii.gz", "where masks/, images/ and cohort.csv go"
    parser = importer_options(__file__, __doc__, folder, out)
    add_grey_options(parser, default="the default")
    parser.add_argument("--groups", type=Path, help="CSV file (name, patient_id) of slices that show one patient")
    parser.add_argument(
        "--transpose", action="store_true", help="exchange rows and columns: sets Inf-Net's images upright"
    )
    parser.add_argument(
        "--whole-image", action="store_true", help="count every pixel as lung: no lung masks are looked for"
    )
    options = parser.parse_args(args)
    return run_importer(
        lambda: import_medseg_slices(
            options.folder,
            options.out,
            options.grey_low_hu,
            options.grey_high_hu,
            options.groups,
            options.transpose,
            options.whole_image,
        )
    )


if __name__ == "__main__":
    run_command(main)
