"""What is held for a call is let go when it ends, or when whoever took its answer over does."""

from __future__ import annotations

from gateway.exchange import Exchange


def test_what_is_held_for_an_answer_goes_on_with_it() -> None:
    told: list[tuple[str, Exchange]] = []
    left, stays = Exchange("chat.completions"), Exchange("chat.completions")
    left.at_end(lambda ended: told.append(("before", ended)))
    left.bequeath(stays)
    left.settle()
    left.at_end(lambda ended: told.append(("after", ended)))  # by the call that was begun for it, and goes on
    assert told == []
    stays.settle()
    assert told == [("before", stays), ("after", stays)]


def test_what_concerns_a_call_itself_stays_with_it() -> None:
    """What is masked in a record must be, also where its caller has hung up and others read the answer on."""
    told: list[tuple[str, Exchange]] = []
    left, stays = Exchange("chat.completions"), Exchange("chat.completions")
    for name, exchange in (("left", left), ("stays", stays)):
        exchange.at_own_end(lambda ended, name=name: told.append((name, ended)))  # type: ignore[misc]  # the default binds the loop's value
    left.bequeath(stays)
    left.settle()
    stays.settle()
    assert told == [("left", left), ("stays", stays)]


def test_nothing_is_held_for_a_call_that_has_ended() -> None:
    told: list[Exchange] = []
    ended = Exchange("chat.completions")
    ended.settle()
    ended.at_end(told.append)
    assert told == [ended]
