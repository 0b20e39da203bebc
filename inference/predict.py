"""Masks, measurements and reports of new scans: of one, of a folder of them, or of a cohort.

    ground-glass predict <scan | folder | cohort.csv> -o <folder> [--ckpt runs/unet_em/latest/best.ckpt]

What takes time to import is imported when the call has been read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ct.refusal import Refusal
from inference.model_names import CHECKPOINTS, DEFAULT, OWN_MODULES, checkpoints_in
from machine.command_line import run_command
from machine.engines.engine import InTurn
from machine.engines.options import LOCAL, add_engine_options, engine_of, part_of
from machine.whole_file import remove_parts
from training.class_paths import OPTION

if TYPE_CHECKING:
    from inference.scan_list import Source
    from inference.segmenter import Segmenter

# Options that users of TotalSegmentator try, and what there is instead.
ELSEWHERE = {
    "--fast": "a scan takes seconds as it is: leave it out",
    "--roi": "a model finds all that its class set names: choose one with --ckpt, and take the masks that you need",
    "--statistics": "volumes are always written, into measurements.json: leave it out",
}
ELSEWHERE["--roi_subset"] = ELSEWHERE["--roi"]
SCANS = "DICOM folder or file, NIfTI, NRRD or MetaImage file, zip; a folder of such; a cohort.csv"


def predict_one(segmenter: Segmenter, source: Source, out: Path) -> None:
    """Segment one scan into a new folder, with a progress bar.

    Raises:
        ValueError: The scan cannot be used, or `out` exists; nothing is written then.
    """
    from tqdm import tqdm

    with tqdm(total=100, leave=False, disable=None, bar_format="{desc} {percentage:3.0f}%|{bar}|") as bar:

        def show(step: str, share: float) -> None:
            bar.set_description(step)
            bar.update(int(100 * share) - bar.n)

        segmenter.predict(source, out, show)


def options_of_predict() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="ground-glass predict",
        usage="%(prog)s <scan | folder | cohort.csv> -o <folder> [options]",
        description="Segment chest CT: masks on the scan's grid, volumes, DICOM SEG and SR, a page per scan.",
        epilog="Exit codes: 0 done; 1 some scans of a batch failed; 2 the call or the scan cannot be used.",
    )
    parser.add_argument("scan", nargs="?", default=argparse.SUPPRESS, help=SCANS)
    parser.add_argument("--scan", default="", help=argparse.SUPPRESS)
    parser.add_argument("-o", "--out", default="", help="folder to write; an interrupted batch goes on in its own")
    parser.add_argument(
        "--ckpt", nargs="+", default=[DEFAULT], metavar="MODEL", help=f"{CHECKPOINTS} (default: its own)"
    )
    parser.add_argument("--device", default="auto", help="cpu, gpu or auto: a GPU where there is one (default)")
    parser.add_argument("--flips", action="store_true", help="average over mirrored slices too: four times the work")
    parser.add_argument("--lung-mask", help="lung mask on the scan's grid (default: the lungs are found)")
    parser.add_argument("--lungs", default="classical", help="how to find them: classical (default) or lungmask")
    add_engine_options(parser)
    parser.add_argument(OPTION, nargs="+", default=(), help=OWN_MODULES)
    return parser


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = options_of_predict()
    words = list(sys.argv[1:] if args is None else args)
    for option in (word.partition("=")[0] for word in words):
        if option in ELSEWHERE:
            parser.exit(2, f"error: there is no {option} here; {ELSEWHERE[option]}\n")
    options = parser.parse_args(words)
    options.ckpt = checkpoints_in(options.ckpt) or [DEFAULT]
    missing = [name for name, value in (("the scan", options.scan), ("the folder to write", options.out)) if not value]
    if missing:
        parser.exit(2, f"error: {' and '.join(missing)} not given; ground-glass predict <scan> -o <folder>\n")
    try:
        failed = run(options)
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    except OSError as error:
        parser.exit(2, f"error: {error.filename or options.out}: cannot be used ({error.strerror or error})\n")
    except KeyboardInterrupt:
        parser.exit(130, "interrupted; the same command goes on with a batch\n")
    if failed:
        sys.exit(1)
    return 0


def run(options: argparse.Namespace) -> int:
    """Segment the scans of the command line, print the outcome, and return the number of scans that failed.

    Raises:
        ValueError: The call cannot be carried out, or the only scan cannot be used.
    """
    from inference.many_scans import gather_batch, segment_batch, segment_part
    from inference.outputs.write_outputs import NUMBERS
    from inference.scan_list import Source, is_batch
    from inference.segmenter import Segmenter
    from machine.host_memory import keep_freed_memory

    keep_freed_memory()  # a scan's arrays are large, and each is short-lived
    scan, out = Path(options.scan), Path(options.out)
    mask = Path(options.lung_mask) if options.lung_mask else None
    part, engine = part_of(options), engine_of(options, InTurn())
    several = is_batch(scan)
    if not several and (part or options.gather or options.engine != LOCAL):
        raise Refusal("{source} is one scan; expected a folder of scans or a cohort.csv to share out", source=scan)
    segmenter = Segmenter(options.ckpt, options.flips, options.lungs, options.modules, device=options.device)
    if several:
        if mask:
            raise Refusal("--lung-mask is of one scan, but there are several; name masks in a cohort.csv instead")
        if part:
            counts = segment_part(segmenter, scan, out, part)
            print(f"part {part}: {counts['segmented']} scans segmented, {counts['failed']} failed, in {out}")
            print("when all parts are done: the same command with --gather instead of --part writes the tables")
            return counts["failed"]
        summary = gather_batch(segmenter, scan, out) if options.gather else segment_batch(segmenter, scan, out, engine)
        print(summary)
        return summary.failed
    remove_parts(out.parent, {out.name})
    predict_one(segmenter, Source(out.name, scan, lung_mask=mask), out)
    print((out / NUMBERS).read_text() + f"written to {out}")
    return 0


if __name__ == "__main__":
    run_command(main)
