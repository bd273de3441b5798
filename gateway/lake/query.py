"""SQL over the lake with DuckDB, which can read the lake's tables and nothing else: no file, no network, no extension.

https://duckdb.org/docs/stable/operations_manual/securing_duckdb/overview
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

_TRIES = 3
_GONE = (
    "files of the lake are gone that the record store knows of: start the gateway, whose log says what was written anew, "
    "or what else to do"
)

# The tables come as pyarrow's datasets, so that DuckDB needs no access to the file system or to an object store.
_LOCKED: dict[str, Any] = {
    "enable_external_access": "false",
    "allow_community_extensions": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "allow_persistent_secrets": "false",
    "memory_limit": "2GB",
    # A folder for what does not fit into memory would be one that queries may read and write, whatever stands above.
    "temp_directory": "",
}


class WrongQuery(ValueError):
    """The SQL can't be done; the message is DuckDB's."""


class Queries:
    """Blocking. `look` gives the lake's tables as they are now; it may raise."""

    def __init__(self, look: Callable[[], Mapping[str, ds.Dataset]], *, threads: int | None = None) -> None:
        self._look = look
        self._threads = threads

    def run(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """The rows of the last statement. Raises WrongQuery, and whatever `look` raises.

        A file that was merged with others meanwhile is no longer there: then it is asked again.
        """
        for last in range(_TRIES, 0, -1):
            try:
                with self._connected() as connection:
                    found = connection.sql(sql, params=dict(parameters) if parameters else None)
                    return pa.table({}) if found is None else found.to_arrow_table()
            except (duckdb.Error, pa.ArrowException, OSError) as fault:
                if not (isinstance(fault, FileNotFoundError) or "No such file" in str(fault)):
                    raise WrongQuery(str(fault)) from None
                if last == 1:
                    raise WrongQuery(_GONE) from None
        raise AssertionError("the last try returns or raises")

    def _connected(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect(":memory:", config=_LOCKED)
        for name, dataset in self._look().items():
            connection.register(name, dataset)
        if self._threads is not None:
            connection.execute(f"SET threads = {self._threads:d}")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET lock_configuration = true")
        return connection
