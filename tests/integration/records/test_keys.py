"""Keys, tenants and the audit log in the record store."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from gateway.access.keys import new_key, revoked, rotated
from gateway.config.access import StoredGrants, TenantGrants
from gateway.records.audit_log import AuditLog
from gateway.records.database import Database
from gateway.records.keys import KeyStore
from gateway.records.known_users import KnownUsers
from gateway.tenancy import Actor, Changes, Deed, Found, Organisation, StoredKey, Tenant, User

ADA = Actor("key_1", "ada's", "default", "127.0.0.1", "req_1")


@pytest.fixture
def store(database: Database) -> KeyStore:
    return KeyStore(database)


@pytest.fixture
def log(database: Database) -> AuditLog:
    return AuditLog(database)


def key(**written: Any) -> StoredKey:
    return new_key(written, tenant="a", created_by="ada's", name="k")[1]


def tenant(name: str, organisation: str | None = None, **written: Any) -> Tenant:
    return Tenant(name, name.upper(), organisation, written, TenantGrants.model_validate(written), 1.5, "ada's")


def test_a_key_comes_back_as_it_was_kept(store: KeyStore) -> None:
    kept = key(models=["m"], networks=["10.0.0.1"], limits={"requests_per_minute": 5}, guardrails={"input": ["s"]},
               role="admin", groups=["ä", "'; DROP TABLE keys --"])  # fmt: skip
    store.add_key(kept, ADA)
    assert store.find(kept.secrets[0].digest) == Found(kept, 1)
    assert store.key(kept.id) == kept
    assert store.key("' OR 1=1 --") is None
    assert store.find(b"\0" * 32) == Found(None, 1)


def test_what_is_asked_for_is_never_part_of_a_statement(store: KeyStore, database: Database, log: AuditLog) -> None:
    """F8: the statements that the database was given hold none of the words that came with requests."""
    statements: list[str] = []
    event.listen(database._engine, "before_cursor_execute", lambda *about: statements.append(about[2]))
    word = "zzz'; DROP TABLE keys; --"
    kept = replace(key(user=word, groups=[word]), name=word, tenant=word)
    store.add_key(kept, replace(ADA, key_name=word, address=word, request_id=word))
    store.change_key(kept.id, word, lambda before: revoked(before, word), ADA)
    assert store.key(word) is None
    assert store.keys(of_tenants=frozenset({word}), after=word) == []
    assert store.tenant(word) is None
    assert store.tenants(word) == []
    assert store.organisation(word) is None
    assert KnownUsers(database).users(of_tenants=frozenset({word}), after=(word, word)) == []
    assert log.entries(tenants=frozenset({word}), key_id=word, action=word, object=word) == []
    assert len(statements) > 15
    assert not [statement for statement in statements if "zzz" in statement]


def test_a_rotated_key_is_found_by_each_of_its_secrets(store: KeyStore) -> None:
    kept = key()
    store.add_key(kept, ADA)
    after = store.change_key(kept.id, "keys.rotate", lambda before: rotated(before, 60)[1], ADA)
    assert after is not None
    assert [secret.works_until is None for secret in after.secrets] == [True, False]
    for secret in after.secrets:
        assert store.find(secret.digest).key == after


def test_what_was_changed_since_is_told(store: KeyStore) -> None:
    first, second = key(), key(role="admin", scope="gateway")
    assert store.changes(-1) == Changes(0, administered=False, users=())
    store.add_key(first, ADA)
    store.add_key(second, ADA)
    store.add_tenant(tenant("a", models=["m"]), ADA)
    assert store.changes(-1) == Changes(3, (), (tenant("a", models=["m"]),), True, ())
    assert store.changes(1) == Changes(3, (second,), (tenant("a", models=["m"]),), True)
    assert store.changes(3) == Changes(3)
    dead = store.change_key(first.id, "keys.revoke", lambda before: revoked(before, "ada's"), ADA)
    assert dead is not None
    assert dead.revoked_by == "ada's"
    assert store.changes(3) == Changes(4, (dead,), (), True)


def test_changes_at_the_same_time_have_numbers_of_their_own(store: KeyStore) -> None:
    """Nobody who reads up to a number misses what was committed with a smaller one."""
    kept = [key() for _ in range(8)]
    seen: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        sequence = 0
        while not stop.is_set() or sequence < 8:
            changes = store.changes(sequence)
            seen.extend(range(sequence + 1, sequence + 1 + len(changes.keys)))
            assert changes.sequence - sequence == len(changes.keys)
            sequence = changes.sequence

    threads = [threading.Thread(target=store.add_key, args=(each, ADA)) for each in kept]
    watching = threading.Thread(target=watch)
    watching.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    watching.join(60)
    assert seen == list(range(1, 9))


def test_what_fails_while_a_key_is_changed_changes_nothing(store: KeyStore, log: AuditLog) -> None:
    kept = key()
    store.add_key(kept, ADA)

    def fails(before: StoredKey) -> StoredKey:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.change_key(kept.id, "keys.change", fails, ADA)
    assert store.find(kept.secrets[0].digest) == Found(kept, 1)
    assert len(log.entries()) == 1
    assert store.change_key("key_none", "keys.change", lambda before: before, ADA) is None


def test_grants_of_a_newer_version_open_nothing(store: KeyStore, database: Database) -> None:
    kept = key()
    store.add_key(kept, ADA)
    with database.writing() as connection:
        connection.execute(text("UPDATE keys SET grants = '{\"only_on_sundays\": true}'"))
    found = store.key(kept.id)
    assert found is not None
    assert found.grants is None


def test_keys_are_listed_by_tenant_and_page(store: KeyStore) -> None:
    kept = [key() for _ in range(4)]
    other = replace(key(), tenant="b")
    for each in (*kept, other):
        store.add_key(each, ADA)
    ids = sorted(each.id for each in (*kept, other))
    assert [each.id for each in store.keys(limit=3)] == ids[:3]
    assert [each.id for each in store.keys(after=ids[2])] == ids[3:]
    assert store.keys(of_tenants=frozenset({"b"})) == [other]
    assert store.keys(of_tenants=frozenset()) == []


def test_an_admin_key_is_one_as_long_as_it_works(store: KeyStore) -> None:
    assert not store.has_admin_key()
    kept = key(role="admin", scope="gateway")
    store.add_key(kept, ADA)
    store.add_key(key(role="admin"), ADA)
    assert store.has_admin_key()
    store.change_key(kept.id, "keys.revoke", lambda before: revoked(before, "x"), ADA)
    assert not store.has_admin_key()
    assert store.changes(0).administered is True


def test_tenants_belong_to_organisations(store: KeyStore) -> None:
    acme = Organisation("acme", "Acme", 1.5, "ada's")
    assert store.add_organisation(acme, ADA)
    assert not store.add_organisation(acme, ADA)
    assert store.organisation("acme") == acme
    assert store.organisations() == [acme]
    assert store.add_tenant(tenant("a", "acme", limits={"budget": 5}), ADA)
    assert not store.add_tenant(tenant("a"), ADA)
    store.add_tenant(tenant("b"), ADA)
    assert store.tenants("acme") == [tenant("a", "acme", limits={"budget": 5})]
    changed = store.change_tenant("b", lambda before: replace(before, suspended_at=2.0), ADA)
    assert store.tenant("b") == changed == replace(tenant("b"), suspended_at=2.0)
    assert store.change_tenant("c", lambda before: before, ADA) is None


def test_users_are_kept_and_forgotten(store: KeyStore, database: Database, log: AuditLog) -> None:
    users = KnownUsers(database)
    ada = User("a", "ada@example.com", "Ada", ("g", "ä"), 1.5, "ada's")
    ben, other = replace(ada, id="ben"), replace(ada, tenant="b")
    assert (store.changes(-1).users, store.changes(0).users) == ((), None)
    for user in (ada, ben, other):
        assert users.put(user, ADA) == user
    told = store.changes(0).users
    assert told is not None
    assert set(told) == {ada, ben, other}
    store.add_key(key(), ADA)
    assert store.changes(3).users is None
    gone = users.put(replace(ada, groups=(), suspended_at=2.0, created_at=9.0), ADA)
    assert gone == users.user("a", "ada@example.com") == replace(ada, groups=(), suspended_at=2.0)
    assert users.users(of_tenants=frozenset({"a"}), limit=1) == [gone]
    assert users.users(of_tenants=frozenset({"a"}), after=("a", gone.id)) == [ben]
    assert users.remove("a", "ben", ADA)
    assert not users.remove("a", "ben", ADA)
    assert users.user("a", "ben") is None
    told = store.changes(5).users
    assert told is not None
    assert set(told) == {gone, other}
    assert [entry["action"] for entry in log.entries(action="users")] == ["users.remove", *["users.put"] * 4]
    assert "ada@" not in repr(log.entries())
    assert "Ada" not in repr(log.entries())
    assert log.entries(object=gone.label)[0]["after"] == {"groups": [], "suspended_at": 2.0}


# -- the audit log -----------------------------------------------------------------------------------------
def test_every_change_is_logged_with_what_was_before_and_after(store: KeyStore, log: AuditLog) -> None:
    kept = key(models=["m"])
    store.add_key(kept, ADA)
    store.change_key(
        kept.id, "keys.change",
        lambda before: replace(before, written={"models": []}, grants=StoredGrants(models=[])), ADA,
    )  # fmt: skip
    store.add_organisation(Organisation("acme", "Acme", 1.5, "ada's"), ADA)
    store.add_tenant(tenant("a", "acme"), ADA)
    store.change_tenant("a", lambda before: replace(before, suspended_at=2.0), ADA)
    entries = log.entries()
    assert [entry["action"] for entry in entries] == [
        "tenants.change", "tenants.create", "organisations.create", "keys.change", "keys.create",
    ]  # fmt: skip
    changed = entries[3]
    assert changed["actor"] == {"key_id": "key_1", "key_name": "ada's", "tenant": "default", "address": "127.0.0.1"}
    assert (changed["target"], changed["tenant"], changed["outcome"]) == (kept.id, "a", "done")
    assert (changed["before"]["models"], changed["after"]["models"]) == (["m"], [])
    assert changed["request_id"] == "req_1"
    assert (entries[4]["before"], entries[4]["after"]["name"]) == (None, "k")
    told = repr(entries)
    assert kept.secrets[0].digest.hex() not in told


def test_the_log_is_read_by_filter_and_page(log: AuditLog) -> None:
    for number in range(5):
        log.add(ADA, Deed("cache.purge", f"m{number}", "a" if number % 2 else None, reason="r"))
    log.add(replace(ADA, key_id="key_2"), Deed("keys.create", "x", "b"), "refused")
    assert [entry["target"] for entry in log.entries(limit=2)] == ["x", "m4"]
    assert [entry["target"] for entry in log.entries(before=log.entries(limit=2)[-1]["id"])] == ["m3", "m2", "m1", "m0"]
    assert [entry["target"] for entry in log.entries(tenants=frozenset({"a"}))] == ["m3", "m1"]
    assert len(log.entries(action="cache")) == len(log.entries(action="cache.purge")) == 5
    assert log.entries(action="ca%") == log.entries(action="cach") == []
    assert [entry["target"] for entry in log.entries(key_id="key_2", outcome="refused", object="x")] == ["x"]
    at = log.entries(limit=1)[0]["at"]
    assert log.entries(since=at + 1) == []
    assert len(log.entries(since=at - 60, until=at + 1)) == 6


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET key_name = 'somebody else'",
        "DELETE FROM audit_log",
        "INSERT OR REPLACE INTO audit_log SELECT id, at, 'x', key_name, key_tenant, address, request_id, action, object,"
        " tenant, outcome, reason, before, after FROM audit_log",
        "TRUNCATE audit_log",
    ],
)
def test_nothing_can_change_or_delete_what_is_logged(database: Database, log: AuditLog, statement: str) -> None:
    if ("REPLACE" in statement) != database.embedded and ("REPLACE" in statement or "TRUNCATE" in statement):
        statement = "DELETE FROM audit_log WHERE id = 1"  # the other database has no such statement
    if statement.startswith("TRUNCATE") and database.embedded:
        statement = "UPDATE audit_log SET id = id + 1"
    log.add(ADA, Deed("cache.purge", "m"))
    before = log.entries()
    with pytest.raises(DBAPIError, match="append-only"), database.writing() as connection:
        connection.execute(text(statement))
    assert log.entries() == before
