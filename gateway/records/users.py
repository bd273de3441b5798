"""Everything that the record store holds of one user: to be handed over, and to be erased.

Erased records are gone whole; what was spent stays in the tenant's sums. A receipt stays too, with a digest of the user
that only somebody who names the user can compare. A record that was on its way is caught by `erase_late`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any
from urllib.parse import quote

from sqlalchemy import ColumnElement, Connection, LargeBinary, Select, and_, delete, func, literal, or_, select

from gateway.records.call_queries import MADE_FOR, in_detail
from gateway.records.calls import first_id, told
from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.records.held import take
from gateway.records.lake_queue import tell_erasure
from gateway.records.pseudonyms import PseudonymStore
from gateway.records.rows import COLUMNS
from gateway.records.schema import calls, erasures, feedback, lake_queue, quality, responses, spend

log = logging.getLogger(__name__)

_LATE = 7 * 86_400.0  # seconds for which a record that was on its way is still looked for
_PAGE = 200
_PAGE_BYTES = 8_000_000


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of an erasure: what went, by kind, and what is not in the gateway's hands."""

    id: str
    tenant: str
    at: float
    erased: Mapping[str, int]
    left: Mapping[str, str]

    def told(self) -> dict[str, Any]:
        return {
            "object": "erasure",
            "id": self.id,
            "tenant": self.tenant,
            "at": self.at,
            "erased": dict(self.erased),
            "left": dict(self.left),
        }


class UserRecords:
    """Blocking; any thread may. Raises StoreUnavailable."""

    def __init__(
        self, database: Database, contents: Contents | None = None, pseudonyms: PseudonymStore | None = None
    ) -> None:
        self._database = database
        self._contents = contents or Contents()
        self._pseudonyms = pseudonyms

    def exported(self, tenant: str, user: str) -> Iterator[dict[str, Any]]:
        """Each thing that is kept, with its kind under `object`; calls oldest first."""
        for row in self._pages(calls, calls.c.started_at, calls.c.call_id, tenant, user):
            yield told({name: row[name] for name in COLUMNS}, self._contents)
        with self._database.reading() as connection:
            mine = select(calls.c.call_id).where(*_of(calls, tenant, user))
            said = connection.execute(select(feedback).where(*_about(tenant, user, mine)).order_by(feedback.c.id)).all()
            spent = _spent_by(connection, tenant, user)
        for one in said:
            yield {"object": "feedback", **{key: value for key, value in one._mapping.items() if key != "id"}}
        for kept in self._pages(responses, responses.c.expires_at, responses.c.id, tenant, user):
            read = self._contents.read
            yield {
                "object": "response.kept",
                "input": read(kept["input"], f"input:{kept['id']}"),
                "response": read(kept["response"], f"response:{kept['id']}"),
            }
        for subject, period, usd, count, tokens in spent:
            yield {
                "object": "spend",
                "subject": subject,
                "period": period,
                "usd": usd,
                "calls": count,
                "tokens": tokens,
            }
        if self._pseudonyms is not None:
            for placeholder, kind, value in self._pseudonyms.of((tenant, user)):
                yield {"object": "pseudonym", "placeholder": placeholder, "kind": kind, "value": value}

    def erase(self, tenant: str, user: str) -> dict[str, int]:
        """Let go of all of it in one transaction; how many of each kind went."""
        with self._database.writing() as connection:
            gone = _erase(connection, tenant, user, None)
        if self._pseudonyms is not None:
            gone["conversations"] = self._pseudonyms.erase((tenant, user))
        return gone

    def lake_waits(self) -> bool:
        """Whether rows of the lake are still to be erased, by the process that fills it."""
        with self._database.reading() as connection:
            return bool(connection.scalar(select(select(lake_queue).where(lake_queue.c.kind == "erasure").exists())))

    def wipe(self) -> None:
        """Leave nothing in the store's files of what was erased, as far as nobody reads it just now."""
        self._database.wipe()

    def keep_receipt(self, tenant: str, user: str, erased: Mapping[str, int], left: Mapping[str, str]) -> Receipt:
        receipt = Receipt(f"ers_{secrets.token_hex(12)}", tenant, time.time(), erased, left)
        with self._database.writing() as connection:
            connection.execute(
                erasures.insert().values(
                    id=receipt.id,
                    at=int(receipt.at * 1e9),
                    tenant=tenant,
                    digest=_digest(receipt.id, tenant, user),
                    receipt=json.dumps(receipt.told()),
                )
            )
        return receipt

    def receipts(self, tenants: frozenset[str] | None, limit: int = 100) -> list[dict[str, Any]]:
        """The newest first; of all tenants where none are named."""
        query = select(erasures.c.receipt).order_by(erasures.c.at.desc()).limit(limit)
        if tenants is not None:
            query = query.where(erasures.c.tenant.in_(sorted(tenants)))
        with self._database.reading() as connection:
            return [json.loads(text) for text in connection.scalars(query)]

    def erase_late(self) -> int:
        """Let go of calls that were made before an erasure and came to the store after it; how many records went."""
        since = int((time.time() - _LATE) * 1e9)
        gone = 0
        with self._database.reading() as connection:
            recent = connection.execute(select(erasures).where(erasures.c.at >= since)).all()
            users: dict[str, list[str]] = {}
            for erasure in recent:
                if erasure.tenant not in users:
                    users[erasure.tenant] = list(_users_of(connection, erasure.tenant))
        for erasure in recent:
            for user in users[erasure.tenant]:
                if _digest(erasure.id, erasure.tenant, user) == erasure.digest:
                    with self._database.writing() as connection:
                        gone += sum(_erase(connection, erasure.tenant, user, erasure.at).values())
        if gone:
            log.info("%d records came after their user was erased, and were removed", gone)
        return gone

    def _pages(self, table: Any, at: Any, name: Any, tenant: str, user: str) -> Iterator[Mapping[str, Any]]:
        """Page after page, so that no transaction is open for as long as whoever reads takes, and so much at a time as
        can be held in memory: with recorded content, a row may be megabytes.
        """
        after: tuple[float, str] = (-1, "")
        held = [func.coalesce(func.length(column), 0) for column in table.c if isinstance(column.type, LargeBinary)]
        size = reduce(add, held, literal(0)).label("size")
        while True:
            newer = or_(at > after[0], (at == after[0]) & (name > after[1]))
            query = select(at.label("at"), name.label("name"), size).where(*_of(table, tenant, user), newer)
            with self._database.reading() as connection:
                keys = connection.execute(query.order_by(at, name).limit(_PAGE)).all()
            for names in _by_size([(key.name, key.size) for key in keys]):
                some = select(table).where(*_of(table, tenant, user), name.in_(names)).order_by(at, name)
                with self._database.reading() as connection:
                    rows = connection.execute(some).mappings().all()
                for row in rows:
                    yield {str(column): value for column, value in row.items()}
            if len(keys) < _PAGE:
                return
            after = (keys[-1].at, keys[-1].name)


def _by_size(sized: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    """Names in their order, about _PAGE_BYTES at a time, and one at least."""
    names: list[str] = []
    held = 0
    for name, size in sized:
        if names and held + size > _PAGE_BYTES:
            yield names
            names, held = [], 0
        names.append(name)
        held += size
    if names:
        yield names


def _of(table: Any, tenant: str, user: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return table.c.tenant == tenant, table.c.user == user


def _about(
    tenant: str, user: str, their_calls: Select[tuple[str]], *said: ColumnElement[bool]
) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Feedback that the user gave (`said`: no other than that), or that was given on the user's calls."""
    given = and_(feedback.c.user == user, *said)
    return feedback.c.tenant == tenant, or_(given, feedback.c.call_id.in_(their_calls))


def _spent_by(connection: Connection, tenant: str, user: str) -> list[tuple[str, str, float, int, int]]:
    """The rows of `spend` that count for this user: gateway.access.rules spells their subjects."""
    wanted = {f"tenant={quote(tenant, safe='')}", f"user={quote(user, safe='')}"}
    near = spend.c.subject.contains(f"user={quote(user, safe='')}", autoescape=True)
    rows = connection.execute(select(spend).where(near)).all()
    return [tuple(row) for row in rows if wanted <= set(row.subject.partition("?")[0].split("&"))]


def _erase(connection: Connection, tenant: str, user: str, before: int | None) -> dict[str, int]:
    """`before`: what is newer than that (ns) stays."""
    older: tuple[ColumnElement[bool], ...] = ()
    if before is not None:
        older = (or_(calls.c.started_at <= before, calls.c.call_id.in_(_made_later(connection, tenant, user, before))),)
    said = (feedback.c.at <= before,) if before is not None else ()
    mine = select(calls.c.call_id).where(*_of(calls, tenant, user), *older)
    through = _newest(connection, tenant, user) if before is None else before
    take(connection, mine)
    connection.execute(delete(quality).where(quality.c.call_id.in_(mine)))
    gone = {"feedback": connection.execute(delete(feedback).where(*_about(tenant, user, mine, *said))).rowcount}
    if before is not None:  # which their calls kept after it was erased
        told = select(calls.c.answer_id).where(*_of(calls, tenant, user), *older)
        kept = delete(responses).where(*_of(responses, tenant, user), responses.c.id.in_(told))
        gone["responses"] = connection.execute(kept).rowcount
    gone["calls"] = connection.execute(delete(calls).where(*_of(calls, tenant, user), *older)).rowcount
    if before is None or any(gone.values()):
        tell_erasure(connection, tenant, user, through)
    if before is None:
        spent = _spent_by(connection, tenant, user)
        for subject, period, *_ in spent:
            connection.execute(delete(spend).where(spend.c.subject == subject, spend.c.period == period))
        gone["spend"] = len(spent)
        gone["responses"] = connection.execute(delete(responses).where(*_of(responses, tenant, user))).rowcount
    return gone


def _made_later(connection: Connection, tenant: str, user: str, before: int) -> list[str]:
    """Calls that the gateway made of its own after `before`, for calls from until then: a judge may come late."""
    newer = (*_of(calls, tenant, user), calls.c.started_at > before)
    end = first_id(before + 1_000_000)  # ids tell milliseconds
    own = in_detail(MADE_FOR, embedded=connection.dialect.name == "sqlite")
    found = connection.execute(select(calls.c.call_id, calls.c.detail).where(*newer, own))
    return [call_id for call_id, detail in found if json.loads(detail)["made_for"]["call_id"] < end]


def _newest(connection: Connection, tenant: str, user: str) -> int:
    """Now, or when the newest that is kept of the user was made, by a clock that has been set back since; in ns."""
    called = connection.scalar(select(func.max(calls.c.started_at)).where(*_of(calls, tenant, user)))
    mine = select(calls.c.call_id).where(*_of(calls, tenant, user))
    said = connection.scalar(select(func.max(feedback.c.at)).where(*_about(tenant, user, mine)))
    return max(time.time_ns(), called or 0, said or 0)


def _users_of(connection: Connection, tenant: str) -> Iterator[str]:
    """One step of the index for each user."""
    known = calls.c.user.is_not(None)
    user = ""
    while True:
        next_one = select(func.min(calls.c.user)).where(calls.c.tenant == tenant, known, calls.c.user > user)
        found = connection.scalar(next_one)
        if found is None:
            return
        yield found
        user = found


def _digest(erasure_id: str, tenant: str, user: str) -> bytes:
    parts = [part.encode("utf-8", "surrogatepass") for part in (erasure_id, tenant, user)]
    return hashlib.sha256(b"".join([b"%d:%b" % (len(part), part) for part in parts])).digest()
