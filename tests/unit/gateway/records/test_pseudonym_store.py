"""Conversations' pseudonyms at rest: sealed, shared by workers, one conversation's own, gone when their time is up."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from pathlib import Path

import pytest

from gateway.records.pseudonyms import _MOST, PseudonymStore, remove_expired
from gateway.records.sealing import Seal
from gateway.records.sqlite import SqliteCalls, connect

OLD, NEW = os.urandom(32), os.urandom(32)
HERE, THERE = b"h" * 32, b"t" * 32
JANE, JOHN = "jane.doe@example.org", "john@example.com"
HOUR = 3600.0


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        monkeypatch.setattr("gateway.records.pseudonyms.time.time", lambda: self.now)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.db"
    SqliteCalls(file).close()
    return file


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def store(path: Path, *keys: bytes) -> PseudonymStore:
    return PseudonymStore(path, Seal(keys or (OLD,)), HOUR)


def named(at: PseudonymStore, value: str, conversation: bytes = HERE) -> tuple[str, str, str]:
    return at.placeholder(conversation, "EMAIL_ADDRESS", value), "EMAIL_ADDRESS", value


def rows(path: Path) -> list[tuple[bytes, bytes]]:
    connection = connect(path)
    try:
        return connection.execute("SELECT conversation, sealed FROM pseudonyms ORDER BY 1").fetchall()
    finally:
        connection.close()


def test_what_one_worker_keeps_another_finds(path: Path) -> None:
    jane, john = named(store(path), JANE), named(store(path), JOHN)
    store(path).add(HERE, [jane])
    store(path).add(HERE, [john])
    assert store(path).find(HERE) == [jane, john]
    assert store(path).find(THERE) == []


def test_a_value_has_the_same_placeholder_at_every_worker_and_another_in_each_conversation(path: Path) -> None:
    assert named(store(path), JANE) == named(store(path), JANE)
    assert len({named(store(path), value, where)[0] for value in (JANE, JOHN) for where in (HERE, THERE)}) == 4
    assert named(store(path, NEW), JANE) != named(store(path, OLD), JANE), "it can't be guessed without the key"


def test_nothing_of_it_can_be_read_in_the_file(path: Path) -> None:
    jane = named(store(path), JANE)
    store(path).add(HERE, [jane])
    store(path).add(HERE, [named(store(path), "jäne@example.org")])
    written = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert HERE in written
    for text in (JANE, "jane", "example.org", jane[0], jane[0][-13:-1], "EMAIL_ADDRESS"):
        assert text.encode() not in written


def test_a_row_that_is_copied_to_another_conversation_is_lost_there(path: Path) -> None:
    store(path).add(HERE, [named(store(path), JANE)])
    connection = connect(path)
    with connection:
        connection.execute("INSERT INTO pseudonyms SELECT ?, expires_at, sealed FROM pseudonyms", (THERE,))
    connection.close()
    assert store(path).find(THERE) == []
    assert len(store(path).find(HERE)) == 1


def test_it_goes_when_its_time_is_up(path: Path, clock: Clock) -> None:
    store(path).add(HERE, [named(store(path), JANE)])
    clock.now += HOUR + 1
    assert store(path).find(HERE) == []
    assert rows(path) == []


def test_each_call_of_a_conversation_gives_it_its_whole_time_again(path: Path, clock: Clock) -> None:
    store(path).add(HERE, [named(store(path), JANE)])
    for _ in range(3):
        clock.now += HOUR * 0.9
        assert len(store(path).find(HERE)) == 1
    clock.now += HOUR + 1
    assert store(path).find(HERE) == []


def test_what_has_expired_goes_with_the_next_one_that_is_kept_and_at_the_next_start(path: Path, clock: Clock) -> None:
    store(path).add(HERE, [named(store(path), JANE)])
    clock.now += HOUR + 1
    store(path).add(THERE, [named(store(path), JANE, THERE)])
    assert [row[0] for row in rows(path)] == [THERE]
    clock.now += HOUR + 1
    remove_expired(path)
    assert rows(path) == []


def test_keys_are_rotated_without_a_loss(path: Path) -> None:
    jane = named(store(path, OLD), JANE)
    store(path, OLD).add(HERE, [jane])
    assert store(path, NEW, OLD).find(HERE) == [jane], "the first key seals, all of them open"
    assert store(path, NEW).find(HERE) == [jane], "it was sealed anew"


def test_what_no_key_opens_begins_anew_and_is_not_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store(path, OLD).add(HERE, [named(store(path, OLD), JANE)])
    john = named(store(path, NEW), JOHN)
    with caplog.at_level(logging.DEBUG):
        assert store(path, NEW).find(HERE) == []
        store(path, NEW).add(HERE, [john])
    assert store(path, NEW).find(HERE) == [john]
    assert "a key that is not configured" in caplog.text
    assert "jane" not in caplog.text


def test_of_a_conversation_without_end_the_newest_are_kept(path: Path) -> None:
    all_of_them = [(f"<X_{n}>", "X", str(n)) for n in range(_MOST + 5)]
    store(path).add(HERE, all_of_them[:10])
    store(path).add(HERE, all_of_them[10:])
    assert store(path).find(HERE) == all_of_them[5:]


def test_a_store_that_is_away_says_so(tmp_path: Path) -> None:
    away = store(tmp_path)  # a folder
    with pytest.raises(sqlite3.Error):
        away.find(HERE)
    with pytest.raises(sqlite3.Error):
        away.add(HERE, [named(away, JANE)])


@pytest.mark.parametrize("sealed", [b"", b"short", bytes(range(60))])
def test_bytes_that_are_not_ours_open_nowhere(sealed: bytes) -> None:
    assert Seal([OLD, NEW]).open(sealed, HERE) is None
