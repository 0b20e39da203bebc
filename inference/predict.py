"""Masks, measurements and reports of new scans: of one, of a folder of them, or of a cohort.

python -m inference.predict --ckpt runs/unet_em/latest/best.ckpt --scan <scan | folder | cohort.csv> --out <folder>
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from ct.files.formats import VOLUME
from ct.lungs.find import METHODS
from ct.refusal import Refusal
from inference.load import CHECKPOINTS, OWN_MODULES, checkpoints_in
from inference.many_scans import segment_batch
from inference.outputs.write_outputs import NUMBERS
from inference.scan_list import Source, is_batch
from inference.segmenter import Segmenter
from machine.command_line import run_command
from machine.host_memory import keep_freed_memory
from training.class_paths import OPTION


def predict_one(segmenter: Segmenter, source: Source, out: Path) -> None:
    """Segment one scan into a new folder, with a progress bar.

    Raises:
        ValueError: The scan cannot be used, or `out` exists; nothing is written then.
    """
    with tqdm(total=100, leave=False, disable=None, bar_format="{desc} {percentage:3.0f}%|{bar}|") as bar:

        def show(step: str, share: float) -> None:
            bar.set_description(step)
            bar.update(int(100 * share) - bar.n)

        segmenter.predict(source, out, show)


def main(args: list[str] | None = None) -> None:
    """Run the command line of `make predict`."""
    parser = argparse.ArgumentParser(prog="make predict", description="Segment chest CT.")
    parser.add_argument("--ckpt", required=True, nargs="+", help=CHECKPOINTS)
    parser.add_argument(
        "--scan", required=True, help=f"DICOM folder or file, {VOLUME} file, zip; a folder of such; a cohort.csv"
    )
    parser.add_argument("--out", required=True, help="folder to write; a batch that was interrupted goes on in its own")
    parser.add_argument("--flips", action="store_true", help="average over mirrored slices too: four times the work")
    parser.add_argument("--lung-mask", help="lung mask on the scan's grid (default: the lungs are found)")
    parser.add_argument("--lungs", choices=METHODS, default="classical", help="how to find them (default: classical)")
    parser.add_argument(OPTION, nargs="+", default=(), help=OWN_MODULES)
    options = parser.parse_args(args)
    options.ckpt = checkpoints_in(options.ckpt)
    missing = [name.upper() for name in ("ckpt", "scan", "out") if not getattr(options, name)]
    if missing:
        parser.exit(
            2, f"error: {', '.join(missing)} not given; make predict CKPT=<best.ckpt> SCAN=<scan> OUT=<folder>\n"
        )
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


def run(options: argparse.Namespace) -> int:
    """Segment the scans of the command line, print the outcome, and return the number of scans that failed.

    Raises:
        ValueError: The call cannot be carried out, or the only scan cannot be used.
    """
    keep_freed_memory()  # a scan's arrays are large, and each is short-lived
    scan, out = Path(options.scan), Path(options.out)
    mask = Path(options.lung_mask) if options.lung_mask else None
    segmenter = Segmenter(options.ckpt, options.flips, options.lungs, options.modules)
    if is_batch(scan):
        if mask:
            raise Refusal("--lung-mask is of one scan, but there are several; name masks in a cohort.csv instead")
        summary = segment_batch(segmenter, scan, out)
        print(summary)
        return summary.failed
    predict_one(segmenter, Source(out.name, scan, lung_mask=mask), out)
    print((out / NUMBERS).read_text() + f"written to {out}")
    return 0


if __name__ == "__main__":
    run_command(main)
