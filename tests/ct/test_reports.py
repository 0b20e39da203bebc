import pytest

from ct.reports import split_sentences, weak_label


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Consolidation in the left lower lobe.", 1),
        ("Both lower lobes are consolidated.", 1),
        ("Multifocal consolidations with air bronchograms.", 1),
        ("No pleural effusion. Consolidative opacity at the right base.", 1),
        ("There is no effusion, but there is consolidation in the lingula.", 1),
        ("No consolidation on the right. Dense consolidation on the left.", 1),
        ("No significant change in the consolidation of the right lower lobe.", 1),
        ("Ground glass without consolidation.", 0),
        ("No focal consolidation, pneumothorax or pleural effusion.", 0),
        ("Consolidation is not seen.", 0),
        ("Consolidation: absent.", 0),
        ("Consolidation: none.", 0),
        ("The lungs are free of consolidation.", 0),
        ("Neither effusion nor consolidation.", 0),
        ("The earlier consolidation has resolved.", 0),
        ("Consolidation cannot be excluded.", -1),
        ("Ground-glass opacities in both lungs.", -1),
        ("", -1),
    ],
)
def test_weak_label(text, value):
    assert weak_label(text).value == value


def test_the_deciding_sentence_is_returned():
    label = weak_label("FINDINGS:\nHeart normal. No\nconsolidation is seen. Lungs clear.")
    assert (label.value, label.sentence) == (0, "No consolidation is seen.")


def test_sentences_end_at_paragraphs_and_list_items():
    assert split_sentences("Heart normal\n\n- no effusion\n- GGO, 3.5 cm") == [
        "Heart normal",
        "- no effusion",
        "- GGO, 3.5 cm",
    ]


def test_an_unknown_finding_is_refused():
    with pytest.raises(ValueError, match="'fracture'"):
        weak_label("text", finding="fracture")
