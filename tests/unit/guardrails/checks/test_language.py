"""The language of a text, where it has enough words to have one."""

from __future__ import annotations

import pytest

from guardrails.checks.language import Language
from guardrails.text_checks import Context

_ENGLISH = Language(["en"])


async def _kinds(text: str, check: Language = _ENGLISH) -> list[str]:
    (found,) = await check.judge([text], Context("input"))
    assert all((finding.start, finding.end) == (0, len(text)) for finding in found)
    return [finding.kind for finding in found]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("de", "Wo finde ich die Reiserichtlinie der Firma, und wer bezahlt das Hotel?"),
        ("fr", "Où puis-je trouver les règles de voyage de notre entreprise ?"),
        ("es", "¿Dónde puedo encontrar las normas de viaje de la empresa?"),
        ("ru", "Где я могу найти правила командировок нашей компании?"),
        ("ja", "会社の出張規定はどこで見つけることができますか。"),
        ("ar", "أين يمكنني أن أجد قواعد السفر الخاصة بالشركة؟"),
    ],
)
async def test_another_language_is_named(code: str, text: str) -> None:
    assert await _kinds(text) == [code]
    assert await _kinds(text, Language(["en", code])) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ok",
        "Where can I find the travel rules of our company, and who pays the hotel?",
        "The naïve Müller said: bonjour, and then he went home to sleep.",
        "12345 67890 +49 30 1234567",
        "https://example.com/ein/sehr/langer/pfad/der/deutsch/aussieht",
        "Look at this code, please:\n```\nfür jede Zeile in der Datei mache das hier bitte sofort\n```",
        "\ud800 is half of something, and the other half is missing here.",
    ],
)
async def test_the_allowed_one_and_what_has_none_are_left_alone(text: str) -> None:
    assert await _kinds(text) == []


async def test_a_sure_guess_may_be_asked_for() -> None:
    text = "Wo finde ich die Reiserichtlinie der Firma?"
    assert await _kinds(text, Language(["en"], certainty=1.0)) == []


async def test_kin_of_an_allowed_language_is_allowed() -> None:
    assert await _kinds("这是一个很长的测试句子，用来检查语言。", Language(["zh"])) == []


def test_languages_must_be_known() -> None:
    with pytest.raises(ValueError, match="`tlh`"):
        Language(["tlh"])
    with pytest.raises(ValueError, match="at least one"):
        Language([])
    assert Language(["de", "en"]).version == Language(["en", "de"]).version != _ENGLISH.version
