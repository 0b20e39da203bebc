"""MosMedData COVID19_1110: 1110 CT volumes by severity, 50 of them with masks of the infection.

Source: Morozov et al., "MosMedData: data set of 1110 chest CT scans performed during the COVID-19 epidemic", Digital
Diagnostics 1:49, 2020, doi 10.17816/DD46826 (mosmed.ai/datasets/covid19_1110), CC BY-NC-ND 3.0. The layout is
studies/CT-0 .. CT-4/study_0001.nii.gz and masks/study_0255_mask.nii.gz; one study per patient, from hospitals of
Moscow that the files do not tell apart.

Traps: the publishers kept every tenth slice, so slices lie about 8 mm apart. The masks show ground glass and
consolidation as one class, and whether a scan has consolidation is not told. A scan without a mask is not labelled,
even in CT-0, which is normal by the readers' judgement: subjects.csv says so. CT-1 to CT-4 are up to 25, 50, 75 and
100 % of a lung involved.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cohort.dataset_files import find_folder, volumes_in
from cohort.importing import importer_options, new_cohort, run_importer
from cohort.table import CohortRow
from machine.command_line import run_command

SITE = "mosmed"
CLASS = re.compile(r"CT-[0-4]")
NORMAL_CLASS = "CT-0"
MASK_ENDING = "_mask"


def import_mosmed(folder: str | Path, out_dir: str | Path) -> Path:
    """Write a cohort.csv that names the volumes and masks, and a subjects.csv of severity; nothing is copied.

    Args:
        folder: Holds studies/ and masks/, or COVID19_1110/ with them.
        out_dir: Where cohort.csv and subjects.csv (scan_id, severity_class, diagnosis) go; earlier ones are replaced.

    Returns:
        The cohort.csv.

    Raises:
        ValueError: A folder is missing, a study lies in no class, or a mask has no study.
    """
    studies_folder = find_folder(folder, "studies")
    studies = volumes_in(studies_folder)
    masks = volumes_in(find_folder(studies_folder.parent, "masks"))
    masks = {name.removesuffix(MASK_ENDING): path for name, path in masks.items()}
    strangers = sorted(set(masks) - set(studies))
    if strangers:
        raise ValueError(
            f"{masks[strangers[0]]}: there is no study for this mask in {studies_folder}; download it again"
        )
    with new_cohort(folder, out_dir) as new:
        subjects = new.tables["subjects.csv"] = []
        for name, image in studies.items():
            severity = _severity_class(image, studies_folder)
            diagnosis = "normal" if severity == NORMAL_CLASS else "viral pneumonia"
            subjects.append({"scan_id": name, "severity_class": severity, "diagnosis": diagnosis})
            new.rows.append(CohortRow(name, name, SITE, image, infection_mask=masks.get(name)))
    return Path(out_dir) / "cohort.csv"


def _severity_class(image: Path, studies_folder: Path) -> str:
    classes = [part for part in image.relative_to(studies_folder).parts if CLASS.fullmatch(part)]
    if len(classes) != 1:
        raise ValueError(
            f"{image}: lies in none of the folders CT-0 .. CT-4 of {studies_folder}; put it back into its own"
        )
    return classes[0]


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = importer_options(__file__, __doc__, "holds studies/ and masks/", "where cohort.csv and subjects.csv go")
    options = parser.parse_args(args)
    return run_importer(lambda: import_mosmed(options.folder, options.out))


if __name__ == "__main__":
    run_command(main)
