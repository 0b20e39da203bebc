"""Report of segmented scans, from the command line to the page, on figures worked out by hand."""

import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ct.lungs.fissure_shapes import LOBES
from ct.lungs.lobe_scores import DEFINITION, LOBE_SCORES, SUM
from evaluation.report.__main__ import main
from evaluation.score_agreement import intraclass_correlation

# Share and score of the five lobes in the order of LOBES, and what the reader saw; c and d are of one patient.
SCANS = {
    "a": ("North", "p1", [0.0, 0.02, 0.3, 0.0, 0.6], [0, 1, 3, 0, 4], [0, 1, 3, 0, 4]),
    "b": ("North", "p2", [0.1, 0.0, 0.4, 0.2, 0.8], [2, 0, 3, 2, 5], [2, 1, 3, 2, 5]),
    "c": ("South", "p3", [0.0, 0.0, 0.0, 0.0, 0.04], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]),
    "d": ("South", "p3", [0.2, 0.1, 0.5, 0.04, 0.5], [2, 2, 4, 1, 4], [2, 2, 4, 2, 4]),
}


def measurements() -> pd.DataFrame:
    """As `predict` writes them, with columns that no report by lobe needs."""
    rows = []
    for name, (_, _, shares, scores, _) in SCANS.items():
        row: dict[str, object] = {"name": name, "lung_ml": 4000.5, "severity_score": 0.1, "flags": ""}
        for (lobe, key), share, score in zip(LOBE_SCORES.items(), shares, scores, strict=True):
            row |= {f"{lobe}_infection_share": share, f"{lobe}_consolidation_share": share / 2, key: score}
            row |= {f"{key}_low": max(score - 1, 0), f"{key}_high": min(score + 1, 5)}
        rows.append(row | {SUM: sum(scores)})
    rows[1]["flags"] = "little lung"
    return pd.DataFrame(rows)


LOBE_COLUMNS = [name for name in map(str, measurements().columns) if "lobe" in name or name == SUM]


def without_lobes(measured: pd.DataFrame, rows: list[int]) -> pd.DataFrame:
    """Blank what some scans have of lobes."""
    measured.loc[rows, LOBE_COLUMNS] = np.nan
    return measured


def cohort_of(readers: bool = True) -> pd.DataFrame:
    rows = []
    for name, (site, patient, _, _, read) in SCANS.items():
        row: dict[str, object] = {"scan_id": name, "patient_id": patient, "site": site, "image": "a.nii.gz"}
        if readers:
            row |= {f"reader_{key}": score for key, score in zip(LOBE_SCORES.values(), read, strict=True)}
        rows.append(row)
    return pd.DataFrame(rows)


def write(folder: Path, measured: pd.DataFrame, cohort: pd.DataFrame | None = None) -> list[str]:
    """Write both files; return the arguments of the command."""
    (folder / "out").mkdir(exist_ok=True)
    measured.to_csv(folder / "out" / "measurements.csv", index=False)
    if cohort is None:
        return [str(folder / "out")]
    (folder / "a.nii.gz").touch()
    cohort.to_csv(folder / "cohort.csv", index=False)
    return [str(folder / "out"), "--cohort", str(folder / "cohort.csv")]


def text_of(folder: Path) -> str:
    """What the page says, without pictures and style."""
    page = (folder / "out" / "report" / "index.html").read_text(encoding="utf-8")
    return " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)).split())


def table(folder: Path, name: str) -> Any:
    """A table of the report, as a data frame."""
    return pd.read_csv(folder / "out" / "report" / "tables" / f"{name}.csv")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of all four scans with their cohort."""
    folder = tmp_path_factory.mktemp("segmented")
    assert main(write(folder, measurements(), cohort_of())) == 0
    return folder


def test_involvement_by_lobe_and_site(reported: Path) -> None:
    lobes = table(reported, "by_lobe").set_index(["site", "lobe"])
    assert list(dict.fromkeys(lobes.index.get_level_values("site"))) == ["all", "North", "South"]
    assert lobes.loc["all"].index.tolist() == [lobe.replace("_", " ") for lobe in LOBES]
    # right lower lobe: shares 0, 0.3, 0.4, 0.5, scores 3, 3, 0, 4
    expected = {"scans": 4, "median": 0.35, "lower quartile": 0.225, "upper quartile": 0.425}
    expected |= {"scans scored": 4, "mean score": 2.5, "share scored > 0": 0.75}
    assert lobes.loc[("all", "right lower lobe")].to_dict() == pytest.approx(expected)
    south = lobes.loc[("South", "left lower lobe")]
    assert (south["scans"], south["median"], south["mean score"]) == (2, pytest.approx(0.27), 2.5)
    others = table(reported, "other_findings").set_index(["site", "finding", "lobe"])
    assert others.loc[("all", "consolidation", "right lower lobe"), "median"] == pytest.approx(0.175)
    assert "mean score" not in others


def test_the_sum_by_site(reported: Path) -> None:
    severity = table(reported, "severity").set_index("site")  # 8, 12 | 1, 13
    assert severity["scans"].to_dict() == {"all": 4, "North": 2, "South": 2}
    assert severity["median"].to_dict() == {"all": 10, "North": 10, "South": 7}
    assert severity.loc["all", ["mean", "lowest", "highest"]].tolist() == [8.5, 1, 13]


def test_agreement_with_the_reader(reported: Path) -> None:
    figures = table(reported, "agreement_figures").set_index(["score", "figure"])
    whole = figures.loc[SUM]
    # The reader's sums are those of the lobes, 8, 13, 0, 14; the model's 8, 12, 1, 13: differences 0, -1, 1, -1.
    # By chance 90, squared 848, over the 16 pairs of any two scans.
    sd = np.sqrt((0.25**2 + 2 * 0.75**2 + 1.25**2) / 3)
    assert whole["value"].to_dict() == pytest.approx(
        {
            "kappa, linear": 1 - (3 / 4) / (90 / 16),
            "kappa, quadratic": 1 - (3 / 4) / (848 / 16),
            "ICC(2,1)": intraclass_correlation([[8, 8], [12, 13], [1, 0], [13, 14]]).value,
            "bias": -0.25,
            "lower limit": -0.25 - 1.96 * sd,
            "upper limit": -0.25 + 1.96 * sd,
        }
    )
    assert (figures["scans"] == 4).all()
    assert (figures["patients"] == 3).all()
    # right middle lobe: model 1, 0, 0, 2, reader 1, 1, 0, 2; by chance 14 over the 16 pairs.
    assert figures.loc[("right_middle_lobe_score", "kappa, linear"), "value"] == pytest.approx(1 - (1 / 4) / (14 / 16))
    shown = table(reported, "agreement").set_index("score")
    assert shown.loc["CT severity score", "bias"].startswith("-0.25 (")
    assert shown.loc["CT severity score", "limits"].split() == ["-2.13", "to", "1.63"]
    assert shown.loc["right upper lobe", "kappa, linear"].startswith("1.00")
    assert "bootstrapped by whole patients" in text_of(reported), "c and d are of one patient"


def test_scores_of_reader_by_model(reported: Path) -> None:
    scores = table(reported, "lobe_scores").set_index("reader")
    assert scores.to_numpy().sum() == 20
    assert scores.loc[0].tolist() == [6, 1, 0, 0, 0, 0]
    assert scores.loc[1].tolist() == [1, 1, 0, 0, 0, 0]
    assert scores.loc[2].tolist() == [0, 1, 4, 0, 0, 0]
    every = table(reported, "scores").set_index(["score", "scan_id"])
    assert every.loc[("CT severity score", "b"), ["site", "reader", "model"]].tolist() == ["North", 13, 12]
    assert "patient" not in every


def test_figures_and_facts(reported: Path) -> None:
    pictures = reported / "out" / "report" / "figures"
    drawn = {"lobes", "bland_altman", "lobe_scores"}
    assert {path.name for path in pictures.iterdir()} == {f"{name}.{kind}" for name in drawn for kind in ("png", "pdf")}
    text = text_of(reported)
    assert "4 scans, 1 of them flagged" in text
    assert "North, South" in text
    assert f"Score of a lobe by the share that is infected: {DEFINITION} (Pan et al., Radiology 2020)." in text
    assert "Sum of the scores of the five lobes, 0 to 25." in text
    assert str(reported) not in text
    assert "p3" not in text
    assert "Scans left out" not in text


def test_without_a_cohort_there_are_lobes_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(write(tmp_path, measurements())) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'out' / 'report' / 'index.html'}\n"
    assert set(table(tmp_path, "by_lobe")["site"]) == {"all"}
    assert {path.stem for path in (tmp_path / "out" / "report" / "figures").glob("*.png")} == {"lobes"}
    assert "Agreement" not in text_of(tmp_path)


def test_a_cohort_without_a_reader_says_so(tmp_path: Path) -> None:
    assert main(write(tmp_path, measurements(), cohort_of(readers=False))) == 0
    assert "The cohort has no score of a reader" in text_of(tmp_path)
    assert set(table(tmp_path, "by_lobe")["site"]) == {"all", "North", "South"}


@pytest.mark.parametrize("columns", ["missing", "blank"])
def test_measurements_without_lobes_say_so(tmp_path: Path, columns: str) -> None:
    measured = measurements()
    measured = measured.drop(columns=LOBE_COLUMNS) if columns == "missing" else without_lobes(measured, [0, 1, 2, 3])
    assert main(write(tmp_path, measured, cohort_of())) == 0
    text = text_of(tmp_path)
    assert "measurements.csv has no value of any lobe" in text
    assert "The model has no score of what the reader scored." in text
    assert not (tmp_path / "out" / "report" / "figures").exists()


@pytest.mark.slow
def test_unknown_lobes_of_a_scan_are_left_out_and_counted(tmp_path: Path) -> None:
    measured = without_lobes(measurements(), [3])
    cohort = cohort_of()
    cohort.loc[0, "reader_left_lower_lobe_score"] = None  # no sum of scan a, then
    assert main(write(tmp_path, measured, cohort)) == 0
    agreed = table(tmp_path, "agreement").set_index("score")
    assert agreed["scans"].to_dict() == {"CT severity score": 2, "left lower lobe": 2} | {
        lobe.replace("_", " "): 3 for lobe in LOBES[:-1]
    }
    assert set(table(tmp_path, "by_lobe").query("site == 'all'")["scans"]) == {3}
    text = text_of(tmp_path)
    assert "The model lacks a score that the reader gave: 1 scan (d)." in text
    assert "of kappa bootstrapped, of the others by F and t" in text, "no patient has two scans with scores"


def test_one_scan_has_no_agreement_to_speak_of(tmp_path: Path) -> None:
    assert main(write(tmp_path, measurements().iloc[:1], cohort_of().iloc[:1])) == 0
    agreed = table(tmp_path, "agreement_figures")
    assert agreed.loc[agreed["figure"] != "bias", "value"].isna().all()
    assert (agreed.loc[agreed["figure"] == "bias", "value"] == 0).all()
    shown = table(tmp_path, "agreement")
    assert {*shown["kappa, linear"], *shown["ICC(2,1)"], *shown["limits"]} == {"-"}
    assert set(shown["bias"]) == {0}


@pytest.mark.slow
def test_scans_of_one_file_alone_are_counted_and_named(tmp_path: Path) -> None:
    more = pd.concat([measurements(), *(measurements().iloc[:1].assign(name=name) for name in ("x", "y"))])
    cohort = pd.concat([cohort_of(), *(cohort_of().iloc[:1].assign(scan_id=f"new{n}") for n in range(7))])
    assert main(write(tmp_path, more, cohort)) == 0
    text = text_of(tmp_path)
    assert "In the cohort, but not segmented: 7 scans (new0, new1, new2, new3, new4 and 2 more)." in text
    assert "Segmented, but not in the cohort: 2 scans (x, y); counted among all, at no site." in text
    scans = table(tmp_path, "severity").set_index("site")["scans"]
    assert scans.to_dict() == {"all": 6, "North": 2, "South": 2}
    assert (table(tmp_path, "agreement")["scans"] == 4).all()


@pytest.mark.slow
def test_measurements_as_a_spreadsheet_saves_them(tmp_path: Path, reported: Path) -> None:
    arguments = write(tmp_path, measurements(), cohort_of())
    path = tmp_path / "out" / "measurements.csv"
    pd.read_csv(path).to_csv(path, index=False, sep=";", decimal=",", encoding="utf-8-sig")
    assert main(arguments) == 0
    pd.testing.assert_frame_equal(table(tmp_path, "by_lobe"), table(reported, "by_lobe"))


# -- what is refused ---------------------------------------------------------------------------------------------------


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    return output.err.splitlines()


def test_wrong_cells_are_listed_with_row_and_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = measurements().astype(object)
    measured.loc[0, SUM] = 26
    measured.loc[1, "left_upper_lobe_score"] = 2.5
    measured.loc[2, "left_upper_lobe_infection_share"] = "much"
    measured.loc[3, "left_upper_lobe_consolidation_share"] = 1.5
    measured.loc[3, "name"] = "a"
    lines = refusal(write(tmp_path, measured), capsys)
    assert [line.partition("measurements.csv: ")[2] for line in lines] == [
        "row 2, column 'ct_severity_score': found '26', expected a whole number from 0 to 25, or blank",
        "row 3, column 'left_upper_lobe_score': found '2.5', expected a whole number from 0 to 5, or blank",
        "row 4, column 'left_upper_lobe_infection_share': found 'much', expected a share from 0 to 1, or blank",
        "row 5: found 'a', which row 2 has too, expected a row per scan",
        "row 5, column 'left_upper_lobe_consolidation_share': found '1.5', expected a share from 0 to 1, or blank",
    ]


def test_files_that_are_no_measurements_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [line] = refusal(write(tmp_path, measurements().rename(columns={"name": "scan"})), capsys)
    assert "expected 'name' among them" in line
    [line] = refusal(write(tmp_path, measurements().iloc[:0]), capsys)
    assert "holds no scans" in line
    [line] = refusal(write(tmp_path, measurements().assign(name=["a", "b", "", "d"])), capsys)
    assert "row 4, column 'name': found a blank cell" in line


def test_a_cohort_of_other_scans_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = cohort_of().assign(scan_id=["k", "l", "m", "n"])
    [line] = refusal(write(tmp_path, measurements(), other), capsys)
    assert "has none of the 4 scans" in line
    assert "such as 'a'" in line


def test_wrong_scores_of_a_reader_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = cohort_of().assign(reader_ct_severity_score=[8, 12, 0, 14])
    [line] = refusal(write(tmp_path, measurements(), wrong), capsys)
    assert "row 3, column 'reader_ct_severity_score': found 12, expected 13, the sum of its five lobes" in line


def test_a_cohort_needs_segmented_scans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [_, *cohort] = write(tmp_path, measurements(), cohort_of())
    for folders in ([], [str(tmp_path)]):
        [line] = refusal([*folders, *cohort], capsys)
        assert "expected the folder that predict wrote of several scans" in line


def test_the_folder_of_a_scan_is_not_written_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [line] = refusal(write(tmp_path, measurements().assign(name=["a", "b", "c", "Report"])), capsys)
    assert "is a scan's folder" in line
    assert not (tmp_path / "out" / "report").exists()
