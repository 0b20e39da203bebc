"""A reader's CT severity score in cohort.csv: 0 to 5 for each of the five lobes, 0 to 25 for both lungs.

Pan et al., "Time course of lung changes at chest CT during recovery from coronavirus disease 2019 (COVID-19)",
Radiology 295 (2020): a lobe's score is 0 without involvement, 1 for less than 5 % of the lobe, 2 for 5 to 25 %, 3 for
26 to 49 %, 4 for 50 to 75 %, and 5 for more; the score of both lungs is their sum.
"""

from cohort.csv_table import CellOf, Wrong, parse_whole_number
from ct.lungs.fissure_shapes import LOBES

# The highest score of both lungs and of each lobe, by its column in measurements.csv; cohort.csv has the same columns
# with a prefix.
SUM = "ct_severity_score"
HIGHEST = {SUM: 25} | {f"{lobe}_score": 5 for lobe in LOBES}
READER = "reader_"


def parse_reader_scores(text: CellOf, wrong: Wrong, separator: str) -> dict[str, int | None]:
    """Return the scores of a row by their columns, None where it has none; what is wrong is noted."""
    scores = {
        READER + name: _parse_score(READER + name, highest, text, wrong, separator) for name, highest in HIGHEST.items()
    }
    total, *lobes = scores.values()
    least = sum(score for score in lobes if score is not None)
    most = least + HIGHEST[f"{LOBES[0]}_score"] * lobes.count(None)
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
