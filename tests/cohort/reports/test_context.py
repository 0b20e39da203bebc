"""Every cue phrase, around one word; sentences as reports have them are in test_weak_label.py."""

import re

import pytest

from cohort.reports.context import Claim, judge, plain

CUES = {
    Claim.STATED: """
        no change in _ | without worsening of _ | not only edema and _ | not just _ | no question of _
        partial clearing of _ | some resolution of _ | failure to clear _ | not well defined _ | likely _ | probable _
        suggesting _ | consistent with _ | known _ | _ has partially resolved | _ is not improved
        _ not previously seen | _ was not identified on the previous film | differential for the _ is wide""",
    Claim.DENIED: """
        no _ | nil _ | without _ | w/o _ | negative for _ | free of _ | free from _ | absence of _ | lacks _ | lack of _
        devoid of _ | neither mass nor _ | nor is there _ | denies _ | fails to show _ | instead of _ | as opposed to _
        none of these is _ | excludes _ | excluded _ | ruled out _ | resolution of _ | not _ | never _ | absent _
        cleared _ | resolved _
        did not show edema, mass or _ | did not demonstrate _ | non-_ | _: none | _: absent | _ (-) | _ - nil
        _ not seen | _ is not well seen | _ absent | _ is negative | _ is ruled out | _ has resolved | _ has cleared
        _ no longer seen | _, now resolved | _ with complete clearing | _ with interval resolution | _ shows resolution
        _ completely regressed | _ shows complete regression""",
    Claim.OPEN: """
        cannot exclude _ | can't rule out _ | unable to exclude _ | difficult to exclude _ | with or without _ | maybe _
        may represent _ | might be _ | could be due to _ | would suggest _ | perhaps _ | possible _ | potential _
        suspected _ | suspicious for _ | suspicion of _ | concern for _ | concerning for _ | worrisome for _ | query _
        question of _ | questionable _ | equivocal _ | doubtful _ | unlikely _ | less likely _
        edema more likely than _ | edema favored over _ | suggestion of _ | either _ or artefact
        differential includes _ | ddx _ | _ if at all
        nearly resolved _ | edema or _ | edema and/or _ | edema versus _ | edema vs. _ | _ or edema | _ vs edema | _ (?)
        _ is not excluded | _ cannot be ruled out | _ is hard to exclude | _ cannot be assessed | _ is possible
        _ suspected | _ is in the differential | _ is not favored | _ may be present | _ should be considered
        _ has largely resolved | small _, if any""",
    Claim.NOTHING: """
        evaluate for _ | assessment for _ | correlate clinically for _ | rule out _ | r/o _ | to exclude _
        if there is _ | unless _ is found | whether _ | in case of _ | risk of _ | detection of _ | ? _ | ?_
        to document resolution of _ | until resolution of _ | history of _ | h/o _ | hx of _
        treatment for _ | treated for _ | no other _ | no additional _ | no increasing _ | prior _ | previously seen _
        _ noted previously | _ seen on the prior study | on the previous scan there was _ | the prior study showed _""",
}


@pytest.mark.parametrize(
    ("phrase", "claim"),
    [(cue.strip(), claim) for claim, cues in CUES.items() for cue in re.split(r"[|\n]", cues) if cue.strip()],
)
def test_cue(phrase: str, claim: Claim) -> None:
    for spelled in (phrase, phrase.upper()):
        sentence = plain(spelled)
        start = sentence.index("_")
        assert judge(sentence, start, start + 1) is claim


@pytest.mark.parametrize(
    ("sentence", "claim"),
    [
        ("No edema but _.", Claim.STATED),
        ("No edema, small _ on the left.", Claim.STATED),
        ("No edema, small _, or mass.", Claim.DENIED),
        ("No edema and _ on the left.", Claim.DENIED),
        ("No edema and persistent _ on the left.", Claim.STATED),
        ("Possible edema, _ on the left.", Claim.STATED),
        ("Possible edema, fracture, or _.", Claim.OPEN),
        ("Possible edema, without _.", Claim.DENIED),
        ("The _ that was described earlier is not seen.", Claim.DENIED),
        ("_ persists and the effusion has resolved.", Claim.STATED),
        ("_ and effusion have resolved.", Claim.DENIED),
        ("The lungs show _, and the fever has resolved.", Claim.STATED),
        ("There was _, which has resolved.", Claim.DENIED),
        ("There is _ and a mass cannot be excluded.", Claim.STATED),
        ("_ or a mass cannot be excluded.", Claim.OPEN),
        ("_ is seen on high-resolution CT.", Claim.STATED),
        ("Effusion: no, _: yes, mass: no", Claim.STATED),
        ("Effusion: yes _: no mass: yes", Claim.DENIED),
        ("_ with resolution of the effusion.", Claim.STATED),
        ("Edema has resolved with _ on the left.", Claim.STATED),
        ("No edema in the right lung" + " and elsewhere" * 40 + ", _.", Claim.STATED),
    ],
)
def test_scope(sentence: str, claim: Claim) -> None:
    sentence = plain(sentence)
    start = sentence.index("_")
    assert judge(sentence, start, start + 1) is claim


def test_plain() -> None:
    assert (
        plain("It isn\u2019t, can\u2019t, cannot: ground\u2010glass\u00a0\u2013 X")
        == "It is not, can not, can not: ground-glass - X"
    )
