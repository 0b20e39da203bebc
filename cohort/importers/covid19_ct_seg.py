"""COVID-19-CT-Seg: twenty CT volumes with masks of both lungs and of the infection.

Source: Ma et al., "COVID-19 CT Lung and Infection Segmentation Dataset", Zenodo, doi 10.5281/zenodo.3757476
(described in Medical Physics 48:1197, 2021, doi 10.1002/mp.14676), CC BY; the scans of Coronacases and Radiopaedia
carry CC BY-NC-SA. The layout is COVID-19-CT-Seg_20cases/ with Lung_Mask/ (1 left, 2 right) and Infection_Mask/, or
Lung_and_Infection_Mask/ (1 left, 2 right, 3 infection) in their place; the names that Kaggle's copy uses (ct_scans/,
coronacases_org_001.nii) fit.

Traps: only coronacases_* are in HU. radiopaedia_* are a display window, 0..255, whose HU the publishers do not give;
they come in when the HU of 0 and 255 are declared or auto, and are listed as left out otherwise.
radiopaedia_10_85902_1 and _3 are one patient, as are radiopaedia_29_86490_1 and radiopaedia_29_86491_1: the first
number names the patient's case. MedSeg's volumes are Radiopaedia's too (see `cohort.importers.medseg`). The infection
is one class: whether it is consolidated is not stated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from cohort.dataset_files import check_pairs, find_folder, look_for_folder, recode_mask, volumes_in
from cohort.importing import add_grey_options, grey_limits, importer_options, new_cohort, run_importer
from cohort.table import CohortRow
from ct.grey_window import GreyLimit
from machine.command_line import run_command

IMAGE_FOLDERS = ("COVID-19-CT-Seg_20cases", "ct_scans")
LUNG_FOLDER, INFECTION_FOLDER, BOTH_FOLDER = "Lung_Mask", "Infection_Mask", "Lung_and_Infection_Mask"
INFECTION_OF_BOTH = {0: 0, 1: 0, 2: 0, 3: 1}
WINDOWED_SITE = "radiopaedia"
# Kaggle's copy puts more words before the numbers, and -dcm behind them.
NAME = re.compile(r"(coronacases|radiopaedia)_.*?(\d+)((?:_\d+)*)(?:-dcm)?")


def import_covid19_ct_seg(
    folder: str | Path,
    out_dir: str | Path,
    grey_low_hu: GreyLimit | None = None,
    grey_high_hu: GreyLimit | None = None,
) -> Path:
    """Write a cohort.csv that names the volumes and their masks; nothing is copied.

    Args:
        folder: Holds the folders of images and masks.
        out_dir: Where cohort.csv goes, and masks/ and left_out.csv where needed; earlier ones there are replaced.
        grey_low_hu: Declared HU of 0 in the windowed volumes; `AUTO` has it estimated for each; None leaves them out.
        grey_high_hu: Declared HU of 255 in the windowed volumes, or `AUTO`.

    Returns:
        The cohort.csv.

    Raises:
        ValueError: A folder, file or mask is missing or has another name, or the grey values declared do not fit.
    """
    grey_limits(grey_low_hu, grey_high_hu)
    images_folder = find_folder(folder, *IMAGE_FOLDERS)
    images = _by_scan_id(volumes_in(images_folder))
    with new_cohort(folder, out_dir) as new:
        lungs, infections = _masks(images_folder.parent, images, new.folder / "masks")
        for scan_id, image in images.items():
            site, number, *_ = scan_id.split("_")
            windowed = site == WINDOWED_SITE
            if windowed and grey_low_hu is None:
                reason = "its values 0..255 are a display window, not HU; give --grey-low-hu and --grey-high-hu"
                new.left_out.append((scan_id, reason))
                continue
            new.rows.append(
                CohortRow(
                    scan_id=scan_id,
                    patient_id=f"{site}_{number}",
                    site=site,
                    image=image,
                    lung_mask=lungs[scan_id],
                    infection_mask=infections[scan_id],
                    grey_low_hu=grey_low_hu if windowed else None,
                    grey_high_hu=grey_high_hu if windowed else None,
                )
            )
    return Path(out_dir) / "cohort.csv"


def _by_scan_id(volumes: Mapping[str, Path]) -> dict[str, Path]:
    """Bring the names of both copies to the ones Zenodo uses."""
    paths: dict[str, Path] = {}
    for name, path in volumes.items():
        match = NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"{path}: has another name than coronacases_001 or radiopaedia_10_85902_1; remove it")
        scan_id = f"{match[1]}_{match[2]}{match[3]}"
        first = paths.setdefault(scan_id, path)
        if first != path:
            raise ValueError(f"{path}: is the same scan as {first.name}; expected each once; remove one of them")
    return dict(sorted(paths.items()))


def _masks(root: Path, images: Mapping[str, Path], target: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the lung and infection masks of all scans; those that must be taken apart are written to `target`."""
    if look_for_folder(root, INFECTION_FOLDER) or not look_for_folder(root, BOTH_FOLDER):
        lungs, infections = (_paired(find_folder(root, name), images) for name in (LUNG_FOLDER, INFECTION_FOLDER))
        return lungs, infections
    both = _paired(find_folder(root, BOTH_FOLDER), images)
    infections = {scan_id: target / f"{scan_id}.nii.gz" for scan_id in both}
    for scan_id, path in tqdm(infections.items(), desc="import", unit="scan", leave=False, disable=None):
        recode_mask(both[scan_id], path, INFECTION_OF_BOTH)
    return both, infections


def _paired(folder: Path, images: Mapping[str, Path]) -> dict[str, Path]:
    masks = _by_scan_id(volumes_in(folder))
    check_pairs(images, masks, folder)
    return masks


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    folder = "holds COVID-19-CT-Seg_20cases/ and the masks"
    parser = importer_options(__file__, __doc__, folder, "where cohort.csv goes")
    add_grey_options(parser, default="without it, radiopaedia_* are left out")
    options = parser.parse_args(args)
    greys = options.grey_low_hu, options.grey_high_hu
    return run_importer(lambda: import_covid19_ct_seg(options.folder, options.out, *greys))


if __name__ == "__main__":
    run_command(main)
