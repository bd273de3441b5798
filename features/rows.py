"""Rows that somebody pushes: checked against the views of their push source before any of them is written."""

from __future__ import annotations

import csv
import io
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from features.definitions import Definitions, View
from features.online import PushedRow
from features.vector import FeatureScalar, FeatureValue

EVENT_TIME = "event_timestamp"
_AHEAD = 300.0  # seconds that another clock may be ahead of ours
_WHOLE = {"Int32": 2**31, "Int64": 2**63, "INT32": 2**31, "INT64": 2**63}
_ENTITY = 1024  # characters of an entity's value
_CANONICAL = re.compile(r"0|-?[1-9][0-9]{0,18}").fullmatch
_LARGEST = {"Float32": 3.4028234663852886e38, "Float64": sys.float_info.max}


class RowFault(ValueError):
    """A row that can't be written: `row` counts from 0, `name` is the field at fault, or None for the whole."""

    def __init__(self, row: int | None, name: str | None, message: str) -> None:
        super().__init__(message)
        self.row = row
        self.name = name


def whole_number(text: str, kind: str) -> int | None:
    """The number that a text is in the one way to write it; None for every other text, and for one out of range.

    Python reads `7_0`, `+70` and `٧٠` as 70 too: who is called so would be somebody else.
    """
    bound = _WHOLE.get(kind, 2**63)
    return int(text) if _CANONICAL(text) and -bound <= int(text) < bound else None


def checked(definitions: Definitions, source: str, rows: Sequence[Any]) -> dict[str, list[PushedRow]]:
    """The rows for each view that the push source feeds. Raises RowFault; then nothing is written."""
    views = definitions.pushed_to(source)
    if not views:
        known = ", ".join(definitions.push_sources) or "none"
        raise RowFault(None, None, f"there is no push source `{source}`; there is {known}")
    keys = {key for view in views for key in view.join_keys}
    features = {feature.name: feature.type for view in views for feature in view.features}
    made: dict[str, list[PushedRow]] = {view.name: [] for view in views}
    now = time.time()
    for order, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise RowFault(order, None, "should be an object of fields")
        if unknown := [name for name in row if name not in keys and name not in features and name != EVENT_TIME]:
            allowed = ", ".join([*sorted(keys), *features, EVENT_TIME])
            raise RowFault(order, str(unknown[0]), f"is no field of `{source}`; there are {allowed}")
        try:
            entity = {key: _entity(row, key, definitions.entity_types.get(key, "STRING")) for key in sorted(keys)}
            values = {name: _value(name, row[name], features[name]) for name in row if name in features}
            at = _event_time(row.get(EVENT_TIME), now)
        except _Wrong as fault:
            raise RowFault(order, fault.name, str(fault)) from None
        if not values:
            raise RowFault(order, None, f"has no feature; there are {', '.join(features)}")
        for view in views:
            own = {feature.name: values[feature.name] for feature in view.features if feature.name in values}
            if own:
                made[view.name].append(PushedRow({key: entity[key] for key in view.join_keys}, own, at))
    return {view: pushed for view, pushed in made.items() if pushed}


def read_csv(definitions: Definitions, text: str) -> tuple[str, list[dict[str, Any]]]:
    """The push source that has a CSV file's columns, and its rows, typed. Raises ValueError."""
    lines = list(csv.DictReader(io.StringIO(text)))
    columns = set(lines[0]) if lines else set()
    fitting = [
        source for source in definitions.push_sources if columns and _fits(columns, definitions.pushed_to(source))
    ]
    if len(fitting) != 1:
        known = ", ".join(definitions.push_sources) or "none"
        raise ValueError(f"its columns should be those of one push source, the join keys among them; there is {known}")
    types = {feature.name: feature.type for view in definitions.pushed_to(fitting[0]) for feature in view.features}
    rows = [{name: _typed(value, types.get(name, "String")) for name, value in line.items()} for line in lines]
    return fitting[0], rows


def _fits(columns: set[str], views: Sequence[View]) -> bool:
    keys = {key for view in views for key in view.join_keys}
    features = {feature.name for view in views for feature in view.features}
    return keys <= columns <= keys | features | {EVENT_TIME}


def _typed(text: str | None, kind: str) -> FeatureValue:
    """A CSV field as the type that it stands for; what does not fit stays text, and is refused as such."""
    if text is None or text == "":
        return None
    readers: dict[str, Callable[[str], FeatureScalar]] = {
        "Int32": int, "Int64": int, "Float32": float, "Float64": float, "Bool": lambda word: word.lower() == "true",
    }  # fmt: skip
    try:
        return readers[kind](text) if kind in readers else text
    except ValueError:
        return text


class _Wrong(Exception):
    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def _entity(row: Mapping[str, Any], key: str, kind: str) -> str | int:
    if key not in row:
        raise _Wrong(key, "is missing: it says whose features these are")
    value = row[key]
    if kind in _WHOLE:
        if isinstance(value, str) and (number := whole_number(value, kind)) is not None:
            return number
        return _whole(key, value, kind)
    if not isinstance(value, str) or not value or len(value) > _ENTITY:
        raise _Wrong(key, f"should be text of 1 to {_ENTITY} characters")
    return _text(key, value)


def _value(name: str, value: Any, kind: str) -> FeatureValue:
    if value is None:
        return None
    for collection in ("Array(", "Set("):
        if kind.startswith(collection):
            if not isinstance(value, list):
                raise _Wrong(name, f"should be a list, of {kind[len(collection) : -1]}")
            return [_one(name, item, kind[len(collection) : -1]) for item in value]
    return _one(name, value, kind)


def _one(name: str, value: Any, kind: str) -> FeatureScalar:
    if kind in _WHOLE:
        return _whole(name, value, kind)
    if kind in ("Float32", "Float64"):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _Wrong(name, "should be a number")
        if not -_LARGEST[kind] <= value <= _LARGEST[kind]:  # which NaN is not either
            raise _Wrong(name, f"should be a finite number, within what {kind} can hold")
        return float(value)
    if kind == "Bool":
        if not isinstance(value, bool):
            raise _Wrong(name, "should be true or false")
        return value
    if kind == "UnixTimestamp":
        try:
            return datetime.fromtimestamp(_moment(name, value), UTC).isoformat()
        except (ValueError, OverflowError):
            raise _Wrong(name, "should be a time between the years 1 and 9999") from None
    if kind == "String":
        if not isinstance(value, str):
            raise _Wrong(name, "should be text")
        return _text(name, value)
    raise _Wrong(name, f"is of the type {kind}, which can't be pushed here: use Feast itself")


def _text(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Wrong(name, "holds half a character (a lone surrogate)") from None
    return value


def _whole(name: str, value: Any, kind: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Wrong(name, "should be a whole number")
    if not -_WHOLE[kind] <= value < _WHOLE[kind]:
        raise _Wrong(name, f"is too large for {kind}")
    return value


def _moment(name: str, value: Any) -> float:
    """Seconds since the epoch, of an ISO 8601 time (UTC where it names no zone) or of such seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 253_402_300_800:
        return float(value)
    try:
        read = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _Wrong(name, "should be a time like 2027-01-31T18:00:00+01:00, or seconds since 1970") from None
    return (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()


def _event_time(value: Any, now: float) -> float:
    if value is None:
        return now
    at = _moment(EVENT_TIME, value)
    if at < 0:
        raise _Wrong(EVENT_TIME, "is before 1970")
    if at > now + _AHEAD:
        raise _Wrong(EVENT_TIME, "is in the future")
    return at
