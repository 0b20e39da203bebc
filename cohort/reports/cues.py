"""Cue phrases of radiology English that deny a finding, leave it open, ask for it or put it into the past.

All patterns are for text from `cohort.reports.context.plain`: one line, "not" apart ("can not", "is not"), ASCII
hyphens.
"""

import re


def _any(*phrases: str) -> str:
    return "(?:" + "|".join(phrases) + ")"


def _pattern(*phrases: str) -> re.Pattern[str]:
    return re.compile("|".join(phrases), re.IGNORECASE)


def _cues(**groups: str) -> re.Pattern[str]:
    """Return one pattern of named groups; at the same place the earlier group wins."""
    return _pattern(*(rf"(?P<{name}>(?<!\w){phrases}(?!\w))" for name, phrases in groups.items()))


_WORD = r"(?:[\w/-]+\s+)"
_OF_A_PHRASE = r"(?:(?!or\b|and\b|of\b|in\b)[\w-]+\s+)"
_SEEN = _any(
    r"seen|identified|noted|present|visuali[sz]ed|visible|detected|observed|demonstrated|appreciated|evident|found",
    r"apparent|recogni[sz]ed|reported|shown|described|discern(?:ed|ible)|delineable",
)
_VERB = _any(
    r"is|are|was|were|has|have|had|shows?|showed|demonstrates?|demonstrated|reveals?|revealed|remains?|persists?",
    r"appears?|contains?|develops?|developed",
)
_GONE = r"(?:(?<!high[- ])resolution|resolved|clearing|clearance|cleared|disappearance|disappeared|vanished|resorbed)"
_PARTLY_GONE = (
    r"(?:partial(?:ly)?|incomplete(?:ly)?|partly|some|slow(?:ly)?|slight(?:ly)?|mild(?:ly)?|ongoing|continu(?:ed|ing)"
    r"|gradual(?:ly)?|minimal(?:ly)?|moderate(?:ly)?|progressive(?:ly)?|further|early)\s+(?:interval\s+)?" + _GONE
)
_NEARLY_GONE = (
    r"(?:near(?:ly)?|almost|largely|mostly|essentially|virtually|subtotal(?:ly)?|significant(?:ly)?|marked(?:ly)?"
    r"|substantial(?:ly)?|obvious(?:ly)?)[\s-]+(?:(?:complete|total|full|interval)(?:ly)?\s+)*"
    rf"(?:{_GONE}|regress\w+|absor\w+)"
)
_EXCLUDE = r"(?:exclud\w+|rul(?:e|ed|ing) out|r/o)"
_HARD_TO = r"(?:unable|difficult|hard|impossible) to"
# Looks like a denial, but denies a change and so supposes the finding.
_NO_CHANGE = _any(
    rf"(?:no|without)\s+{_OF_A_PHRASE}{{0,3}}?(?:change|increase|decrease|improvement|progress(?:ion)?|regression"
    r"|worsening (?:of|in)|enlargement|growth|extension|difference|alteration|evolution|resolution|clearing|reduction)",
    rf"(?:not|never)\s+{_OF_A_PHRASE}{{0,3}}?"
    r"(?:chang|increas|decreas|improv|progress|regress|worsen|enlarg|resolv|clear|alter|differ|evolv)(?:ed|ent)",
    r"fail(?:s|ed|ure) to (?:resolve|clear)",
)

BEFORE = _cues(
    stated=_any(
        rf"{_NO_CHANGE}|{_PARTLY_GONE}(?: of)?",
        r"not (?:only|just|merely)|no (?:doubt|question)",
        r"differential\w*\s+(?:\w+\s+)?for (?:the|this|these)",
    ),
    open=_any(
        rf"(?:not|{_HARD_TO})\s+{_WORD}{{0,3}}?{_EXCLUDE}",
        r"with(?:\s+or\s+|\s?/\s?|\s+and/or\s+)without",
        rf"(?:may|might|could|would|can)\s+{_WORD}{{0,2}}?(?:represent|reflect|be(?!\s+{_SEEN})|indicate|suggest|relate"
        r"|include|contain|have|mean|correspond|obscure|hide|mask|mimic|simulate|develop)\w*"
        r"(?: (?:due|secondary|related) to)?",
        r"may\s?be|perhaps|possib(?:le|ly|ility|ilities)|potential(?:ly)?|suspect(?:ed|s)?|suspicious (?:for|of)",
        r"suspicion(?: for| of)?|concern(?:ing|ed)? (?:for|about|of)|worrisome|quer(?:y|ied)|equivocal|doubtful",
        r"question(?:able|ed|s)?(?: of)?|unlikely|less likely|more likely than|favou?red over|suggestion|either",
        rf"differential\w*|ddx|{_NEARLY_GONE}(?: of)?",
    ),
    asked=_any(
        r"(?:evaluat\w+|assess\w*|check\w*|look\w*|screen\w*|search\w*|monitor\w*|correlat\w+|surveillance)\s+"
        rf"{_WORD}{{0,2}}?for",
        r"rul(?:e|ing) out|r/o|exclude|(?:if|unless|whether)(?: there (?:is|are))?|in case of|risk (?:of|for)",
        rf"detection of|(?<!due )(?:to|until|till|ensur\w+|document\w*|confirm\w*)\s+{_WORD}{{0,3}}?"
        r"(?:resolution|clearing|clearance|resolve)(?: of)?",
    ),
    past=r"(?:history of|h/o|hx of|treatment (?:for|of)|treated for)",
    denied=_any(
        r"no|nil|without|w/o|negative for|free (?:of|from)|absence of|lack(?:s|ing)?(?: of)?|(?:clear|devoid) of",
        r"neither|nor|den(?:y|ies)|fail(?:s|ed)? to|rather than|instead of|as opposed to|none of|excludes|excluded",
        rf"rule[sd] out|{_GONE} of",
        rf"not\s+{_WORD}{{0,2}}?(?:show|demonstrate|reveal|see|identify|detect|contain|have|find"
        rf"|appreciate|visuali[sz]e"
        r"|suggest|display|exhibit|indicate|represent|describe|note|observe|include)",
    ),
    denied_next=r"(?:not|never|absent|resolved|cleared)",
)
AFTER = _cues(
    stated=_any(
        _NO_CHANGE,
        rf"{_PARTLY_GONE}(?! of)|not previously {_SEEN}",
        rf"not\s+{_WORD}{{0,2}}?{_SEEN}\s+{_WORD}{{0,3}}?(?:previously|before|prior|previous|earlier)",
    ),
    open=_any(
        rf"(?:not|{_HARD_TO})\s+{_WORD}{{0,3}}?(?:{_EXCLUDE}|assess(?:ed)?|evaluated?|assessable)",
        rf"(?:{_VERB}\s+)?(?:possible|possibility|suspected|questionable|questioned|equivocal|unlikely"
        rf"|doubtful|uncertain"
        r"|indeterminate|in the differential|a consideration|less likely|not favou?red)"
        r"(?=\s*(?:$|[,.)]|(?:and|or|in|on|at|given)\b))",
        rf"(?:may|might|could|can|should)\s+{_WORD}{{0,2}}?(?:present|there|considered|superimposed"
        rf"|obscured|missed|hidden"
        r"|masked|developing|coexist\w*|exist)",
        rf"{_NEARLY_GONE}(?! of)|if any|if at all",
    ),
    gone=_any(
        r"(?:resolved|cleared|disappeared|vanished|resorbed|gone)(?=\s*(?:$|[,.)/]|(?:in|on|since|from|at|by|after|with"
        r"|without|and|or|as|compared|when|completely|entirely|fully|following|over"
        r"|during|now|bilaterally|interval\w*)\b))",
        r"no longer|(?:(?<!high[- ])resolution|clearance|disappearance)(?! of)",
        r"(?:complete|full|total|interval) clearing(?! of)|(?:completely|fully|totally) regressed",
        r"complete regression(?! of)",
    ),
    absent=_any(
        rf"not\s+{_WORD}{{0,3}}?{_SEEN}",
        r"(?:absent|excluded|ruled out|lacking|nowhere|none|negative)(?=\s*(?:$|[,.)]|(?:in|on|at|and|or)\b))",
    ),
)
LABEL_BEFORE = _pattern(r":\s*\w+\s*[,|]?\s*$")  # "Effusion: no, consolidation: yes"
NO_AFTER_LABEL = _pattern(  # "Consolidation: none", "Consolidation (-)"
    rf"^[\s/,&\w-]{{0,40}}?(?::|\s-)\s*(?:none|no|nil|absent|negative|not {_SEEN})\s*"
    rf"(?:$|[.,;)|]|{_SEEN}|evidence|[\w -]{{3,30}}:)",
    r"^\s*(?:\(\s*-\s*\)|none\b|absent\b)",
)

# Where a statement of its own begins, so that no cue reaches across.
CUT = _pattern(
    r"\b(?:but|however|although|though|whereas|while|nevertheless|nonetheless|despite)\b|;",
    r",\s*(?:and\s+)?there (?:is|are)\b",
)
ASIDE = _pattern(
    r"^\W*(?:although|though|while|whereas|despite|other than|apart from|aside from|besides|except for|in addition to)"
    r"\b[^,]*,"
)
# Words that end the scope of a cue before the mention; the third line: its clause is complete, the next one has begun.
_SUPPOSED = r"(?!.*\b(?:suggest\w*|suspicious|concerning|consistent|compatible|indicat\w+)\b)"
ENDS_SCOPE = _pattern(
    r"\b(?:except\w*|apart from|aside from|other than|besides|which|who|due to|secondary to|because|owing to|caused by"
    r"|as a result|result(?:s|ing|ed) (?:in|from)|obscured by|given|based on|in view of|evidenced by|manifest\w*"
    r"|there\s+(?:is|are|was|were|has|have|remains?|appears?))\b|\s-+\s|(?<!following):",
    r"(?<!consistent )(?<!compatible )(?<!keeping )(?<!associated )(?<!accordance )\bwith\b",
    rf"(?:,|\band\b).*\b{_VERB}\b{_SUPPOSED}|\b{_VERB}\b{_SUPPOSED}.*(?:,|\band\b)|\b{_SEEN}\s*(?:,|\band\b)",
)
NEW_STATEMENT = _pattern(  # after a comma or "and"
    r"(?:,(?:\s*and)?\s+(?:bilateral|left|right)|(?:,|\band\b)\s+(?:a|an|the|some|this|these|those|both"
    r"|several|multiple"
    r"|again|also|interval|mild(?:ly)?|small|tiny|trace|moderate|minimal|stable|unchanged|persist\w+|residual|improv\w+"
    r"|worsen\w+|increas\w+|decreas\w+|known|ongoing|continu\w+|extensive|patchy|dense|multifocal|bibasilar|bibasal|new"
    r"|develop\w+|progress\w+|likely|probabl[ey]|subtle|hazy))\b(?!.*\b(?:or|nor)\b)"
)
LISTED = _pattern(r"\b(?:or|nor|and/or|andor)\b")
LIST_GOES_ON = _pattern(r"^[\w\s-]{0,30},?\s*\b(?:or|nor)\b")
# The mention only says where something else is or is not, and so is itself there: "no cavity within the consolidation".
WITHIN = _pattern(
    r"(?<!evidence )(?<!signs )(?<!sign )(?<!presence )(?<!residua )(?<!trace )(?<!recurrence )(?<!findings )(?<!xxxx )"
    r"\b(?:within|inside|in|of|to|near|around|along|surrounding|from|by|over|on)\s+(?:the|this|that|these|those|its)\s+"
    rf"(?:(?:areas?|regions?|zones?|vicinity)\s+of\s+)?(?:(?!of\b|or\b|and\b|{_VERB}\b)[\w-]+\s+){{0,3}}$",
    r"\b(?:within|inside|surrounding|adjacent to)\s+(?:[\w-]+\s+){0,3}$",
    r"\bin\s+(?:areas?|regions?|foci)\s+of\s+(?:[\w-]+\s+){0,2}$",
)
ONLY_OTHERS = _pattern(  # "no other consolidation" supposes that there is one
    r"\b(?:additional|further|other|another|worsening|increas(?:ed|ing)|enlarging|progressive|progressing)\s+"
    r"(?:(?:or|and)\s+)?(?:[\w/-]+\s+){0,3}$"
)
OF_ANOTHER = _pattern(  # "not enlarged, ..." denies its own participle only
    r"^\s*(?:[\w-]+\s+)?(?!associated|accompanied|frankly)(?:[\w-]+ed|seen|shown|known|found|clear|visible)\b"
)
NON = _pattern(r"\bnon[\s-]*$")

# Alternatives: "atelectasis or consolidation", but not "consolidation in the middle or lower lobe".
_FINDING = _any(
    r"atelecta\w+|collapse|infiltrat\w+|mass(?:es)?|scar\w*|pneumonia|pneumonitis|o?edema|effusions?|aspiration",
    r"infection|fibrosis|contusions?|ha?emorrhage|tumou?r|neoplasm|malignancy|infarct\w*|volume loss|nodul\w+|crowding",
    r"artifact|consolidat\w+|crazy[ -]paving|ground[ -]glass|ggos?",
)
_FINDING_OR_OPACITY = _any(_FINDING, r"opacit\w+|airspace disease|fluid|thickening")
_OR = r"(?:(?<!more )or|and/or|andor)"
_TURN = (
    r"(?:is|are|was|were|has|have|may|might|could|represent\w*|reflect\w*|likely|probably|due|from|with|which|that"
    r"|suggest\w*|concerning|suspicious|consistent|compatible|possibl[ey]|related|given|without|no|around|surrounding"
    r"|adjacent|near|along|within)\b"
)
OR_BEFORE = _pattern(
    rf"(?:\b{_FINDING_OR_OPACITY}\b[\w\s/-]{{0,40}}?,?\s+{_OR}|\b(?:versus|vs\.?))\s+(?:(?!{_TURN})[\w/-]+\s+){{0,5}}$"
)
OR_AFTER = _pattern(
    rf"^(?:\s+(?!{_TURN}|{_FINDING}\b)[\w/-]+){{0,6}}?,?\s+"
    rf"(?:{_OR}\s+(?:[\w/-]+\s+){{0,3}}?{_FINDING_OR_OPACITY}\b|(?:versus|vs)\b)"
)
QUESTION_BEFORE = _pattern(r"\?\s*(?:[\w-]+\s+){0,4}$")
QUESTION_AFTER = _pattern(rf"^(?:(?:\s+|/)(?!{_TURN})[\w/-]+)*\s*\?\W*$", r"^\s*\(\?\)")

# The past: it counts only with a word on what has become of it.
_STUDY = r"(?:ct|exam\w*|stud(?:y|ies)|radiographs?|films?|scans?|x-?rays?|imag\w+|chest|reports?|comparison|xxxx)\b"
_EARLIER = r"(?:prior|previous|earlier|last|old|outside|most recent|recent|comparison)"
PAST_BEFORE = _pattern(
    rf"\b(?:prior|previous(?:ly)?|past|earlier)\s+(?:{_SEEN}\s+)?(?:(?!{_STUDY})[\w/-]+\s+){{0,4}}$",
)
PAST_STUDY_BEFORE = _pattern(
    r"^\W*(?:(?:on|in|at)\s+)?(?:(?:the|a|an)\s+)?(?:prior|previous|earlier|outside|old)\b.*"
    r"\b(?:was|were|had|showed|demonstrated|revealed|described)\b"
)
PAST_AFTER = _pattern(
    rf"^(?:\s+(?!not\b)[\w/-]+){{0,8}}?\s+(?:{_SEEN}\s+(?:[\w-]+\s+){{0,2}}?(?:previously|before"
    rf"|(?:on|at|in|from)\s+(?:the\s+|a\s+)?{_EARLIER})|previously\s+{_SEEN})\b"
)
STAYS = _pattern(r"\b(?:persist\w*|remain\w*|unchanged|stable|improv\w*|decreas\w*|increas\w*|worsen\w*)\b")
NOW = _pattern(
    STAYS.pattern,
    r"\b(?:now|again|progress\w*|larger|smaller|similar|residual|still|continu\w*|resolving|clearing|less|more|denser"
    r"|evol\w*|extend\w*|expand\w*|enlarg\w*|reduc\w*|regress\w*|is|are|present|shows?|demonstrates?|measures?|appears?"
    r"|has|have)\b",
)

# Grammar.
VERB = _pattern(rf"\b{_VERB}\b")
VERB_LAST = _pattern(rf"\b{_VERB}(?:\s+\w+)?\s*$")
RELATIVE = _pattern(r"\b(?:that|which)\s+(?:is|are|was|were|has been|have been|had been)\b")
ONLY_GRAMMAR = _pattern(
    r"^(?:\s*(?:which|that|now|since|has|have|had|is|are|been|also|completely|fully|entirely))*\s*$"
)
