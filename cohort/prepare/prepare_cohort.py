"""Preparation of a cohort: arrays and a verdict for every scan, parallel, resumable, each whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from tqdm import tqdm

from cohort.leakage import LeakRecord, find_leaks
from cohort.prepare.checksums import OTHER_VERSION, find_damage
from cohort.prepare.needs import estimate
from cohort.prepare.places import BUGS, INDEX, MAKING, VERDICTS, check_names, scan_folder, set_up, stamp_file
from cohort.prepare.prepare_scan import Outcome, PreparedScan, prepare_row, prepare_scan, try_row
from cohort.prepare.prepared_index import ScanLabels, write_index
from cohort.prepare.sources import FORMAT_VERSION, is_current
from cohort.prepare.verdicts import REFUSED, Verdict, summary, write_verdicts
from cohort.pseudonyms import cohort_salt
from cohort.splits import assign_splits
from cohort.table import HAS, CohortRow, bits_of, read_cohort, weak_label_of
from ct.classes import CLASS_SETS, L3, NAMES, ClassSet
from ct.refusal import Refusal, Sentence, word_of
from machine.engines.engine import Died, Engine, work_on
from machine.engines.parts import Part, alone_in, forget_part, gather_parts, hold_all, hold_part, write_part
from machine.engines.processes import Processes
from machine.whole_file import remove_parts

__all__ = ["INDEX", "PreparedScan", "prepare_cohort", "prepare_row", "prepare_scan", "prepared_folder"]

# For patients without an explicit split; `cohort.splits` writes a cohort.csv with the splits of another seed.
SPLIT_SEED = 0
# Longer lists are cut, with a count of what is not shown.
MAX_NAMED = 5


@dataclass(frozen=True)
class PreparedCohort:
    """The result of preparing a cohort.

    Attributes:
        out_dir: The prepared folder, with index.csv and verdicts.csv.
        rows: The cohort's rows, each with its split.
        verdicts: One for each row, in the same order.
        fresh: Scans that were prepared now; the other usable ones were there already.
    """

    out_dir: Path
    rows: tuple[CohortRow, ...]
    verdicts: tuple[Verdict, ...]
    fresh: int

    @property
    def folders(self) -> list[Path]:
        """The folders of the usable scans, in the cohort's order."""
        return [scan_folder(self.out_dir, verdict.scan_id) for verdict in self.verdicts if verdict.usable]

    @property
    def refused(self) -> int:
        """The number of scans that were refused."""
        return sum(not verdict.usable for verdict in self.verdicts)

    @property
    def verdicts_csv(self) -> Path:
        """The file with all verdicts."""
        return self.out_dir / VERDICTS


def prepared_folder(cohort: str | Path, size: int, root: str | Path = "prepared", classes: ClassSet = L3) -> Path:
    """Return the folder in which a cohort is prepared at a size; training looks there too."""
    resolved = Path(cohort).resolve()
    # Two cohorts may share a folder name: the hash of the path keeps their arrays apart.
    key = hashlib.sha256(str(resolved).encode()).hexdigest()[:8]
    class_set = "" if classes.reading == L3.reading else f"-{classes.name}-{classes.reading}"
    return Path(root) / f"{resolved.parent.name}-{size}-{key}{class_set}"


def prepare_cohort(
    cohort_csv: str | Path,
    out_dir: str | Path,
    size: int = 256,
    jobs: int = 2,
    classes: ClassSet = L3,
    engine: Engine | None = None,
) -> PreparedCohort:
    """Prepare every scan of a cohort; what is already prepared from the same bytes with the same parameters is kept.

    Writes one folder per usable scan, verdicts.csv with what became of every scan and why, and index.csv with the
    usable ones; a progress bar goes to stderr. Refused scans are tried again by the next call. What is kept is read
    and compared with its checksums, and prepared again where it is damaged.

    Args:
        cohort_csv: The cohort.
        out_dir: Where the prepared folders go.
        size: Pixels along each side in plane.
        jobs: Processes that work at the same time.
        classes: Whose codes the pattern masks hold.
        engine: What prepares the scans; by default `jobs` processes of this machine.

    Returns:
        The verdicts and the folders.

    Raises:
        ValueError: The cohort is wrong or `out_dir` cannot be written; or none of the scans can be used, or some of
            different splits show the same patient: then there is no index.csv.
    """
    task = _Task.read(cohort_csv, out_dir, size, jobs, classes)
    with hold_all(task.out):
        remove_parts(task.out / MAKING)
        labels, reasons = _scan_labels(task.rows, classes)
        outcomes = {scan_id: Outcome(reason=reason) for scan_id, reason in reasons.items()}
        outcomes |= _prepare_all(task, [row for row in task.rows if row.scan_id not in reasons], engine)
        done = _settle(task, labels, outcomes)
    if done.fresh == 0:
        again = f"; refused scans were tried again: {done.refused}" if done.refused else ""
        print(f"nothing to do: {len(done.folders)} scans are already prepared in {task.out}{again}", file=sys.stderr)
    return done


def prepare_part(
    cohort_csv: str | Path, out_dir: str | Path, part: Part, size: int = 256, jobs: int = 2, classes: ClassSet = L3
) -> Counter[str]:
    """Prepare a share of a cohort's scans like `prepare_cohort`, beside other processes that prepare the other shares.

    Tables are written by `gather_cohort`, when all parts are done.

    Returns:
        How many scans of the part can be used and how many are refused.

    Raises:
        ValueError: The cohort is wrong or `out_dir` cannot be written.
    """
    task = _Task.read(cohort_csv, out_dir, size, jobs, classes)
    rows = part.share(task.rows)
    with hold_part(task.out, part):
        forget_part(task.out, part)
        remove_parts(task.out / MAKING, {row.scan_id for row in rows})
        _, reasons = _scan_labels(rows, classes)
        outcomes = {scan_id: Outcome(reason=reason) for scan_id, reason in reasons.items()}
        outcomes |= _prepare_all(task, [row for row in rows if row.scan_id not in reasons])
        write_part(task.out, part, task.subject, {name: asdict(outcome) for name, outcome in outcomes.items()})
    return Counter(REFUSED if outcome.reason else "usable" for outcome in outcomes.values())


def gather_cohort(
    cohort_csv: str | Path, out_dir: str | Path, size: int = 256, classes: ClassSet = L3
) -> PreparedCohort:
    """Write the tables of a cohort that was prepared in parts, as `prepare_cohort` would have.

    Raises:
        ValueError: As `prepare_cohort`; or parts are missing, or were prepared from another cohort or otherwise.
    """
    task = _Task.read(cohort_csv, out_dir, size, 1, classes)
    with hold_all(task.out):
        records = gather_parts(task.out, task.subject, [row.scan_id for row in task.rows])
        labels, _ = _scan_labels(task.rows, classes)
        return _settle(task, labels, {name: Outcome(**record) for name, record in records.items()})


@dataclass(frozen=True)
class _Task:
    """What is to be prepared, where and how."""

    cohort_csv: Path
    rows: tuple[CohortRow, ...]
    out: Path
    size: int
    jobs: int
    classes: ClassSet

    @classmethod
    def read(cls, cohort_csv: str | Path, out_dir: str | Path, size: int, jobs: int, classes: ClassSet) -> Self:
        """Read the cohort, and make the folder."""
        if size < 1 or jobs < 1:
            raise Refusal(
                "size is {size} and jobs is {jobs}; expected at least 1 pixel and 1 job", size=size, jobs=jobs
            )
        cohort = read_cohort(cohort_csv)
        check_names(cohort.rows, cohort.path)
        rows, out = assign_splits(cohort.rows, SPLIT_SEED), Path(out_dir)
        out.mkdir(parents=True, exist_ok=True)
        with alone_in(out):
            set_up(out, rows)
        return cls(cohort.path, rows, out, size, jobs, classes)

    @property
    def subject(self) -> str:
        """What the prepared scans depend on but for their files, as a hash."""
        names = [(row.scan_id, str(row.image)) for row in self.rows]
        parameters = [FORMAT_VERSION, self.size, self.classes.reading, names]
        return hashlib.sha256(json.dumps(parameters).encode()).hexdigest()


def _remove_damaged(rows: Sequence[CohortRow], out: Path, jobs: int) -> None:
    """Remove prepared folders that do not hold what was written, so that their scans are prepared again; say so."""
    folders = [folder for row in rows if (folder := scan_folder(out, row.scan_id)).exists()]
    problems = find_damage(folders, FORMAT_VERSION, jobs)
    for folder in problems:
        shutil.rmtree(folder)
    damage = [f"{folder.name}/{name}" for folder, name in problems.items() if name != OTHER_VERSION]
    if damage:
        more = f" and {len(damage) - MAX_NAMED} more" if len(damage) > MAX_NAMED else ""
        print(
            f"warning: {len(damage)} prepared scans in {out} do not hold what was written "
            f"({', '.join(damage[:MAX_NAMED])}{more}); they are prepared again; look at the disk if this comes back",
            file=sys.stderr,
        )
    if len(problems) > len(damage):
        count = len(problems) - len(damage)
        print(f"{count} scans in {out} were prepared by another version and are prepared again", file=sys.stderr)


def _prepare_all(task: _Task, rows: Sequence[CohortRow], engine: Engine | None = None) -> dict[str, Outcome]:
    """Prepare what is not there yet and return what became of each row."""
    _remove_damaged(rows, task.out, task.jobs)
    outcomes = {row.scan_id: Outcome() for row in rows}
    todo = {row.scan_id: row for row in rows if not is_current(row, task.out, task.size, task.classes)}
    if todo:
        of_this_machine = task.jobs if engine is None or isinstance(engine, Processes) else None
        print(estimate(list(todo.values()), task.size).text(task.out, of_this_machine), file=sys.stderr)
    work = partial(try_row, out_dir=task.out, size=task.size, classes=task.classes)
    results = work_on(todo, work, engine or Processes(task.jobs))
    bar = tqdm(
        total=len(rows),
        initial=len(rows) - len(todo),
        desc="prepare",
        unit="scan",
        leave=False,
        disable=None if todo else True,  # None: shown on a terminal only
    )
    with closing(results), bar:  # closing ends processes that still run when this one is interrupted
        for scan_id, result in results:
            outcome = _outcome_of_dead(todo[scan_id], result) if isinstance(result, Died) else result
            if outcome.stop:
                raise Refusal("{stop}; free some space or name another folder", stop=outcome.stop)
            outcomes[scan_id] = outcome
            bar.update()
    return outcomes


def _outcome_of_dead(row: CohortRow, death: Died) -> Outcome:
    return Outcome(
        reason=f"{row.image}: the process that read it was {death.how}, also when it ran alone; expected a file that "
        f"can be read in the memory there is; give it more memory, or export the scan again"
    )


def _settle(task: _Task, labels: Sequence[ScanLabels], outcomes: Mapping[str, Outcome]) -> PreparedCohort:
    """Leave on disk only what belongs to usable scans, and write the tables."""
    remove_parts(task.out / MAKING)
    records = _records(task, outcomes)
    verdicts = tuple(_verdict(row, outcomes[row.scan_id], records, task.cohort_csv.parent) for row in task.rows)
    done = PreparedCohort(task.out, task.rows, verdicts, sum(outcome.fresh for outcome in outcomes.values()))
    write_verdicts(verdicts, done.verdicts_csv)
    try:
        _check_usable(done, records, task.cohort_csv)
    except ValueError:
        # An index of an earlier call would let a training run start on what was just found to be wrong.
        (task.out / INDEX).unlink(missing_ok=True)
        raise
    write_index(task.rows, labels, records, cohort_salt(task.cohort_csv, task.out), task.out / INDEX)
    return done


def _records(task: _Task, outcomes: Mapping[str, Outcome]) -> dict[str, dict[str, Any]]:
    """Return the scan.json of each usable scan; remove what there is of the others, and note bugs."""
    records = {}
    for row in task.rows:
        folder = scan_folder(task.out, row.scan_id)
        if not outcomes[row.scan_id].reason:
            records[row.scan_id] = json.loads((folder / "scan.json").read_text(encoding="utf-8"))
            continue
        stamp_file(task.out, row.scan_id).unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
    bugs = [f"{row.scan_id}\n{outcomes[row.scan_id].bug}" for row in task.rows if outcomes[row.scan_id].bug]
    if bugs:
        (task.out / BUGS).write_text("\n".join(bugs), encoding="utf-8")
    else:
        (task.out / BUGS).unlink(missing_ok=True)
    return records


def _verdict(row: CohortRow, outcome: Outcome, records: Mapping[str, dict[str, Any]], base: Path) -> Verdict:
    image = Path(os.path.relpath(row.image, base)).as_posix()
    if outcome.reason:
        return Verdict(row.scan_id, row.site, row.split, REFUSED, (outcome.reason,), (), image)
    record = records[row.scan_id]
    repairs, warnings = tuple(record["repairs"]), tuple(record["warnings"])
    return Verdict(row.scan_id, row.site, row.split, record["verdict"], repairs, warnings, image)


def _check_usable(done: PreparedCohort, records: Mapping[str, dict[str, Any]], cohort_csv: Path) -> None:
    if not records:
        text = "{cohort}: none of its scans can be used; see {file}"
        none = Sentence(text, cohort=cohort_csv, file=done.verdicts_csv)
        raise Refusal.of(none.in_private(f"{none}\n{summary(done.verdicts)}"))
    leaks = find_leaks(
        [
            LeakRecord(row.scan_id, row.patient_id, row.split, record["source_sha256"], record["volume_hash"])
            for row in done.rows
            if (record := records.get(row.scan_id))
        ]
    )
    if leaks:
        text = "{cohort}: scans of different splits show the same patient; put them into one split or remove one:"
        head = Sentence(text, cohort=cohort_csv)
        raise Refusal.of(head.in_private("\n  ".join([head, *leaks])))


def _scan_labels(rows: Sequence[CohortRow], classes: ClassSet) -> tuple[list[ScanLabels], dict[str, str]]:
    """Return what is known of every scan as a whole, and by scan why a label of it cannot be used."""
    labels, reasons = [], {}
    sharing = (classes, *(known for known in CLASS_SETS if known.reading == classes.reading))
    for row in rows:
        try:
            unknown = [key for key in row.labels if key not in classes.members]
            if unknown:
                raise Refusal(
                    "scan {scan}, column labels: found {key!r}, which is no finding or leaf of the class set "
                    "{classes}; expected some of {keys}",
                    scan=row.scan_id,
                    key=unknown[0],
                    classes=word_of(classes.name, NAMES),
                    keys=", ".join(classes.members),
                )
            bits = {key: bit for known in reversed(sharing) for key, bit in bits_of(row, known).items()}
            labels.append(ScanLabels(weak_label_of(row), bits))
        except (ValueError, OSError) as error:
            labels.append(ScanLabels(-1, {key: -1 for known in reversed(sharing) for key in known.unions}))
            reasons[row.scan_id] = str(error)
    _warn_of_columns(rows, sharing)
    return labels, reasons


def _warn_of_columns(rows: Sequence[CohortRow], sharing: Sequence[ClassSet]) -> None:
    """Say which columns has_<finding> are of no finding of any class set."""
    keys = dict.fromkeys(key for row in rows for key, _ in row.has_findings)
    unknown = [HAS + key for key in keys if not any(key in known.unions for known in (*sharing, *CLASS_SETS))]
    if unknown:
        print(
            f"the columns {', '.join(unknown)} name no finding or leaf of the class set {sharing[0].name} "
            f"({', '.join(sharing[0].unions)}) and are not used",
            file=sys.stderr,
        )
