"""Conversations' pseudonyms at rest: sealed, shared by workers, one conversation's own, gone when their time is up."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gateway.records.database import Database, StoreUnavailable
from gateway.records.pseudonyms import _MOST, PseudonymStore, remove_expired
from gateway.records.sealing import Seal

OLD, NEW = os.urandom(32), os.urandom(32)
HERE, THERE = b"h" * 32, b"t" * 32
JANE, JOHN = "jane.doe@example.org", "john@example.com"
HOUR = 3600.0


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        monkeypatch.setattr("gateway.records.pseudonyms.time.time", lambda: self.now)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'gateway.db'}")
    made.prepare()
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def store(database: Database, *keys: bytes) -> PseudonymStore:
    return PseudonymStore(database, Seal(keys or (OLD,)), HOUR)


def named(at: PseudonymStore, value: str, conversation: bytes = HERE) -> tuple[str, str, str]:
    return at.placeholder(conversation, "EMAIL_ADDRESS", value), "EMAIL_ADDRESS", value


def rows(database: Database) -> list[Any]:
    with database.reading() as connection:
        return list(connection.execute(text("SELECT conversation, sealed FROM pseudonyms ORDER BY 1")))


def test_what_one_worker_keeps_another_finds(database: Database) -> None:
    jane, john = named(store(database), JANE), named(store(database), JOHN)
    store(database).add(HERE, [jane])
    store(database).add(HERE, [john])
    assert store(database).find(HERE) == [jane, john]
    assert store(database).find(THERE) == []


def test_a_value_has_the_same_placeholder_at_every_worker_and_another_in_each_conversation(database: Database) -> None:
    assert named(store(database), JANE) == named(store(database), JANE)
    assert len({named(store(database), value, where)[0] for value in (JANE, JOHN) for where in (HERE, THERE)}) == 4
    assert named(store(database, NEW), JANE) != named(store(database, OLD), JANE), "it can't be guessed without the key"


def test_nothing_of_it_can_be_read_in_the_file(database: Database, tmp_path: Path) -> None:
    jane = named(store(database), JANE)
    store(database).add(HERE, [jane])
    store(database).add(HERE, [named(store(database), "jäne@example.org")])
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert HERE in written
    for plain in (JANE, "jane", "example.org", jane[0], jane[0][-13:-1], "EMAIL_ADDRESS"):
        assert plain.encode() not in written


def test_a_row_that_is_copied_to_another_conversation_is_lost_there(database: Database) -> None:
    store(database).add(HERE, [named(store(database), JANE)])
    with database.writing() as connection:
        copy = text("INSERT INTO pseudonyms SELECT :there, expires_at, sealed, owner FROM pseudonyms")
        connection.execute(copy, {"there": THERE})
    assert store(database).find(THERE) == []
    assert len(store(database).find(HERE)) == 1


def test_it_goes_when_its_time_is_up(database: Database, clock: Clock) -> None:
    store(database).add(HERE, [named(store(database), JANE)])
    clock.now += HOUR + 1
    assert store(database).find(HERE) == []
    assert rows(database) == []


def test_each_call_of_a_conversation_gives_it_its_whole_time_again(database: Database, clock: Clock) -> None:
    store(database).add(HERE, [named(store(database), JANE)])
    for _ in range(3):
        clock.now += HOUR * 0.9
        assert len(store(database).find(HERE)) == 1
    clock.now += HOUR + 1
    assert store(database).find(HERE) == []


def test_what_has_expired_goes_with_the_next_one_that_is_kept_and_at_the_next_start(
    database: Database, clock: Clock
) -> None:
    store(database).add(HERE, [named(store(database), JANE)])
    clock.now += HOUR + 1
    store(database).add(THERE, [named(store(database), JANE, THERE)])
    assert [row[0] for row in rows(database)] == [THERE]
    clock.now += HOUR + 1
    remove_expired(database)
    assert rows(database) == []


def test_keys_are_rotated_without_a_loss(database: Database) -> None:
    jane = named(store(database, OLD), JANE)
    store(database, OLD).add(HERE, [jane])
    assert store(database, NEW, OLD).find(HERE) == [jane], "the first key seals, all of them open"
    assert store(database, NEW).find(HERE) == [jane], "it was sealed anew"


def test_what_no_key_opens_begins_anew_and_is_not_told(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    store(database, OLD).add(HERE, [named(store(database, OLD), JANE)])
    john = named(store(database, NEW), JOHN)
    with caplog.at_level(logging.DEBUG):
        assert store(database, NEW).find(HERE) == []
        store(database, NEW).add(HERE, [john])
    assert store(database, NEW).find(HERE) == [john]
    assert "a key that is not configured" in caplog.text
    assert "jane" not in caplog.text


def test_of_a_conversation_without_end_the_newest_are_kept(database: Database) -> None:
    all_of_them = [(f"<X_{n}>", "X", str(n)) for n in range(_MOST + 5)]
    store(database).add(HERE, all_of_them[:10])
    store(database).add(HERE, all_of_them[10:])
    assert store(database).find(HERE) == all_of_them[5:]


def test_a_store_that_is_away_says_so() -> None:
    away = store(Database("sqlite:////nowhere/gateway.db"))  # nobody has prepared it
    with pytest.raises(StoreUnavailable):
        away.find(HERE)
    with pytest.raises(StoreUnavailable):
        away.add(HERE, [named(away, JANE)])


@pytest.mark.parametrize("sealed", [b"", b"short", bytes(range(60))])
def test_bytes_that_are_not_ours_open_nowhere(sealed: bytes) -> None:
    assert Seal([OLD, NEW]).open(sealed, HERE) is None
