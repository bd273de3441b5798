"""Whose a conversation is, and a call that goes on without the store."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.chat import ChatRequest, EmbeddingsRequest
from gateway.exchange import Exchange
from gateway.records.database import Database
from gateway.records.pseudonyms import PseudonymStore
from gateway.records.sealing import Seal
from gateway.stages.conversations import ConversationPseudonyms, conversation_of
from gateway.stages.guarding import InputGuard
from gateway.values import Caller
from guardrails.assembly import build_check
from guardrails.policy import Policy, Rule

JANE = "jane.doe@example.org"
ANNA = Caller("app", "a", "anna")


def request(text: str = JANE, **more: Any) -> ChatRequest:
    return ChatRequest(json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more}).encode())


def exchange(caller: Caller = ANNA) -> Exchange:
    made = Exchange("chat.completions")
    made.caller = caller
    return made


def guard(database: Database) -> InputGuard:
    check: Any = build_check("pii", {})
    store = PseudonymStore(database, Seal([b"k" * 32]), 60.0)
    return InputGuard(Policy([Rule(check, "pseudonymise")]), ConversationPseudonyms(store))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'gateway.db'}")
    made.prepare()
    yield made
    made.close()


CALLERS = [
    ANNA,
    Caller("app", "a", "ben"),
    Caller("app", "b", "anna"),
    Caller("anna", "a"),
    Caller("app", "a"),
    Caller("app", "a", key_id="key_1"),
    Caller("app", "a", key_id="key_2"),  # two keys may have one name, as all tokens of an issuer have
]


def test_a_name_means_another_conversation_to_everybody_else() -> None:
    asked = [request(metadata={"conversation_id": name}) for name in ("c1", "c2")]
    threads = request()
    threads.thread = "c1"
    found = {conversation_of(one, exchange(caller)) for one in (*asked, threads) for caller in CALLERS}
    assert len(found) == 3 * len(CALLERS)
    assert None not in found


def test_no_name_can_spell_somebody_elses_conversation() -> None:
    """Written one behind the other, the parts of both are the same text."""
    one = conversation_of(request(prompt_cache_key="1namedc1"), exchange(Caller("app", "a", "anna")))
    other = conversation_of(request(prompt_cache_key="c1"), exchange(Caller("app", "a", "annanamed1")))
    assert one != other


def test_a_users_conversation_is_the_same_by_whatever_key_and_name_of_the_field() -> None:
    named = request(metadata={"conversation_id": "c1"}), request(prompt_cache_key="c1")
    keys = Caller("app", "a", "anna"), Caller("another", "a", "anna")
    assert len({conversation_of(one, exchange(caller)) for one in named for caller in keys}) == 1


def test_a_call_that_names_none_has_none() -> None:
    assert conversation_of(request(), exchange()) is None
    assert conversation_of(EmbeddingsRequest(b'{"model": "m", "input": "x"}'), exchange()) is None


async def sent(made: InputGuard, caller: Caller, asked: ChatRequest) -> tuple[str, Exchange]:
    """What goes out, and the account."""
    account = exchange(caller)
    await made.screen(asked, account)
    return str(asked.messages[0]["content"]), account


async def test_only_its_own_caller_has_what_was_kept(database: Database) -> None:
    placeholder, _ = await sent(guard(database), ANNA, request(prompt_cache_key="c1"))
    for caller in CALLERS:
        _, account = await sent(guard(database), caller, request("Who was it?", prompt_cache_key="c1"))
        assert account.pseudonyms is not None
        restored = account.pseudonyms.restorer(in_json=False).feed(placeholder) if account.pseudonyms else placeholder
        assert restored == (JANE if caller == ANNA else placeholder)


async def test_a_call_goes_on_without_the_store_and_with_the_same_placeholder(database: Database) -> None:
    told, account = await sent(guard(database), ANNA, request(prompt_cache_key="c1"))
    away, degraded = await sent(guard(Database("sqlite:////nowhere/gateway.db")), ANNA, request(prompt_cache_key="c1"))
    assert (account.degraded, degraded.degraded) == ([], ["pseudonyms"])
    assert away == told
    assert degraded.pseudonyms is not None
    assert degraded.pseudonyms.restorer(in_json=False).feed(away) == JANE


async def test_what_is_blocked_leaves_nothing(database: Database) -> None:
    made = guard(database)
    secrets: Any = build_check("secrets", {})
    made.policy = made.policy.with_rules_of(Policy([Rule(secrets, "block")]))
    with pytest.raises(Exception, match="blocked by a guardrail"):
        await sent(made, ANNA, request(f"{JANE} AKIAIOSFODNN7EXAMPLF", prompt_cache_key="c1"))
    _, account = await sent(made, ANNA, request("Who was it?", prompt_cache_key="c1"))
    assert not account.pseudonyms


async def test_calls_of_one_conversation_side_by_side_lose_nothing_of_each_other(database: Database) -> None:
    first, second = guard(database), guard(database)
    asked = [request(prompt_cache_key="c1"), request("john@example.com", prompt_cache_key="c1")]
    accounts = [exchange(), exchange()]
    for made, one, account in zip((first, second), asked, accounts, strict=True):
        assert made._conversations is not None
        account.pseudonyms = await made._conversations.begin(one, account)  # both have begun before either is kept
    for made, one, account in zip((first, second), asked, accounts, strict=True):
        await made.screen(one, account)
    _, later = await sent(first, ANNA, request("And?", prompt_cache_key="c1"))
    assert later.pseudonyms is not None
    both = "".join(str(one.messages[0]["content"]) for one in asked)
    assert later.pseudonyms.restorer(in_json=False).feed(both) == JANE + "john@example.com"


def test_the_placeholders_of_a_conversation_are_told_apart_from_what_somebody_makes_up(database: Database) -> None:
    store = PseudonymStore(database, Seal([os.urandom(32)]), 60.0)
    placeholder = store.placeholder(b"c" * 32, "EMAIL_ADDRESS", JANE)
    assert placeholder.startswith("<EMAIL_ADDRESS_")
    assert len(placeholder) == len("<EMAIL_ADDRESS_>") + 12
