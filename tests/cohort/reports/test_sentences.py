import pytest

from cohort.reports.sentences import ReportSentence, report_sentences, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Heart normal. Lungs clear.", ["Heart normal.", "Lungs clear."]),
        (
            "A 1.5 cm nodule. Dr. Smith vs. Dr. J. Doe, e.g. here.",
            ["A 1.5 cm nodule.", "Dr. Smith vs. Dr. J. Doe, e.g. here."],
        ),
        ("Lungs are clear.there is no effusion", ["Lungs are clear.", "there is no effusion"]),
        ("lungs clear. no effusion", ["lungs clear.", "no effusion"]),
        ("Clear; no effusion (3; 284).", ["Clear", "no effusion (3; 284)."]),
        ("1. No effusion. 2. Nodule 3 mm", ["1. No effusion.", "2. Nodule 3 mm"]),
        ("1. No effusion 2. Nodule", ["1. No effusion", "2. Nodule"]),
        ("Cough ? pneumonia. Is it? No.", ["Cough ? pneumonia.", "Is it?", "No."]),
        ("XXXX XXXX are clear. No XXXX effusion.", ["XXXX XXXX are clear.", "No XXXX effusion."]),
        ("Heart normal\n\n- no effusion\n- GGO, 3.5 cm", ["Heart normal", "- no effusion", "- GGO, 3.5 cm"]),
        # each statement on a line of its own
        (
            "Consolidation in the right lower lobe\nNo effusion\nHeart normal",
            ["Consolidation in the right lower lobe", "No effusion", "Heart normal"],
        ),
        # wrapped lines: lower case goes on, so does a line to which the next word would not have fitted
        ("No effusion or other\nabnormality in the left\nCPA.", ["No effusion or other abnormality in the left CPA."]),
        (
            "NO EVIDENCE OF FOCAL\nCONSOLIDATION.\nHEART NORMAL\nNO EDEMA",
            ["NO EVIDENCE OF FOCAL CONSOLIDATION.", "HEART NORMAL", "NO EDEMA"],
        ),
        ("", []),
        (" \n\n . ; \n", []),
    ],
)
def test_split_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (
            "INDICATION: Cough. Pneumonia?\nFINDINGS: Clear.\nIMPRESSION: Normal. Stable.",
            ["Clear.", "+Normal.", "+Stable."],
        ),
        ("EXAM: CT HISTORY: Fever, wheeze. TECHNIQUE: Helical. FINDINGS: Clear.", ["Clear."]),
        (
            "Reason for examination: fever\nComparison\nNone.\nFindings\nClear.\n\nOpinion\nNormal.",
            ["Clear.", "+Normal."],
        ),
        # a section that does not count ends with its paragraph, or with its sentence where no heading follows
        ("INDICATION: ___ year old // eval for\n edema\n\nThe lungs are clear.", ["The lungs are clear."]),
        ("Clinical history: cough, ?edema. Lungs clear. No effusion.", ["Lungs clear.", "No effusion."]),
        ("COMPARISON: None.\nLungs clear.\nIMPRESSION: Normal.", ["Lungs clear.", "+Normal."]),
        ("HISTORY: Fever.\n\nOld edema.\n\nFINDINGS: Clear.", ["Clear."]),
        # organs are named where they stand, and end such a section
        ("HISTORY: Fever.\nLUNGS: Clear.\nPLEURA: No effusion.", ["LUNGS: Clear.", "PLEURA: No effusion."]),
        ("IMPRESSION: Normal.\nRECOMMENDATION: Repeat.\nADDENDUM: No effusion.", ["+Normal.", "No effusion."]),
        # words of the text are no headings
        (
            "There is no prior for\ncomparison.\nThe study: limited.",
            ["There is no prior for comparison.", "The study: limited."],
        ),
        ("Findings: Clear.\r\nImpression: Normal.\r\n", ["Clear.", "+Normal."]),
    ],
)
def test_report_sentences(text: str, sentences: list[str]) -> None:
    assert report_sentences(text) == [ReportSentence(one.lstrip("+"), one.startswith("+")) for one in sentences]
