"""Segmentation of many scans in turn: failures are listed, finished scans are kept when it starts again."""

import hashlib
import json
import sys
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import pandas as pd
import torch
from tqdm import tqdm

from ct.classes import ClassSet
from ct.lungs.find import FILE
from ct.refusal import Refusal, Sentence, cause_of, origin_of, sentence_of
from inference.follow_up import follow_up
from inference.outputs.index_page import write_index
from inference.outputs.write_outputs import NUMBERS
from inference.result import NO_CARD
from inference.scan_list import PRIVATE, Source, name_sources, scans_of, write_private
from inference.segmenter import Segmenter
from machine.engines.engine import Died, Engine, InTurn, work_on
from machine.engines.parts import Part, alone_in, forget_part, gather_parts, hold_all, hold_part, write_part
from machine.whole_file import remove_parts
from pages.page import counted


@dataclass(frozen=True)
class Summary:
    """Outcome of a batch.

    Attributes:
        out: Its folder.
        segmented: Scans with a result, earlier ones included.
        earlier: Of these, scans that had one already.
        flagged: Of the segmented, scans whose result is flagged.
        failed: Scans without a result.
        left_out: Number of files that were left out, by reason.
    """

    out: Path
    segmented: int
    earlier: int
    flagged: int
    failed: int
    left_out: Mapping[str, int]

    def __str__(self) -> str:
        """Return the lines to print at the end."""
        segmented = f"{self.segmented} segmented ({self.earlier} of them before)"
        lines = [f"{segmented}, {self.flagged} flagged, {self.failed} failed"]
        lines += [f"left out: {counted(count, 'file')}: {reason}" for reason, count in self.left_out.items()]
        if self.left_out:
            lines.append(f"which files were left out: {self.out / PRIVATE}")
        if self.failed:
            lines.append(f"why they failed: {self.out / 'failed.csv'}; the same command tries them again")
        return "\n".join([*lines, f"written to {self.out}"])


def segment_batch(segmenter: Segmenter, scans: Path, out: Path, engine: Engine | None = None) -> Summary:
    """Segment every scan of a folder or a cohort into <out>/<name>, and write the tables of all.

    Scans that fail and files that are no scan are reported and listed, and the batch goes on. Started again, the same
    command resumes an interrupted batch: a scan whose folder exists is finished. Only the numbers of a scan are kept in
    memory.

    Args:
        segmenter: The model.
        scans: A folder of scans, or a cohort.csv.
        out: The folder of the batch.
        engine: What segments the scans; by default this process, one after the other.

    Returns:
        The outcome.

    Raises:
        ValueError: `scans` cannot be used, or `out` holds results of other scans or another model.
    """
    batch = _Batch.read(segmenter, scans, out)
    with hold_all(out):
        remove_parts(out)
        reasons, earlier = batch.segment(batch.sources, engine or InTurn())
        return batch.settle(reasons, earlier)


def segment_part(segmenter: Segmenter, scans: Path, out: Path, part: Part) -> Counter[str]:
    """Segment a share of the scans like `segment_batch`, beside other processes that segment the other shares.

    Tables are written by `gather_batch`, when all parts are done.

    Returns:
        How many scans of the part are "segmented" and how many "failed".
    """
    batch = _Batch.read(segmenter, scans, out)
    sources = part.share(batch.sources)
    with hold_part(out, part):
        forget_part(out, part)
        remove_parts(out, {source.name for source in sources})
        reasons, _ = batch.segment(sources, InTurn())
        results = {name: reason.record for name, reason in reasons.items()}
        write_part(out, part, batch.subject, {source.name: results.get(source.name) for source in sources})
    return Counter("failed" if source.name in reasons else "segmented" for source in sources)


def gather_batch(segmenter: Segmenter, scans: Path, out: Path) -> Summary:
    """Write the tables of a batch that was segmented in parts, as `segment_batch` would have.

    Raises:
        ValueError: Parts are missing, or were of other scans or another model.
    """
    batch = _Batch.read(segmenter, scans, out)
    with hold_all(out):
        results = gather_parts(out, batch.subject, [source.name for source in batch.sources])
        failed = {name: Sentence.of_record(result) for name, result in results.items() if result}
        return batch.settle(failed, 0)


@dataclass(frozen=True)
class _Batch:
    """The scans of a batch, by which model, and where their results go."""

    segmenter: Segmenter
    sources: list[Source]
    left_out: dict[Path, str]
    out: Path

    @classmethod
    def read(cls, segmenter: Segmenter, scans: Path, out: Path) -> Self:
        """List the scans, with the names that they have in the folder."""
        _check_apart(scans, out)
        sources, left_out = scans_of(scans)
        out.mkdir(parents=True, exist_ok=True)
        with alone_in(out):
            return cls(segmenter, name_sources(sources, out), left_out, out)

    @property
    def subject(self) -> str:
        """What the results depend on, as a hash."""
        card = self.segmenter.card
        scans = [(source.name, str(source.path)) for source in self.sources]
        settings = [*card.checkpoints_sha256, card.flips, self.segmenter.lung_method, scans]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    def segment(self, sources: Sequence[Source], engine: Engine) -> tuple[dict[str, Sentence], int]:
        """Segment scans that have no result yet; return why some failed, and how many had one."""
        waiting = {each.name: each for each in sources if not _is_finished(self.out / each.name, self.segmenter)}
        reasons: dict[str, Sentence] = {}
        results = work_on(waiting, partial(_segment, segmenter=self.segmenter, out=self.out), engine)
        with tqdm(total=len(waiting), desc="scans", unit="scan", disable=None) as bar, closing(results):
            for number, (name, result) in enumerate(results, 1):
                bar.update()
                if bar.disable:  # without a terminal, a log gets a line per scan
                    print(f"scan {number} of {len(waiting)}: {name}", file=sys.stderr)
                reason = _reason_of_death(result) if isinstance(result, Died) else result
                if reason:
                    reasons[name] = reason
                    bar.write(f"{name} failed: {reason}")
        return reasons, len(sources) - len(waiting)

    def settle(self, reasons: Mapping[str, Sentence], earlier: int) -> Summary:
        """Write the tables; return the outcome."""
        in_order = {source.name: reasons[source.name] for source in self.sources if source.name in reasons}
        write_private(self.sources, self.out, in_order, self.left_out)
        rows = _tables(self.sources, in_order, self.out, self.segmenter.classes)
        flagged = int(rows["flags"].ne("").sum()) if len(rows) else 0
        return Summary(self.out, len(rows), earlier, flagged, len(in_order), Counter(self.left_out.values()))


def _reason_of_death(death: Died) -> Sentence:
    return Sentence(
        "the process that segmented it was {how}, also when it ran alone; expected a scan that fits the memory there "
        "is; give it more, or crop or thin the scan",
        how=death.how,
    )


def _segment(source: Source, segmenter: Segmenter, out: Path) -> Sentence | None:
    """Segment a scan; return why that failed."""
    try:
        segmenter.predict(source, out / source.name)
    except Exception as error:  # a bug that one scan brings out must not cost the others their results
        return _reason(error)
    return None


def _check_apart(scans: Path, out: Path) -> None:
    if scans.is_dir() and out.resolve().is_relative_to(scans.resolve()):
        raise Refusal(
            "{folder} lies within {source}, where its results would be taken for scans; give OUT elsewhere",
            folder=out,
            source=scans,
        )


def _reason(error: Exception) -> Sentence:
    if isinstance(error, ValueError | OSError):
        return sentence_of(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return Sentence("needs more memory than there is; expected a chest CT; crop or thin it")
    traceback.print_exception(error)
    return Sentence("(a bug: please report) {cause}{origin}", cause=cause_of(error), origin=origin_of(error))


def _is_finished(folder: Path, segmenter: Segmenter) -> bool:
    if not folder.exists():
        return False
    path = folder / NUMBERS
    numbers = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    model, card = numbers.get("model", {}), segmenter.card
    same = (model.get("checkpoints_sha256"), model.get("flips")) == (list(card.checkpoints_sha256), card.flips)
    if not same or numbers.get("lung_source") not in (FILE, segmenter.lung_method):
        raise Refusal(
            "{folder} holds a result of another model or of other settings; give OUT a new folder", folder=folder
        )
    return True


def _tables(sources: Sequence[Source], reasons: Mapping[str, Sentence], out: Path, classes: ClassSet) -> pd.DataFrame:
    """Write measurements.csv, failed.csv, follow_up.csv and index.html; return the first."""
    rows = pd.DataFrame([_row(out / source.name) for source in sources if source.name not in reasons])
    failed = pd.DataFrame([(name, reason.public) for name, reason in reasons.items()], columns=["name", "reason"])
    rows.to_csv(out / "measurements.csv", index=False)
    failed.to_csv(out / "failed.csv", index=False)
    visits = follow_up(sources, rows) if len(rows) else None
    if visits is not None:
        visits.to_csv(out / "follow_up.csv", index=False)
    write_index(out, rows, failed, classes, visits)
    return rows


def _row(folder: Path) -> dict[str, object]:
    """Return a row of measurements.csv; lists become one text."""
    numbers = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
    model = numbers.pop("model")
    texts = {key: "; ".join(map(str, value)) for key, value in numbers.items() if isinstance(value, list)}
    card = {"model": model.get("card", NO_CARD), "checkpoints_sha256": " ".join(model["checkpoints_sha256"])}
    return numbers | texts | card | {"version": model["version"]}
