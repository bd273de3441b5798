"""Personal data, by Presidio's pattern recognisers: checksums and formats, no language model.

The recognisers are called one by one on runs of text, without Presidio's context words: those would let a word far
away change a verdict, and a stream could not be judged before its end. So no names and no addresses are found.
https://microsoft.github.io/presidio/supported_entities/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.metadata import version

from tldextract import TLDExtract

from guardrails.absent import absent
from guardrails.verdicts import Action, Finding

# Presidio's package loads spaCy, which no recogniser here calls, and spaCy looks for what language models run on: that
# would take most of the gateway's start, and 300 MB.
with absent("torch", "transformers", "stanza"):
    from presidio_analyzer import EntityRecognizer, Pattern
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer,
        CryptoRecognizer,
        EmailRecognizer,
        IbanRecognizer,
        IpRecognizer,
        PhoneRecognizer,
        UsSsnRecognizer,
    )

_RULES = 3  # of this module; counts up when the same text may be judged otherwise
_JUDGES = ("presidio-analyzer", "phonenumbers", "tldextract")  # whose data decide too
_DIGIT_OR_AT = re.compile(r"[\d@]")
_PLAIN_NUMBER = re.compile(r"[\d.,:/%-]{1,10}\Z")


class _OfflineEmail(EmailRecognizer):  # type: ignore[misc]  # Presidio has no types
    """Presidio's, with the public suffixes that come with tldextract: never fetched."""

    _suffixes = TLDExtract(suffix_list_urls=(), cache_dir=None)

    def validate_result(self, pattern_text: str) -> bool:
        return self._suffixes(pattern_text).suffix != ""


# Ranges that Presidio's pattern lacks: https://en.wikipedia.org/wiki/Payment_card_number#Issuer_identification_number_(IIN)
_CARDS = {
    "Mastercard's second range": r"\b2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)(?:[- ]?\d{4}){3}\b",
    "JCB, 15 digits": r"\b(?:2131|1800)\d{11}\b",
    "Visa, Discover, UnionPay, 19 digits": r"\b(?:4\d{3}|6[0245]\d{2})(?:[- ]?\d{4}){3}[- ]?\d{3}\b",
    "Maestro": r"\b(?:5018|5020|5038|5893|6304|6759|676[1-3])(?:[- ]?\d{4}){2,3}\b",
}


def _cards() -> EntityRecognizer:
    more = [Pattern(name, regex, 0.3) for name, regex in _CARDS.items()]
    return CreditCardRecognizer(patterns=[*CreditCardRecognizer.PATTERNS, *more])


_RECOGNIZERS: dict[str, Callable[[], EntityRecognizer]] = {
    "EMAIL_ADDRESS": _OfflineEmail,
    "CREDIT_CARD": _cards,
    "IBAN_CODE": IbanRecognizer,
    "US_SSN": UsSsnRecognizer,
    # Numbers with a country's code are found wherever they are from, those without only where the United States or
    # Canada would write them so. Presidio's eight countries take `1716239022` and `#25762, #16866` for numbers too.
    "PHONE_NUMBER": lambda: PhoneRecognizer(supported_regions=("US",)),
    "CRYPTO": CryptoRecognizer,
    "IP_ADDRESS": IpRecognizer,
}
# An address like 127.0.0.1 is in every technical text; whoever holds it to be personal names it.
DEFAULT_ENTITIES = ("EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", "US_SSN", "PHONE_NUMBER", "CRYPTO")


class PersonalData:
    name = "pii"
    default_action: Action = "mask"

    def __init__(self, entities: Sequence[str] = DEFAULT_ENTITIES, min_score: float = 0.4) -> None:
        """`min_score` is Presidio's confidence, 0 to 1. Raises ValueError for an entity that is not known."""
        for entity in entities:
            if entity not in _RECOGNIZERS:
                raise ValueError(f"there is no entity `{entity}`; there are {', '.join(_RECOGNIZERS)}")
        self._recognizers = [(entity, _RECOGNIZERS[entity]()) for entity in entities]
        self._min_score = min_score
        judges = " ".join(f"{name}-{version(name)}" for name in _JUDGES)
        self.version = f"{_RULES} {judges} {','.join(entities)} {min_score}"

    def worth(self, run: str) -> bool:
        return len(run) >= 6 and _DIGIT_OR_AT.search(run) is not None and not _PLAIN_NUMBER.match(run)

    def find(self, run: str) -> list[Finding]:
        found = [
            Finding(entity, result.start, result.end, result.score)
            for entity, recognizer in self._recognizers
            for result in recognizer.analyze(run, [entity], None) or ()
            if result.score >= self._min_score
        ]
        return sorted(found, key=lambda finding: (finding.start, -finding.end))

    def mask(self, kind: str) -> str:
        return f"<{kind}>"
