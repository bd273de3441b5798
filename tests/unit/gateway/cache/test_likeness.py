"""What tells two questions apart whose vectors are alike."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cache.likeness import difference

SAME = [
    ("How do I reset my password?", "how can i reset my password"),
    ("How do I reset my password?", "What is the best way to reset my password?"),
    ("How do I reset my password?", "Please tell me how to reset my password."),
    ("How do I reset my password?", "If I want to reset my password, what should I do?"),
    ("How do you reset a password?", "How can I reset the passwords?"),
    ("What is the notice period?", "What's the notice period?"),
    ("Which is the cheapest plan?", "What is the cheapest plan?"),
    ("Why did the build fail?", "What was the reason why the build failed?"),
    ("When does the shop open?", "At what time does the shop open?"),
    ("Who do I call?", "Whom do I call?"),
    ("How many days of leave do I have?", "What is the number of days of leave I have?"),
    ("Where can I buy 3 tickets?", "Where can I purchase three tickets?"),
    ("What is the difference between a router and a switch?", "What's the difference between a switch and a router?"),
    ("How do I know if it is on or not?", "How do I know if it is on?"),
    ("Can I work from home on Fridays?", "can i work from home on Fridays"),
    ("Wie lange ist die Kündigungsfrist?", "wie lange ist die kündigungsfrist"),
    ("“How long is it?”", '"How long is it?"'),  # typographic marks are meant
    ("Is it in the EU?", "Is it in EU?"),
    ("What about R&D?", "What about R & D?"),
]

APART = [
    ("numbers", "What changed in 2024?", "What changed in 2025?"),
    ("numbers", "Is 5 % tax due?", "Is 15 % tax due?"),
    ("numbers", "How do I get from 5 to 9?", "How do I get from 9 to 5?"),
    ("numbers", "Can I take two weeks off?", "Can I take three weeks off?"),
    ("numbers", "Is it due in March?", "Is it due in April?"),
    ("numbers", "Is the office open on Monday?", "Is the office open on Sunday?"),
    ("numbers", "What was decided on 2024-03-04?", "What was decided on 2024-04-03?"),
    ("numbers", "Is -5 allowed?", "Is 5 allowed?"),
    ("numbers", "Is –5 allowed?", "Is 5 allowed?"),  # an en dash
    ("numbers", "Are .5 mg enough?", "Are 5 mg enough?"),
    ("numbers", "Are 0.5 mg enough?", "Are 0,05 mg enough?"),
    ("numbers", "What is 6-3?", "What is 6/3?"),
    ("numbers", "How large is 3 m²?", "How large is 3 m³?"),
    ("symbols", "What is 6 - 3?", "What is 6 / 3?"),
    ("symbols", "What is 6 * 3?", "What is 6 + 3?"),
    ("symbols", "What if a < b > c?", "What if a > b < c?"),
    ("symbols", "Is 5 % due?", "Is 5 due?"),
    ("names", "Is vitamin A toxic?", "Is a vitamin toxic?"),
    ("numbers", "What was new in v2.3?", "What was new in v2.4?"),
    ("numbers", "Who won the first round?", "Who won the second round?"),
    ("symbols", "What does x > y mean?", "What does x < y mean?"),
    ("symbols", "Is $ accepted?", "Is € accepted?"),
    ("symbols", "How do I write it in C?", "How do I write it in C++?"),
    ("words", "How much is 20 kg?", "How much is 20 lb?"),
    ("negation", "Should I restart it?", "Should I not restart it?"),
    ("negation", "Can I travel with a visa?", "Can I travel without a visa?"),
    ("negation", "Why does it work?", "Why doesn't it work?"),
    ("negation", "How can you not forget to remember?", "How can you forget to not remember?"),
    ("names", "What does the contract with Acme say?", "What does the contract with Umbrella say?"),
    ("names", "Who leads the team in Berlin?", "Who leads the team in Paris?"),
    ("names", "Does the VPN need a token?", "Does the CRM need a token?"),
    ("names", "Does it help us?", "Does it help US?"),
    ("direction", "How do I get a job in the UK from the US?", "How do I get a job in the US from the UK?"),
    ("direction", "Who spoke with Ada?", "Who spoke about Ada?"),
    ("direction", "Should I pay Bob?", "Should I pay for Bob?"),
    ("direction", "Can I sell to Acme?", "Can I sell Acme?"),
    ("direction", "What happened this year?", "What happened that year?"),
    ("words", "What does it do?", "What is it?"),
    ("direction", "What is in the box?", "What is on the box?"),
    ("order", "Did Ada pay Bob?", "Did Bob pay Ada?"),
    ("order", "Do dogs chase cats?", "Do cats chase dogs?"),
    ("quoted", 'What does "merge" do?', 'What does "rebase" do?'),
    ("question", "When did it begin?", "Where did it begin?"),
    ("question", "Who signs it?", "What signs it?"),
    ("question", "How long is the leave?", "How often is the leave?"),
    ("question", "How long is the line?", "How old is the line?"),
    ("question", "Is the server down?", "Was the server down?"),
    ("question", "How are you doing?", "How am I doing?"),
    ("question", "Is the fall covered?", "Was the fall covered?"),
    ("question", "Who managed the house?", "Who manages the house?"),
    ("question", "Can I share it?", "Should I share it?"),
    ("question", "What is my limit?", "What is your limit?"),
    ("question", "Would he reject her?", "Would she reject him?"),
    ("question", "How can I get rid of it?", "How did you get rid of it?"),
    ("question", "Do I pay before the trip?", "Do I pay after the trip?"),
    ("question", "Is it an apple or a pear?", "Is it an apple and a pear?"),
    ("question", "Did Adam use the farm?", "Was Adam used by the farm?"),
    ("direction", "Should I bring the tent to camp?", "Should I bring the tent with camp?"),
    ("words", "How can I become more patient?", "How can I become less patient?"),
    ("words", "What is the maximum?", "What is the minimum?"),
    ("words", "Is the leave paid?", "Is the leave unpaid?"),
    ("words", "How do I reset my password?", "How do I change my password?"),
    ("words", "How do I book a train?", "How do I book a training?"),
    ("words", "Are there any good customs?", "Are there any goods of custom?"),
    ("words", "How do I enable it?", "How do I disable it?"),
    ("words", "How can someone hack my phone?", "How can I hack my phone?"),
    ("language", "Wie lange ist die Kündigungsfrist?", "How long is the notice period?"),
    ("language", "Wie lange ist die Frist?", "Wie lange ist die kurze Frist?"),
    ("language", "Сколько стоит билет?", "Сколько стоит поезд?"),  # Cyrillic is meant
    ("language", "休暇は何日ですか", "休暇は何時ですか"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_is_only_put_otherwise_is_the_same(one: str, other: str) -> None:
    assert difference(one, other) is None
    assert difference(other, one) is None


@pytest.mark.parametrize(("reason", "one", "other"), APART)
def test_what_asks_something_else_is_told_apart(reason: str, one: str, other: str) -> None:
    assert difference(one, other) == reason
    assert difference(other, one) == reason


WORDS = st.lists(st.text(string.ascii_lowercase, min_size=3, max_size=9), min_size=2, max_size=8, unique=True)


@settings(deadline=None)
@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_is_read_and_a_difference_goes_both_ways(one: str, other: str) -> None:
    assert difference(one, one) is None
    assert (difference(one, other) is None) is (difference(other, one) is None)


@settings(deadline=None)
@given(WORDS, st.integers(0, 10**6), st.integers(0, 10**6))
def test_another_number_always_tells_apart(words: list[str], one: int, other: int) -> None:
    question = "What is " + " ".join(words)
    assert (difference(f"{question} {one}?", f"{question} {other}?") is None) is (one == other)
    assert difference(f"{question} {one}?", f"{question}?") is not None


@settings(deadline=None)
@given(WORDS)
def test_a_negation_and_an_exchange_of_names_always_tell_apart(words: list[str]) -> None:
    question = "Can I " + " ".join(words)
    assert difference(f"{question}?", f"Can I not {' '.join(words)}?") is not None
    one, other = words[0].capitalize(), words[1].capitalize()
    assert difference(f"Does the {one} pay the {other}?", f"Does the {other} pay the {one}?") is not None


@settings(deadline=None)
@given(WORDS)
def test_capitals_and_marks_do_not(words: list[str]) -> None:
    question = "what is " + " ".join(words)
    assert difference(question, question.upper() + " ?!") is None


def test_a_very_long_text_is_only_like_itself() -> None:
    text = "what " * 10_000
    assert difference(text, text) is None
    assert difference(text, text + "else") == "words"
