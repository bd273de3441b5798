"""Queries read the tables they are given, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from gateway.lake.query import Queries, WrongQuery


def test_no_folder_is_left_open_for_what_does_not_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB's own default is `.tmp` where it was started, and queries may do there what they like."""
    (tmp_path / ".tmp").mkdir()
    (tmp_path / ".tmp" / "left.csv").write_text("a,b\n1,2\n")
    monkeypatch.chdir(tmp_path)
    for sql in (
        "SELECT * FROM read_csv('.tmp/left.csv')",
        "SELECT * FROM glob('.tmp/*')",
        "COPY calls TO '.tmp/out.csv'",
        "ATTACH '.tmp/out.db'",
    ):
        with pytest.raises(WrongQuery):
            queries().run(sql)
    assert [path.name for path in (tmp_path / ".tmp").iterdir()] == ["left.csv"]


def queries() -> Queries:
    return Queries(lambda: {"calls": ds.dataset(pa.table({"x": [1, 2]}))}, threads=1)


def test_rows_parameters_and_statements() -> None:
    assert queries().run("SELECT sum(x) AS s FROM calls WHERE x > $least", {"least": 1}).to_pylist() == [{"s": 2}]
    assert queries().run("CREATE TABLE t AS FROM calls; SELECT count(*) AS n FROM t").to_pylist() == [{"n": 2}]
    assert queries().run("CREATE TABLE t (y INT)").num_rows == 0
    assert queries().run("SELECT '{\"a\": 1}'::JSON ->> 'a' AS a").to_pylist() == [{"a": "1"}]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM read_parquet('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM glob('/etc/*')",
        "COPY calls TO '{file}.csv'",
        "ATTACH '{file}.db'",
        "EXPORT DATABASE '{file}.d'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM 'https://example.com/x.parquet'",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET memory_limit = '100GB'",
        "CREATE PERSISTENT SECRET s (TYPE s3)",
        "SELECT getenv('HOME')",
        "SELECT * FROM pa",
        "SELEKT 1",
    ],
)
def test_nothing_else_can_be_read_or_written(sql: str, tmp_path: Path) -> None:
    file = tmp_path / "secret.txt"
    file.write_text("canary")
    with pytest.raises(WrongQuery) as failure:
        queries().run(sql.replace("{file}", str(file)))
    assert "canary" not in str(failure.value)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.txt"]


def test_a_file_that_was_merged_meanwhile_is_asked_for_again(tmp_path: Path) -> None:
    schema, looks = pa.schema([("x", pa.int64())]), 0

    def look() -> dict[str, ds.Dataset]:
        """The first one sees a file that goes before it is read."""
        nonlocal looks
        looks += 1
        path = tmp_path / f"{looks}.parquet"
        pq.write_table(pa.table({"x": [looks]}), path)
        found = ds.dataset([str(path)], schema=schema, format="parquet")
        if looks == 1:
            path.unlink()
        return {"calls": found}

    assert Queries(look).run("SELECT x FROM calls").to_pylist() == [{"x": 2}]


def test_a_file_that_is_gone_for_good_is_told_as_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "calls.parquet"
    pq.write_table(pa.table({"x": [1, 2]}), file)
    found = ds.dataset([str(file)], schema=pa.schema({"x": pa.int64()}), format="parquet")
    file.unlink()
    with pytest.raises(WrongQuery, match="start the gateway"):
        Queries(lambda: {"calls": found}, threads=1).run("FROM calls")
