"""Segmentation of many scans in turn: failures are listed, finished scans are kept when it starts again."""

import json
import sys
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from ct.classes import ClassSet
from ct.refusal import Refusal, Sentence, cause_of, origin_of, sentence_of
from inference.follow_up import follow_up
from inference.outputs.index_page import write_index
from inference.outputs.write_outputs import NUMBERS
from inference.result import NO_CARD
from inference.scan_list import PRIVATE, Source, name_sources, scans_of, write_private
from inference.segmenter import Segmenter
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


def segment_batch(segmenter: Segmenter, scans: Path, out: Path) -> Summary:
    """Segment every scan of a folder or a cohort into <out>/<name>, and write the tables of all.

    Scans that fail and files that are no scan are reported and listed, and the batch goes on. Started again, the same
    command resumes an interrupted batch: a scan whose folder exists is finished. Only the numbers of a scan are kept in
    memory.

    Args:
        segmenter: The model.
        scans: A folder of scans, or a cohort.csv.
        out: The folder of the batch.

    Returns:
        The outcome.

    Raises:
        ValueError: `scans` cannot be used, or `out` holds results of other scans or another model.
    """
    _check_apart(scans, out)
    sources, left_out = scans_of(scans)
    out.mkdir(parents=True, exist_ok=True)
    sources = name_sources(sources, out)
    waiting = [source for source in sources if not _is_finished(out / source.name, segmenter)]
    reasons: dict[str, Sentence] = {}
    with tqdm(waiting, "scans", unit="scan", disable=None) as bar:
        for number, source in enumerate(bar, 1):
            if bar.disable:  # without a terminal, a log gets a line per scan
                print(f"scan {number} of {len(waiting)}: {source.name}", file=sys.stderr)
            try:
                segmenter.predict(source, out / source.name)
            except Exception as error:  # a bug that one scan brings out must not cost the others their results
                reasons[source.name] = _reason(error)
                bar.write(f"{source.name} failed: {reasons[source.name]}")
    write_private(sources, out, reasons, left_out)
    rows = _tables(sources, reasons, out, segmenter.classes)
    flagged = int(rows["flags"].ne("").sum()) if len(rows) else 0
    earlier = len(sources) - len(waiting)
    return Summary(out, len(rows), earlier, flagged, len(reasons), Counter(left_out.values()))


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
    if not same or numbers.get("lung_source") not in ("file", segmenter.lung_method):
        raise Refusal(
            "{folder} holds a result of another model or of other settings; give OUT a new folder", folder=folder
        )
    return True


def _tables(sources: Sequence[Source], reasons: dict[str, Sentence], out: Path, classes: ClassSet) -> pd.DataFrame:
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
