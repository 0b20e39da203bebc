import numpy as np
import pandas as pd
import pytest
from places import SHARED_DATA

from benchmarks.report_labels import LABEL_COLUMN, agreement, read_openi
from cohort.reports.weak_label import WeakLabel, weak_label
from ct.classes import L3
from phantom.lesions import EFFUSION
from phantom.report_texts import report_text

TEXTS = SHARED_DATA / "texts_dev"

STATED = {
    "terms": """
        Both lower lobes are consolidated, consolidative opacity in the lingula.
        The right upper lobe opacity is consolidating.
        AIRSPACE CONSOLIDATION IN THE LEFT LOWER LOBE.
        Left basal collapse/consolidation.
        Consoldation at the right base.
        Consolidation: right lower lobe.
        Crazy paving with areas of consolidation.""",
    "a denial of something else": """
        Consolidation in the right lower lobe without cavitation.
        Consolidation is present in the left lower lobe, effusion is not seen.
        No pneumothorax, there is consolidation at the right base.
        No pneumothorax or effusion, but there is consolidation in the lingula.
        No pneumothorax is seen and consolidation is present at the left base.
        No PE, bilateral peripheral consolidation.
        There is left lower lobe consolidation and an underlying mass cannot be excluded.
        Ground-glass opacities without effusion, with consolidation in the lingula.
        Although there is no effusion, consolidation is present.
        No focal abnormality except for a small consolidation in the lingula.
        The left hemidiaphragm is not seen due to consolidation.
        The heart is not enlarged, consolidation at the left base.
        Consolidation is seen in the right but not in the left lung.""",
    "where something else is or is not": """
        No cavitation within the consolidation.
        No abscess is seen within the area of consolidation.
        Possible cavity within the right upper lobe consolidation.
        No pneumothorax post biopsy of the right lower lobe consolidation.""",
    "change": """
        Consolidation has decreased but persists.
        Resolving consolidation at the right base.
        Partial resolution of the right upper lobe consolidation.
        The consolidation has not completely resolved.
        No significant interval change in bibasilar consolidation.
        No change in the right lower lobe consolidation or pleural effusion.
        Consolidation, left greater than right, is not significantly changed.
        Interval resolution of the effusion with persistent consolidation.
        The effusion has resolved and the consolidation has improved.
        Consolidation in the right lower lobe, effusion has resolved.""",
    "the past that lasts": """
        Previously noted consolidation is again seen.
        The prior consolidation has increased.
        Compared to the prior study, consolidation in the left lower lobe.
        Consolidation which was not seen on the prior exam.""",
    "a doubt about its cause": """
        Consolidation may represent contusion versus aspiration.
        Consolidation, pneumonia cannot be excluded.
        Consolidation concerning for infection or malignancy.
        Consolidation containing air bronchograms (pneumonia?).
        Differential for the right upper lobe consolidation includes hemorrhage.""",
    "commitment": """
        Opacity likely representing consolidation.
        Findings compatible with consolidation.
        Consolidation rather than ground glass.
        Not only ground-glass opacities but also consolidation.""",
    "or between places": """
        Consolidation in the right middle or lower lobe.
        Left upper or lower lobe consolidation.""",
}
DENIED = {
    "negation before": """
        No frank consolidation.
        No CT evidence for consolidation.
        Ground-glass opacities without consolidation.
        Lungs are clear of consolidation.
        The parenchyma is free of consolidation.
        Neither lung is consolidated.
        There isn\u2019t any consolidation.
        The CT does not demonstrate effusion or consolidation.
        Nonconsolidating airspace disease at the right base.
        Atelectasis rather than consolidation.
        No XXXX consolidation.
        No new consolidation.
        No suspicious focal consolidation.""",
    "lists": """
        No effusion, consolidation or pneumothorax.
        No pneumothorax, pleural effusion, consolidation.
        No dense consolidation, small effusion, or pneumothorax.
        No finding is present to suggest pneumonia, edema, or consolidation.
        There is no evidence of a mass, an effusion, or a consolidation.
        Mass lesion, consolidation or active infiltration was not observed.""",
    "negation after": """
        Consolidation was not detected.
        Consolidation, effusion, or pneumothorax is not seen.
        Consolidation: none.
        Consolidation - absent.
        Consolidation/GGO: No
        Consolidation (-)""",
    "gone": """
        Previously noted consolidation has resolved.
        Consolidation in the right lower lobe, previously present, has resolved.
        Consolidation, collapse, and effusion at the left base have cleared since May.
        The consolidation seen on the prior is no longer present.
        Consolidation in the right lower lobe, which has resolved.
        Interval clearing of the left base consolidation.
        Resolved consolidation in the left upper lobe.
        Resolution of patchy right and left basal consolidative opacities.""",
    "scope that ends": """
        No consolidation is seen, but there are ground-glass opacities.
        Possible small effusion, without consolidation.
        Although evaluation is limited, no consolidation is seen.
        Other than minor atelectasis, there is no consolidation.
        Interval improvement with no residual consolidation.
        No sign of the previously described consolidation.""",
}
OPEN = {
    "doubt before": """
        Cannot exclude consolidation.
        It can't be decided; possible consolidation.
        Opacity which may represent a focal area of consolidation.
        Opacity could be due to aspiration or consolidation.
        Differential includes consolidation and atelectasis.
        Ground-glass opacities with or without consolidation.""",
    "doubt after": """
        Consolidation cannot be excluded.
        Underlying infection or consolidation is not entirely excluded.
        Small consolidation may be obscured.
        Opacity in the left lower lobe (consolidation? atelectasis?).""",
    "alternatives": """
        Atelectasis versus consolidation.
        Atelectasis vs. consolidation at the left base.
        Consolidation or atelectasis.
        Effusion with compressive atelectasis and/or consolidation.""",
    "almost gone": """
        Near-complete resolution of consolidation.
        The consolidation has nearly completely resolved.""",
}
SILENT = {
    "questions and conditions": """
        Evaluate for effusion, edema or consolidation.
        Right basal shadowing, ? consolidation.
        If consolidation persists, CT is recommended.
        Follow-up to ensure resolution of consolidation.""",
    "the past": """
        Prior consolidation in the left base.
        The consolidation described on the prior study.
        The prior CT showed consolidation in the right lower lobe.
        On an earlier outside CT, the middle lobe was consolidated.""",
    "others": """
        No other consolidation.
        No worsening consolidation.""",
    "other words": """
        Airspace opacity in the right lower lobe.
        Air-space disease in both lungs.
        The lungs are clear.""",
    "other things": """
        Consolidation chemotherapy was given.
        Healed rib fracture consolidation.
        Percentage of semi-consolidation.""",
}
OTHER_FINDINGS = """
    ground_glass 1 Ground glass opacities without consolidation.
    consolidation 0 Ground glass opacities without consolidation.
    ground_glass 1 Mixed GGO and consolidation.
    consolidation 1 Mixed GGO and consolidation.
    ground_glass -1 Ground-glass or consolidative opacities.
    ground_glass 1 Multiple GGOs, decreased.
    ground_glass 1 Bilateral groundglass nodules.
    ground_glass 1 Frosted glass appearance in the lower lobes.
    ground_glass 0 There are no areas of ground\u2010glass attenuation.
    ground_glass 0 Previously seen ground-glass opacities have completely resolved.
    ground_glass -1 Hazy opacity at the bases.
    crazy_paving 1 Ground-glass opacity with superimposed septal thickening (crazy-paving).
    crazy_paving 1 Paving-stone appearance.
    crazy_paving 0 Ground-glass opacities without crazy paving or consolidation.
    crazy_paving -1 Possible crazy paving.
    effusion 1 No pneumothorax, small left pleural effusion.
    effusion 1 Pleural effusions, right greater than left, have decreased.
    effusion 1 Small pericardial and pleural effusions.
    effusion 1 Loculated right hydropneumothorax.
    effusion 1 Fluid in the right pleural space.
    effusion 0 No pericardial or pleural effusion.
    effusion 0 No pleural or pericardial effusion.
    effusion 0 Pleural effusion-thickening was not detected.
    effusion 0 Previously seen right pleural effusion is no longer evident.
    effusion 0 The pleural spaces are clear.
    effusion -1 Large pericardial effusion.
    effusion -1 No pericardial thickening or effusion.
    effusion -1 In the pericardial space, an effusion up to 7 mm is found.
    effusion -1 Pleural effusion versus thickening.
    reticulation 1 Peripheral reticular opacities with traction bronchiectasis, basal predominance.
    reticulation 1 Mild subpleural reticulation is unchanged.
    reticulation 1 Reticulonodular pattern in both upper lobes.
    reticulation 0 No reticulation, traction bronchiectasis or honeycombing.
    reticulation -1 Possible early reticulation at the bases.
    honeycombing 1 Basal predominant reticulation with honeycombing, consistent with UIP.
    honeycombing 1 Honey-comb cysts in the lower lobes.
    honeycombing 0 Reticular opacities without honeycombing.
    honeycombing 0 No honeycomb change.
    honeycombing -1 Paraseptal emphysema versus honeycombing.
    emphysema 1 Moderate centrilobular emphysema, upper lobe predominant.
    emphysema 1 Emphysematous changes are noted in both apices.
    emphysema 0 There is no evidence of emphysema or fibrosis.
    emphysema -1 Subcutaneous emphysema of the left chest wall.
    emphysema -1 Emphysematous cholecystitis cannot be seen on this CT of the chest.
    group_4 1 Ground-glass opacities, with consolidation in the lingula.
    infection_without_consolidation 1 Crazy paving in both lungs, no ground-glass opacity elsewhere.
    infection_without_consolidation 0 No ground-glass opacities.
    infection 1 Ground glass opacities without consolidation.
    infection 1 Consolidation in the lingula. No ground-glass opacity.
    infection 0 No consolidation or ground-glass opacity.
    infection -1 No consolidation.
    infection -1 No consolidation. Possible ground-glass opacity at the right base.
    infection -1 Lungs are clear.
    abnormal 1 No consolidation. Emphysema.
    abnormal -1 No consolidation, ground-glass opacity, reticulation or honeycombing.
    abnormal 0 No consolidation, ground-glass opacity, reticulation, honeycombing or emphysema.
"""


def cases(phenomena: dict[str, str]) -> list[str]:
    return [line.strip() for lines in phenomena.values() for line in lines.strip().splitlines()]


@pytest.mark.parametrize("text", cases(STATED))
def test_stated(text: str) -> None:
    assert weak_label(text) == WeakLabel(1, text)


@pytest.mark.parametrize("text", cases(DENIED))
def test_denied(text: str) -> None:
    assert weak_label(text).value == 0


@pytest.mark.parametrize("text", cases(OPEN))
def test_left_open(text: str) -> None:
    label = weak_label(text)
    assert label.value == -1
    assert "onsolidation" in label.sentence


@pytest.mark.parametrize("text", cases(SILENT))
def test_no_vote(text: str) -> None:
    assert weak_label(text).value == -1
    assert weak_label(f"{text} No consolidation.").value == 0


@pytest.mark.parametrize("case", OTHER_FINDINGS.strip().splitlines())
def test_other_findings(case: str) -> None:
    finding, value, text = case.strip().split(" ", 2)
    assert weak_label(text, finding).value == int(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("No consolidation on the right. Dense consolidation on the left.", 1),
        ("Findings: Consolidation at the left base.\nImpression: No consolidation.", 1),
        ("Findings: Consolidation at the left base.\nImpression: Atelectasis versus consolidation.", 1),
        ("Findings: No consolidation on the right.\n\nImpression: Left lower lobe consolidation.", 1),
        ("Findings: Possible consolidation at the left base.\nImpression: No consolidation.", 0),
        ("Findings: No consolidation.\nImpression: Possible consolidation at the left base.", -1),
        ("No consolidation on the right. Possible consolidation on the left.", -1),
        ("No consolidation on the right, but possible consolidation on the left.", -1),
        ("", -1),
    ],
)
def test_precedence(text: str, value: int) -> None:
    assert weak_label(text).value == value


def test_the_deciding_sentence_is_returned() -> None:
    label = weak_label("FINDINGS:\nHeart normal. No\nconsolidation is seen. Lungs clear.")
    assert (label.value, label.sentence) == (0, "No consolidation is seen.")
    label = weak_label(
        "No consolidation. Small nodule.\n\nIMPRESSION:\n1. Nodule. 2. Consolidation can\u2019t be excluded."
    )
    assert (label.value, label.sentence) == (-1, "2. Consolidation can\u2019t be excluded.")


def test_the_sentence_that_decided_about_one_class_decides_about_the_whole() -> None:
    label = weak_label("No consolidation. Ground-glass opacity cannot be excluded.", "infection")
    assert label == WeakLabel(-1, "Ground-glass opacity cannot be excluded.")


@pytest.mark.parametrize("finding", ["fracture", "lungs"])
def test_a_finding_without_report_terms_is_refused(finding: str) -> None:
    with pytest.raises(ValueError, match=f"'{finding}'; expected one of .*consolidation.*, emphysema"):
        weak_label("text", finding)


@pytest.mark.parametrize("dense", [0, L3.codes_of("consolidation")[0]])
@pytest.mark.parametrize("fluid", [0, EFFUSION])
def test_reports_of_the_phantom_are_read_as_written(dense: int, fluid: int) -> None:
    codes = np.zeros((4, 8, 8), np.int8)
    codes[1, 2, 2], codes[2, 5, 5], codes[3, 5, 5] = dense, fluid, 5
    texts = {report_text(codes, np.random.default_rng(seed)) for seed in range(300)}
    assert len(texts) > 100
    for finding, value in (("consolidation", dense > 0), ("effusion", fluid > 0), ("ground_glass", True)):
        assert {weak_label(text, finding).value for text in texts} == {int(value)}


def test_a_sentence_without_end_is_read_in_a_moment() -> None:
    assert weak_label("no effusion and consolidation, " * 300 + "word " * 20_000).value == 0


def test_agreement_with_hand_computed_intervals() -> None:
    truth = pd.Series([1] * 8 + [0] * 12, index=list("abcdefghijklmnopqrst"))
    scores = agreement({name: name in "abcdefij" for name in truth.index}, truth)
    assert (scores["n"], scores["tp"], scores["fp"], scores["fn"]) == (20, 6, 2, 2)
    assert scores["precision"] == scores["recall"] == scores["f1"] == 0.75
    # Wilson, k = 6 of n = 8, z = 1.96: (k + z^2/2 -+ z sqrt(k (n - k) / n + z^2/4)) / (n + z^2)
    assert scores["precision_low"] == pytest.approx(0.4093, abs=1e-4)
    assert scores["precision_high"] == pytest.approx(0.9285, abs=1e-4)


@pytest.mark.skipif(not TEXTS.is_dir(), reason=f"the real reports are not at {TEXTS}")
@pytest.mark.shared_data
def test_agreement_with_experts_on_real_reports() -> None:
    texts, labels = read_openi(TEXTS)
    assert len(texts) == len(labels) == 1963
    for finding, precision, recall in (("consolidation", 0.75, 0.9), ("effusion", 0.9, 0.85)):
        found = {name: weak_label(text, finding).value == 1 for name, text in texts.items()}
        scores = agreement(found, labels[LABEL_COLUMN[finding]])
        assert scores["precision"] >= precision
        assert scores["recall"] >= recall
