"""An online store behind a Feast feature server, by HTTP: no Feast runs in this process.

https://docs.feast.dev/reference/feature-servers/python-feature-server
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx

from features.definitions import Definitions
from features.online import Cell, EntityRow, Erased, PushedRow, Reading, TransformFailed, plain
from features.vector import FeaturesUnavailable

_CONNECTIONS = 16
_NOTHING: Cell = (None, None)
_NUMBERS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class FeatureServer:
    def __init__(self, url: str, definitions: Definitions, *, deadline: float) -> None:
        """`deadline`: seconds that a request may take."""
        self._definitions = definitions
        defined = [feature for view in definitions.views.values() for feature in view.features]
        defined += [feature for service in definitions.services.values() for feature in service.features]
        self._types = {feature.name: feature.type for feature in defined}
        limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
        self._client = httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(deadline), limits=limits, trust_env=False)

    async def read(self, what: Reading, rows: Sequence[EntityRow]) -> list[dict[str, Cell]]:
        body: dict[str, Any] = {
            "entities": {key: [row[key] for row in rows] for key in rows[0]},
            "full_feature_names": what.full_names,
        }
        body |= {"feature_service": what.service} if what.features is None else {"features": list(what.features)}
        answer = await self._post("/get-online-features", body)
        told: list[dict[str, Cell]] = [{} for _ in rows]
        try:
            for name, vector in zip(answer["metadata"]["feature_names"], answer["results"], strict=True):
                times = vector.get("event_timestamps") or [None] * len(rows)
                for row, (value, time) in enumerate(zip(vector["values"], times, strict=True)):
                    told[row][name] = plain(self._received(name, value)), _seconds(time)
        except (LookupError, TypeError, ValueError, AttributeError) as fault:
            raise FeaturesUnavailable(f"the feature server's answer can't be read ({type(fault).__name__})") from fault
        return told

    async def write(self, view: str, rows: Sequence[PushedRow]) -> None:
        """The server takes whole rows only: what a row does not name is read first."""
        defined = self._definitions.views[view]
        if defined.push_source is None:
            raise FeaturesUnavailable(f"the view {view} has no push source, and a feature server writes by these only")
        names = [feature.name for feature in defined.features]
        references = tuple(f"{view}:{name}" for name in names)
        known = await self.read(Reading("", references), [row.entity for row in rows])
        # Together go the rows that lack the same values: a column of numbers with holes would become one of NaN.
        alike: dict[frozenset[str], list[dict[str, Any]]] = {}
        for row, old in zip(rows, known, strict=True):
            values = {name: self._sent(name, row.values.get(name, old.get(name, _NOTHING)[0])) for name in names}
            at = datetime.fromtimestamp(row.event_time, UTC).isoformat()
            holes = frozenset(name for name, value in values.items() if value is None)
            alike.setdefault(holes, []).append({**row.entity, **values, "event_timestamp": at})
        for group in alike.values():
            columns = {name: [row[name] for row in group] for name in group[0]}
            await self._post("/push", {"push_source_name": defined.push_source, "df": columns, "to": "online"})

    async def erase(self, entity: Mapping[str, str | int]) -> Erased:
        return Erased(0, "a Feast feature server deletes nothing: erase the entity in the store behind it")

    async def aclose(self) -> None:
        await self._client.aclose()

    def _received(self, name: str, value: Any) -> Any:
        """What JSON can't say of itself."""
        kind = self._types.get(name.rpartition("__")[2], "")
        if kind.startswith("Float") and isinstance(value, str):
            return _NUMBERS.get(value)
        if kind == "UnixTimestamp" and isinstance(value, int):
            return datetime.fromtimestamp(value, UTC)
        return value

    def _sent(self, name: str, value: Any) -> Any:
        if value is not None and self._types.get(name) == "UnixTimestamp":
            return int(datetime.fromisoformat(value).timestamp())
        return value

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        try:
            async with asyncio.timeout(self._client.timeout.read):
                try:
                    answer = await self._client.post(path, json=body)
                except (httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError):
                    # A kept connection that the server has just closed; reads and pushes may be said twice.
                    answer = await self._client.post(path, json=body)
        except (httpx.HTTPError, TimeoutError) as error:
            raise FeaturesUnavailable(f"the feature server did not answer ({type(error).__name__})") from error
        if answer.status_code == 500 and path == "/get-online-features":
            raise TransformFailed("the feature server answered 500")
        if answer.status_code != 200:
            raise FeaturesUnavailable(f"the feature server answered {answer.status_code}")
        try:
            return answer.json() if answer.content else None
        except ValueError as fault:
            raise FeaturesUnavailable("the feature server's answer is no JSON") from fault


def _seconds(time: str | None) -> float | None:
    """Of an RFC 3339 time; the epoch itself is Feast's word for none."""
    if not time:
        return None
    return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp() or None
