"""A reader's CT severity score in cohort.csv: of each of the five lobes, and of both lungs."""

from cohort.csv_table import CellOf, Wrong, parse_whole_number
from ct.lungs.lobe_scores import HIGHEST, HIGHEST_OF_LOBE, SUM

READER = "reader_"  # prefix of the columns that measurements.csv has without it


def parse_reader_scores(text: CellOf, wrong: Wrong, separator: str) -> dict[str, int | None]:
    """Return the scores of a row by their columns, None where it has none; what is wrong is noted."""
    scores = {
        READER + name: _parse_score(READER + name, highest, text, wrong, separator) for name, highest in HIGHEST.items()
    }
    total, *lobes = scores.values()
    least = sum(score for score in lobes if score is not None)
    most = least + HIGHEST_OF_LOBE * lobes.count(None)
    if total is not None and not least <= total <= most:
        expected = f"{least}, the sum of its five lobes" if least == most else f"{least} to {most}, by its lobes"
        wrong(READER + SUM, str(total), expected)
    return scores


def _parse_score(column: str, highest: int, text: CellOf, wrong: Wrong, separator: str) -> int | None:
    score = parse_whole_number(text(column), separator)
    if score is not None and 0 <= score <= highest:
        return score
    if text(column):
        wrong(column, repr(text(column)), f"a whole number from 0 to {highest}, or blank")
    return None
