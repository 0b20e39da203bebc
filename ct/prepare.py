"""cohort.csv -> prepared arrays: parallel, resumable, each scan whole or not at all."""

from __future__ import annotations

import argparse
import csv
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from ct.cohort import Cohort, CohortRow, assign_splits, composition, read_cohort, weak_label_of
from ct.prepare_scan import PreparedScan, prepare_row, prepare_scan

__all__ = ["PreparedScan", "main", "prepare_cohort", "prepare_row", "prepare_scan"]

INDEX_COLUMNS = (
    "scan_id",
    "patient_id",
    "site",
    "split",
    "weak_label",
    "slices",
    "spacing_z_mm",
    "spacing_y_mm",
    "spacing_x_mm",
    "folder",
    "has_infection_mask",
    "has_pattern_mask",
    "grey_low_hu",
    "grey_high_hu",
)


def prepare_cohort(
    cohort_csv: str | Path, out_dir: str | Path, size: int = 256, jobs: int = 2, seed: int = 0
) -> list[Path]:
    """Prepare every scan of a cohort; what is already prepared from the same bytes with the same parameters is kept.

    Writes one folder per scan and, when all went well, index.csv; a progress bar goes to stderr.

    Args:
        cohort_csv: The cohort.
        out_dir: Where the prepared folders go.
        size: Pixels along each side in plane.
        jobs: Processes that work at the same time.
        seed: For the patients without an explicit split.

    Returns:
        The folders of the scans, in the cohort's order.

    Raises:
        ValueError: The cohort is wrong, or some scans cannot be used; the others are prepared first and all bad ones
            are listed.
    """
    cohort = read_cohort(cohort_csv)
    rows = assign_splits(cohort.rows, seed)
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    with _only_one(out):
        for leftover in out.glob(".tmp-*"):
            shutil.rmtree(leftover)
        fresh, problems = _prepare_all(rows, out, size, jobs)
        labels = _weak_labels(rows, problems)
        if problems:
            # An index beside missing or outdated folders would let a training run start on half a cohort.
            (out / "index.csv").unlink(missing_ok=True)
            raise ValueError(_list_problems(cohort, problems))
        _write_index(rows, labels, out)
    if fresh == 0:
        print(f"nothing to do: {len(rows)} scans are already prepared in {out}", file=sys.stderr)
    return [out / row.scan_id for row in rows]


def _prepare_all(rows: Sequence[CohortRow], out: Path, size: int, jobs: int) -> tuple[int, dict[str, str]]:
    """Prepare all rows; return how many were not there yet, and the sentence of each that failed."""
    fresh = 0
    problems: dict[str, str] = {}
    with tqdm(total=len(rows), desc="prepare", unit="scan", leave=False) as bar:
        for row, future in _run(rows, out, size, jobs):
            try:
                fresh += future.result()
            except (ValueError, OSError) as error:
                problems[row.scan_id] = str(error)
            bar.update()
    return fresh, problems


def _run(rows: Sequence[CohortRow], out: Path, size: int, jobs: int) -> Iterator[tuple[CohortRow, Future[bool]]]:
    if min(jobs, len(rows)) <= 1:
        for row in rows:
            done: Future[bool] = Future()
            try:
                done.set_result(prepare_row(row, out, size))
            except Exception as error:
                done.set_exception(error)
            yield row, done
        return
    with ProcessPoolExecutor(max_workers=min(jobs, len(rows))) as pool:
        row_of = {pool.submit(prepare_row, row, out, size): row for row in rows}
        for future in as_completed(row_of):
            yield row_of[future], future


def _weak_labels(rows: Sequence[CohortRow], problems: dict[str, str]) -> list[int]:
    labels = []
    for row in rows:
        try:
            labels.append(weak_label_of(row))
        except ValueError as error:
            labels.append(-1)
            problems.setdefault(row.scan_id, str(error))
    return labels


def _list_problems(cohort: Cohort, problems: dict[str, str]) -> str:
    lines = [f"  {scan_id}: {sentence}" for scan_id, sentence in sorted(problems.items())]
    head = f"{cohort.path}: {len(lines)} of {len(cohort.rows)} scans cannot be used; correct or remove these rows:"
    return "\n".join([head, *lines])


def _write_index(rows: Sequence[CohortRow], labels: Sequence[int], out: Path) -> None:
    salt = _salt(out)
    temporary = out / ".index.csv.tmp"
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, INDEX_COLUMNS)
        writer.writeheader()
        for row, label in zip(rows, labels, strict=True):
            writer.writerow(_index_row(row, label, out, salt))
    os.replace(temporary, out / "index.csv")


def _index_row(row: CohortRow, label: int, out: Path, salt: str) -> dict[str, object]:
    record = json.loads((out / row.scan_id / "scan.json").read_text(encoding="utf-8"))
    spacing = record["prepared_spacing_mm"] if record["spacing_known"] else ["", "", ""]
    return {
        "scan_id": row.scan_id,
        "patient_id": hashlib.sha256(f"{salt}{row.patient_id}".encode()).hexdigest()[:12],
        "site": row.site,
        "split": row.split,
        "weak_label": label,
        "slices": record["prepared_shape"][0],
        **dict(zip(("spacing_z_mm", "spacing_y_mm", "spacing_x_mm"), spacing, strict=True)),
        "folder": row.scan_id,
        "has_infection_mask": int("infection" in record["masks"]),
        "has_pattern_mask": int("patterns" in record["masks"]),
        "grey_low_hu": "" if row.grey_low_hu is None else row.grey_low_hu,
        "grey_high_hu": "" if row.grey_high_hu is None else row.grey_high_hu,
    }


def _salt(out: Path) -> str:
    """Return the folder's salt for pseudonyms, drawn once; without it they could be found by trying names."""
    path = out / ".salt"
    if not path.exists():
        path.write_text(secrets.token_hex(16), encoding="utf-8")
    return path.read_text(encoding="utf-8")


@contextmanager
def _only_one(out: Path) -> Iterator[None]:
    """Let a second command on the same folder wait until the first has finished."""
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m ct.prepare", description="Prepare the scans of a cohort.csv.")
    parser.add_argument("--cohort", required=True, type=Path, help="the cohort.csv")
    parser.add_argument("--out", required=True, type=Path, help="folder for the prepared scans")
    parser.add_argument("--size", type=int, default=256, help="pixels along each side in plane")
    parser.add_argument("--jobs", type=int, default=2, help="processes that work at the same time")
    parser.add_argument("--seed", type=int, default=0, help="for the patients without an explicit split")
    options = parser.parse_args(args)
    try:
        folders = prepare_cohort(options.cohort, options.out, options.size, options.jobs, options.seed)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(composition(assign_splits(read_cohort(options.cohort).rows, options.seed)))
    print(f"{len(folders)} scans in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
