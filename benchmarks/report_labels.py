"""Agreement of weak labels from X-ray reports with experts, beside plain keywords: a table and a JSON line.

The reports are those of OpenI (Indiana University), their expert labels those of the SARLE labeler: label 1 if the
report says that the patient has the finding. Only stated findings count as positive.

    python -m benchmarks.report_labels --texts ../shared/data/texts_dev
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from scipy.stats import binomtest

from cohort.reports.weak_label import weak_label

LABEL_COLUMN = {"consolidation": "consolidation_Label", "effusion": "pleural_effusion_Label"}
KEYWORD = {"consolidation": "consolidat", "effusion": "effusion"}


def read_openi(folder: Path) -> tuple[dict[str, str], pd.DataFrame]:
    """Read the test reports and their expert labels.

    Args:
        folder: Holds openi_filename_section_sent.csv (a row per sentence, without its full stop) and
            openi_test_set_ground_truth.csv (a row per report).

    Returns:
        The text of each report with its section headings, by file name; the labels 0 or 1, indexed by file name.
    """
    labels = pd.read_csv(folder / "openi_test_set_ground_truth.csv", index_col=0)
    rows = pd.read_csv(folder / "openi_filename_section_sent.csv")
    rows = rows[rows["Filename"].isin(labels.index)]
    sections = rows.groupby(["Filename", "Section"], as_index=False)["Sentence"].agg(". ".join)
    sections["text"] = sections["Section"] + ":\n" + sections["Sentence"] + "."
    return {str(name): "\n\n".join(report["text"]) for name, report in sections.groupby("Filename")}, labels


def agreement(predicted: Mapping[str, bool], truth: pd.Series) -> dict[str, float]:
    """Compare predictions with the truth.

    Args:
        predicted: Presence of the finding, by file name.
        truth: Labels 0 or 1, indexed by file name.

    Returns:
        n, tp, fp, fn, f1, and precision and recall with the ends of their 95 % Wilson intervals (_low, _high).
    """
    positive, present = truth.index.map(predicted).to_numpy(bool), truth.to_numpy() == 1
    tp, fp, fn = int((positive & present).sum()), int((positive & ~present).sum()), int((~positive & present).sum())
    scores: dict[str, float] = {"n": len(truth), "tp": tp, "fp": fp, "fn": fn, "f1": 2 * tp / (2 * tp + fp + fn)}
    for name, total in (("precision", tp + fp), ("recall", tp + fn)):
        share = binomtest(tp, total)
        interval = share.proportion_ci(method="wilson")
        scores |= {name: share.statistic, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return scores


def table_row(finding: str, method: str, scores: Mapping[str, float]) -> str:
    """Return a row below the head that `main` prints."""
    shares = [f"{scores[s]:.3f} ({scores[s + '_low']:.3f}..{scores[s + '_high']:.3f})" for s in ("precision", "recall")]
    return (
        f"{finding:14}{method:9}{scores['n']:5}{scores['tp'] + scores['fn']:9}  {'  '.join(shares)}  {scores['f1']:.3f}"
    )


def main() -> None:
    """Print the table with the reports on which the rules and the experts disagree, and the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", required=True, type=Path)
    texts, labels = read_openi(parser.parse_args().texts)
    result: dict[str, object] = {"name": "report_labels"}
    print(f"{'finding':14}{'method':9}{'n':>5}  present  {'precision (95 %)':20}  {'recall (95 %)':20}  F1")
    for finding, column in LABEL_COLUMN.items():
        truth, label_of = labels[column], {name: weak_label(text, finding) for name, text in texts.items()}
        methods = {
            "keywords": {name: KEYWORD[finding] in text.lower() for name, text in texts.items()},
            "rules": {name: label.value == 1 for name, label in label_of.items()},
        }
        for method, predicted in methods.items():
            result[f"{finding}_{method}"] = scores = agreement(predicted, truth)
            print(table_row(finding, method, scores))
        for name, label in label_of.items():
            if (label.value == 1) != (truth[name] == 1):
                print(f"  expert {truth[name]}, rules {label.value}, {name}: {label.sentence}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
