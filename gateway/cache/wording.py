"""The words by which `likeness` reads a question: English, and enough of its neighbours to know them apart."""

from __future__ import annotations

import re


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# --- how a question is put ----------------------------------------------------------------------------
_ONE = r"(?:i|we|you|one)"
_CAN = r"(?:do|does|did|can|could|should|would|shall|may|must|might|to)"
_WAYS = r"(?:ways?|methods?|steps?|procedures?|process)"
LEADS = re.compile(
    rf"(?<!\S)(?:if {_ONE} (?:want|need|wish|would like) to|in order to)(?= .*what (?:should|can|do|must) {_ONE} do(?!\S))"
)
"""What comes before ", what should I do?"."""

# From the narrowest to the widest: what the first has taken is not seen by the next. None: what was said itself.
QUESTIONS: tuple[tuple[re.Pattern[str], str | None], ...] = tuple(
    (re.compile(rf"(?<!\S){pattern}(?!\S)"), kind)
    for pattern, kind in (
        (rf"what (?:should|can|do|must) {_ONE} do(?: (?:to|in order to|if {_ONE} (?:want|need) to))?", "how"),
        (rf"what (?:is|are|would be)(?: (?:a|the|some))?(?: (?:good|best|easiest|simplest|right|proper|correct))? {_WAYS}"
         r" (?:to|of|for|that)", "how"),
        (rf"what {_WAYS} (?:is|are) there (?:to|of|for)", "how"),
        (rf"is there (?:a|any) {_WAYS} (?:to|of|for)", "how"),
        (r"(?:what|which) (?:is|are|was|were) the (?:reasons?|causes?) (?:for|of|why|that|behind)", "why"),
        (r"(?:how come|for (?:what|which) reason|what for)", "why"),
        (r"(?:at )?what time", "when"),
        (r"(?:on )?(?:what|which) (?:date|day)", "when"),
        (r"what (?:is|are) the (?:number|total number|amount) of", "how many"),
        (r"how (?:much|many)", "how many"),
        (r"how (?:often|frequently)", "how often"),
        (r"how (?:long|old|far|big|large|tall|high|deep|wide|fast|soon|late|early|heavy|strong|good|bad|safe)", None),
        (r"how (?:is|are|am|was|were)", "how is"),
        (rf"how(?: (?:{_CAN}|will))?(?: {_ONE})?", "how"),
        (r"why", "why"),
        (r"when", "when"),
        (r"where", "where"),
        (r"(?:who|whom|which person)", "who"),
        (r"whose", "whose"),
        (r"(?:what|which)", "what"),
    )
)  # fmt: skip

# What a person says around a question.
FURNITURE = re.compile(
    r"(?<!\S)(?:please|kindly|thanks?(?: you)?|hello|hi|hey|"
    r"(?:can|could|would|will) you (?:please )?(?:tell|explain|show|help|inform|give)(?: to)?(?: me| us)?|"
    r"(?:tell|explain|show)(?: to)? (?:me|us)|let me know|do you know|does (?:anyone|anybody) know|i wonder|"
    r"i (?:would like|d like|want|need) to (?:know|ask|understand|learn|find out)|"
    r"i have a question|actually|exactly|basically|indeed|in fact)(?!\S)"
)

AUXILIARIES = _set(
    "is are am was were be do does did has have had can could will would shall should may might must need"
)  # fmt: skip

# Words that say no more than the grammar asks for; every other word has to be in both questions.
SILENT = _set(
    "a an the this that these those there it its is are am be been being was were do does did doing done has have had "
    "having will would shall can could should may might must to of in on at for with by from into onto about as and "
    "or i me my mine we us our ours you your yours he him his she her hers they them their theirs myself yourself "
    "if whether then so s t re ve ll d m not no nor than any some"
)  # fmt: skip

SHORT_NAMES = _set("a us it who in me an as at be by do go he so am is if")
"""What in capitals is another word: a country, a department, an organisation, a state."""

# --- what must be the same ----------------------------------------------------------------------------
NEGATIONS = _set(
    "not no never none nobody nothing nowhere neither nor cannot without except excluding besides hardly barely "
    "scarcely rarely seldom t unless instead against"
)  # fmt: skip
"""`t` is what is left of "don't" where its apostrophe was."""

PAST = _set("was were did had used been ago formerly previously")
MODALS = {
    **dict.fromkeys(("can", "could", "may", "might"), "can"),
    **dict.fromkeys(("should", "ought", "must", "shall"), "should"),
    "would": "would",
    "will": "will",
    "ll": "will",
}
MARKERS = _set(
    "or than during between until till since while before after by against over under above below within from off "
    "both either versus vs"
)  # fmt: skip
"""As many of each in both questions."""

DIRECTIONS = {
    **dict.fromkeys(("to", "into", "onto", "towards", "toward"), "to"),
    **dict.fromkeys(("from", "off"), "from"),
    **dict.fromkeys(("before", "until", "till"), "before"),
    **dict.fromkeys(("after", "since"), "after"),
    **dict.fromkeys(("through", "via"), "through"),
    **{
        word: word
        for word in _set("by against than over under above below with without for about as like at inside outside")
    },
}
"""What a word says of the next one: "pay for Bob" is not "pay Bob"."""

PLACES = {"in": "in", "on": "on", "this": "this", "these": "this", "that": "that", "those": "that"}
"""The same, where both questions say something: "in Monaco" may be "Monaco's", and is not "on Monaco"."""

THIRD_PERSONS = {
    **dict.fromkeys(("he", "him", "his"), "he"),
    **dict.fromkeys(("she", "her", "hers"), "she"),
    **dict.fromkeys(("they", "them", "their", "theirs"), "they"),
}
PERSONS = {
    **dict.fromkeys(("i", "me", "my", "mine", "we", "us", "our", "ours", "myself"), "i"),
    **dict.fromkeys(("you", "your", "yours", "yourself"), "you"),
}

_COUNTED = (
    "zero - two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
# "One" is no number in "which one" and "one can".
NUMBER_WORDS = {word: str(number) for number, word in enumerate(_COUNTED.split()) if word != "-"} | {
    "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90",
    "hundred": "100", "thousand": "1000", "million": "1000000", "billion": "1000000000", "dozen": "12",
    "first": "1st", "second": "2nd", "third": "3rd", "fourth": "4th", "fifth": "5th", "half": "0.5",
    "twice": "2x", "double": "2x", "triple": "3x", "once": "1x",
}  # fmt: skip
MONTHS = _set(
    "january february march april may june july august september october november december jan feb mar apr jun jul aug "
    "sep sept oct nov dec monday tuesday wednesday thursday friday saturday sunday"
)  # fmt: skip

# --- the same word in other clothes -------------------------------------------------------------------
UNCHANGED = _set(
    "news always series species bus gas plus yes less business process access address progress class thus goods customs "
    "arms means physics economics mathematics politics athletics glasses "
    "during thing nothing something anything everything spring string king ring morning evening building being "
    "bring sing wing ceiling wedding training marketing accounting meeting rating engineering housing clothing hearing "
    "landing drawing parking banking trading boarding heating funding listing shipping painting "
    "need feed speed seed bed red led used united"
)  # fmt: skip
"""Whose end is not an ending."""

_SYNONYMS = (
    "quick fast quickly rapidly", "begin start commence", "purchase buy", "big large huge", "film movie",
    "photo picture photograph", "phone telephone", "mobile cellphone cell", "email mail e-mail", "error fault",
    "fix repair", "delete remove erase", "create make", "job employment", "kid child kids children", "car automobile",
    "required needed necessary", "difference distinction differ", "allowed permitted", "happen occur",
    "doctor physician", "lawyer attorney", "choose select pick", "employee staff", "vacation holiday",
    "company firm", "app application", "info information", "reply respond", "near close", "obtain receive",
    "maximum max", "minimum min", "vs versus", "ok okay", "pc computer",
)  # fmt: skip
SAME = {word: group.split()[0] for group in _SYNONYMS for word in group.split()}

IS = _set("what who how where when why that it there here he she which")
"""Words after which `'s` is a verb; after others it says whose."""

# --- languages ----------------------------------------------------------------------------------------
LANGUAGES = {
    "de": _set("der die das und ist nicht ein eine einen wie wann wer welche welcher ich wir mein kann können für mit"),
    "fr": _set("le la les des est une je nous vous comment quand quel quelle quels où qui pourquoi pas mon puis peut"),
    "es": _set("el los las una es cómo cuándo cuál qué quién dónde por para mi puedo está son hay cuánto como"),
    "it": _set("il lo gli una è come quando quale chi dove perché posso sono della nel per mio quanto"),
    "pt": _set("os uma é como quando qual quem onde porque posso meu são não para por quanto eu"),
    "nl": _set("het een is hoe wanneer wie waar welke waarom ik mijn kan niet voor met zijn hoeveel"),
}
"""Words by which a language that is written in Latin letters is told; English is what none of them says."""
