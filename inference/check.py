"""The gate alone: can these scans be used? A verdict for each, and nothing else.

    ground-glass check <scan | folder | cohort.csv> [-o verdicts.csv]

It reads every scan as `ground-glass predict` would and looks for its lungs; no model is asked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from inference.predict import SCANS
from machine.command_line import run_command

if TYPE_CHECKING:
    from cohort.prepare.verdicts import Verdict
    from inference.scan_list import Source


def verdict_on(source: Source) -> Verdict:
    """Return the verdict on a scan: pass, repaired (by what), or refused (why), and what is unusual about its lungs."""
    from cohort.prepare.verdicts import PASS, REFUSED, REPAIRED, Verdict
    from ct.lungs.find import find_lungs
    from inference.unpacked import read_new_scan, unpacked

    verdict = Verdict(source.name, "", "", REFUSED, (), (), str(source.path))
    try:
        with unpacked(source.path) as path:
            scan = read_new_scan(path, source.grey_hu)
            lungs = find_lungs(scan, source.lung_mask)
    except (ValueError, OSError) as error:
        return replace(verdict, reasons=(str(error),))
    repairs = (*scan.repairs, *lungs.repairs)
    return replace(verdict, verdict=REPAIRED if repairs else PASS, reasons=repairs, warnings=lungs.warnings)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 1 where a scan is refused."""
    parser = argparse.ArgumentParser(
        prog="ground-glass check",
        description="Say of every scan whether it can be used, and why not; no model is asked.",
        epilog="Exit codes: 0 all can be used; 1 some are refused; 2 the call cannot be carried out.",
    )
    parser.add_argument("scan", type=Path, help=SCANS)
    parser.add_argument("-o", "--out", type=Path, help="write the verdicts as CSV too, with the scans' paths")
    options = parser.parse_args(args)
    from tqdm import tqdm

    from cohort.prepare.verdicts import summary, write_verdicts
    from inference.scan_list import Source, is_batch, scans_of

    try:
        sources, left_out = scans_of(options.scan) if is_batch(options.scan) else ([Source("", options.scan)], {})
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    named = [source if source.name else replace(source, name=source.path.name) for source in sources]
    verdicts = [verdict_on(source) for source in tqdm(named, "check", unit="scan", disable=None, leave=False)]
    for verdict in verdicts:
        said = "; ".join((*verdict.reasons, *verdict.warnings))
        print(f"{verdict.verdict:<9}{verdict.scan_id}{f': {said}' if said else ''}")
    for path, reason in left_out.items():
        print(f"left out {path.name}: {reason}")
    print(summary(verdicts).splitlines()[0])
    if options.out:
        write_verdicts(verdicts, options.out)
    return 0 if all(verdict.usable for verdict in verdicts) else 1


if __name__ == "__main__":
    run_command(main)
