"""MedSeg: nine CT volumes with masks of ground glass, consolidation and effusion.

Source: MedSeg, "Covid Dataset 2", doi 10.6084/m9.figshare.13521509 (medicalsegmentation.com/covid19), offered under
CC0 according to catalogues; the scans come from Radiopaedia (CC BY-NC-SA). The layout is rp_im/, rp_lung_msk/ and
rp_msk/ with files of the same names.

Traps: half of COVID-19-CT-Seg comes from Radiopaedia too and may show the same scans under other names; both have the
site "radiopaedia", so hold that site out whole or take one of the two. Some of the nine volumes may show one patient:
the files do not say so, a groups file can. Effusion (code 3) counts as no infection.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from cohort.dataset_files import check_pairs, find_folder, read_groups, recode_mask, volumes_in
from cohort.importing import importer_options, new_cohort, run_importer
from cohort.table import CohortRow
from ct.classes import L3
from machine.command_line import run_command

SITE = "radiopaedia"
CODE_OF_VALUE = {0: 0, 1: 5, 2: 10, 3: 3}


def import_medseg(folder: str | Path, out_dir: str | Path, groups: str | Path | None = None) -> Path:
    """Write a cohort.csv that names MedSeg's volumes and lung masks, and its masks with the codes of paper L3.

    Args:
        folder: Holds rp_im/, rp_lung_msk/ and rp_msk/.
        out_dir: Where masks/ and cohort.csv go; earlier ones there are replaced.
        groups: CSV file with the columns name (as in rp_im/, without suffix) and patient_id, for volumes that show one
            patient; the others are patients of their own.

    Returns:
        The cohort.csv; has_consolidation comes from the masks. Scans whose mask cannot be used are in left_out.csv.

    Raises:
        ValueError: A folder or mask is missing, or the groups file is wrong.
    """
    folders = {name: find_folder(folder, name) for name in ("rp_im", "rp_lung_msk", "rp_msk")}
    volumes = {name: volumes_in(path) for name, path in folders.items()}
    images, lungs, masks = volumes.values()
    check_pairs(images, lungs, folders["rp_lung_msk"])
    check_pairs(images, masks, folders["rp_msk"])
    patients = read_groups(groups, images)
    with new_cohort(folder, out_dir) as cohort:
        for name, image in tqdm(images.items(), desc="import", unit="scan", leave=False, disable=None):
            scan_id = f"medseg_{name}"
            target = cohort.folder / "masks" / f"{scan_id}.nii.gz"
            try:
                codes = recode_mask(masks[name], target, CODE_OF_VALUE)
            except ValueError as error:
                cohort.left_out.append((scan_id, str(error)))
                continue
            cohort.rows.append(
                CohortRow(
                    scan_id=scan_id,
                    patient_id=patients.get(name, scan_id),
                    site=SITE,
                    image=image,
                    lung_mask=lungs[name],
                    pattern_mask=target,
                    has_consolidation=int(not codes.isdisjoint(L3.codes_of("consolidation"))),
                )
            )
    return Path(out_dir) / "cohort.csv"


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    folder, out = "holds rp_im/, rp_lung_msk/ and rp_msk/", "where masks/ and cohort.csv go"
    parser = importer_options(__file__, __doc__, folder, out)
    parser.add_argument("--groups", type=Path, help="CSV file (name, patient_id) of volumes that show one patient")
    options = parser.parse_args(args)
    return run_importer(lambda: import_medseg(options.folder, options.out, options.groups))


if __name__ == "__main__":
    run_command(main)
