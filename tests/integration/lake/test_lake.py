"""The lake holds each finished call once; what is erased or past its time goes from its files."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lake_calls import DAY, exchange_of, say, store
from postgres_process import PostgresProcess

from gateway.lake import filling
from gateway.lake.adopting import Adopted, adopt
from gateway.lake.filling import Filling
from gateway.lake.lake import Lake
from gateway.lake.manifest import LeaseLost, Manifest
from gateway.lake.rewrapping import rewrap_lake
from gateway.lake.schema import TABLES
from gateway.lake.signals import Signals
from gateway.lake.storage import LakeUnavailable, Storage
from gateway.lake.upkeep import Keeping
from gateway.lake.vectors import Sampler
from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.records.feedback import Feedback, FeedbackStore
from gateway.records.quality import Judgement, QualityStore
from gateway.records.retention import Periods
from gateway.records.rewrapping import Rewrapped
from gateway.records.rows import place_of
from gateway.records.sealing import Seal
from gateway.records.users import UserRecords
from gateway.values import Usage

from .conftest import Filled

both = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


@both
def test_calls_come_once_each_in_partitions(database: Database, filled: Filled) -> None:
    old = store(database, *(exchange_of("a", age=3 * DAY) for _ in range(3)))
    new = store(database, exchange_of("a/../b", "jo", usage=Usage(7, 5), cost=0.25), exchange_of("a"))

    assert filled.fill() == 5
    assert filled.fill() == 0
    assert filled.ids() == sorted(old + new)
    assert sorted(row["call_id"] for row in filled.globbed()) == sorted(old + new)
    (call,) = filled.rows("SELECT * FROM calls WHERE tenant = 'a/../b'")
    assert (call["call_id"], call["user"], call["prompt_tokens"], call["cost"]) == (new[0], "jo", 7, 0.25)
    assert call["date"] == call["started_at"].date()
    assert len({file.path.rsplit("/", 1)[0] for file in filled.manifest.live()}) == 3


@both
def test_what_was_recorded_before_there_was_a_lake_comes_too(database: Database, filled: Filled) -> None:
    before = store(database, *(exchange_of("a", age=age * DAY) for age in (0, 1, 1)), lake=False)
    FeedbackStore(database).add(Feedback(before[0], "a", score=1.0))
    told = store(database, exchange_of("a"))

    assert filled.catch_up() == 4
    filled.fill()
    assert filled.ids() == sorted(before + told)
    assert filled.catch_up() == 0
    assert [row["score"] for row in filled.rows("SELECT score FROM feedback")] == [1.0]


@both
def test_judgements_come_too_and_go_with_their_user(database: Database, filled: Filled) -> None:
    mine, other = store(database, exchange_of("a", "jo"), exchange_of("a", "max"))
    quality = QualityStore(database, lake=True)
    quality.add([Judgement(call, "a", "relevance", 0.5, "e", time.time_ns()) for call in (mine, other)])
    quality.add([Judgement(mine, "a", "relevance", 0.9, "e", time.time_ns())])  # what was judged before stays
    filled.fill()
    assert [row["score"] for row in filled.rows("FROM quality")] == [0.5, 0.5]
    assert filled.catch_up() == 0
    UserRecords(database).erase("a", "jo")
    assert filled.erase() == 2
    assert [row["call_id"] for row in filled.rows("FROM quality")] == [other]


@both
def test_what_is_told_of_a_call_after_its_user_was_erased_goes_too(database: Database, filled: Filled) -> None:
    """The call's record was still on its way, and so the erasure is about a time before what was said and judged."""
    records = UserRecords(database)
    (known,) = store(database, exchange_of("a", "jo", age=60))
    records.erase("a", "jo")
    records.keep_receipt("a", "jo", {}, {})
    (late,) = store(database, exchange_of("a", "jo", age=30))
    (again,) = store(database, exchange_of("a", "jo", age=-1))
    filled.keep_contents = True
    for made_for in (known, again):  # as a judge's own call, which began when the user was erased
        own = exchange_of("a", "jo", age=-1, made_for=("quality", made_for), **say("Is it good?", "4"))
        own.call_id = f"call_ffffffffffff{made_for[-20:]}"
        store(database, own)
    quality, feedback = QualityStore(database, lake=True), FeedbackStore(database, lake=True)
    for call in (known, late, again):
        quality.add([Judgement(call, "a", "relevance", 0.5, "e", time.time_ns())])
    for call in (late, again):
        feedback.add(Feedback(call, "a", "max", score=0.5))
    filled.fill()
    assert {row["call_id"] for row in filled.rows("FROM quality")} == {late, again}

    records.erase_late()
    filled.erase()
    for table in ("quality", "feedback"):
        assert [row["call_id"] for row in filled.rows(f"FROM {table}")] == [again]
    assert filled.ids() == [again, f"call_ffffffffffff{again[-20:]}"]
    assert [row["call_id"] for row in filled.rows("FROM contents")] == [f"call_ffffffffffff{again[-20:]}"]
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM calls").scalar_one() == 2
    assert late not in filled.everything()
    assert filled.catch_up() == 0


def test_files_of_an_older_version_are_read_and_erased_from(
    database: Database, filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = store(database, exchange_of("a", "jo"), exchange_of("a", "max"))
    for call in (mine, other):
        FeedbackStore(database, lake=True).add(Feedback(call, "a", None, score=0.5))
    with monkeypatch.context() as older:
        without = tuple(one for one in TABLES["feedback"].columns if one.name != "call_started_at")
        older.setitem(TABLES, "feedback", replace(TABLES["feedback"], columns=without))
        filled.fill()
    assert {row["call_started_at"] for row in filled.rows("FROM feedback")} == {None}
    UserRecords(database).erase("a", "jo")
    assert filled.erase() == 2
    assert [row["call_id"] for row in filled.rows("FROM feedback")] == [other]


def test_files_that_are_gone_are_written_again(database: Database, filled: Filled) -> None:
    ids = store(database, *(exchange_of("a", age=age * DAY) for age in (0, 1, 2)))
    filled.fill()
    Path(filled.storage.full(filled.manifest.live()[0].path)).unlink()
    stray = Path(filled.storage.full(filled.manifest.live()[1].path)).with_name(f"calls-{'0' * 32}.parquet")
    stray.write_bytes(b"half a file of a process that was killed")

    assert filled.lake.open()
    filled.catch_up()
    filled.fill()
    assert filled.ids() == sorted(ids)
    assert not stray.exists()


def test_small_files_are_merged_and_nothing_is_lost(database: Database, filled: Filled) -> None:
    ids = []
    for _ in range(9):
        ids += store(database, exchange_of("a"), exchange_of("b", age=2 * DAY))
        filled.fill()
    assert len(filled.manifest.live()) == 18

    assert filled.compact() == 18
    assert len(filled.manifest.live()) == 2
    assert filled.compact() == 0
    assert filled.ids() == sorted(ids)
    assert sorted(row["call_id"] for row in filled.globbed()) == sorted(ids)


@both
def test_an_erased_user_goes_from_every_file(database: Database, filled: Filled) -> None:
    filled.keep_contents = True
    mine = store(database, *(exchange_of("a", "jo", age=age * DAY, **say("Where is Jo?", "Here.")) for age in (0, 5)))
    others = store(database, exchange_of("a", "max", **say("And Max?", "There.")), exchange_of("b", "jo"))
    feedback = FeedbackStore(database, lake=True)
    feedback.add(Feedback(mine[0], "a", "max", score=0.0))
    feedback.add(Feedback(others[0], "a", "jo", score=1.0))
    feedback.add(Feedback(others[0], "a", "max", score=0.5))
    filled.fill()
    assert len(filled.rows("SELECT * FROM contents")) == 3

    UserRecords(database).erase("a", "jo")
    late = store(database, exchange_of("a", "jo"))  # whatever the user does afterwards is new
    filled.fill()
    assert filled.erase() == 6
    assert filled.ids() == sorted(others + late)
    assert [row["score"] for row in filled.rows("SELECT * FROM feedback")] == [0.5]
    assert len(filled.rows("SELECT * FROM contents")) == 1
    assert mine[0] not in filled.everything()
    assert "Jo?" not in filled.everything()
    assert filled.erase() == 0


def test_a_clock_that_was_set_back_saves_no_row_from_an_erasure(database: Database, filled: Filled) -> None:
    (mine,) = store(database, exchange_of("a", "jo", age=-3 * 3600))  # by a clock that was hours fast
    FeedbackStore(database, lake=True).add(Feedback(mine, "a", "jo", score=0.5))
    filled.fill()
    UserRecords(database).erase("a", "jo")
    assert filled.erase() == 2
    assert (filled.ids(), filled.rows("SELECT * FROM feedback")) == ([], [])


def test_a_file_that_could_not_be_removed_is_before_the_erasure_is_done(
    database: Database, filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are gone from the lake with the transaction; the file that had them is only then."""
    store(database, exchange_of("a", "jo-canary"), exchange_of("a", "max"))
    filled.fill()
    UserRecords(database).erase("a", "jo-canary")
    with monkeypatch.context() as away:
        away.setattr(filled.storage, "remove", _refuse)
        with pytest.raises(LakeUnavailable):
            filled.erase()
        assert UserRecords(database).lake_waits()
    filled.erase()
    assert not UserRecords(database).lake_waits()
    assert "jo-canary" not in filled.everything()


def _refuse(path: str) -> None:
    raise LakeUnavailable("the lake's storage: Access Denied")


def test_a_damaged_file_holds_up_no_other(database: Database, filled: Filled, caplog: pytest.LogCaptureFixture) -> None:
    store(database, exchange_of("a", "jo", age=3 * DAY))
    filled.fill()
    (damaged,) = filled.manifest.live("calls")
    Path(filled.storage.full(damaged.path)).write_bytes(b"PAR1, and then a disk that fails. PAR1")
    others = store(database, exchange_of("a", "max"), exchange_of("b", "jo"))
    filled.fill()
    UserRecords(database).erase("a", "jo")
    UserRecords(database).erase("b", "jo")
    for _ in range(3):
        filled.erase()
    filled.compact()
    assert [record.levelname for record in caplog.records if damaged.path in record.getMessage()] == ["ERROR"]
    assert "start the gateway again" in caplog.text
    assert UserRecords(database).lake_waits(), "nobody knows whose rows are in it"
    Path(filled.storage.full(damaged.path)).unlink()
    assert filled.lake.open()
    filled.catch_up()
    filled.fill()
    filled.erase()
    assert not UserRecords(database).lake_waits()
    assert filled.ids() == others[:1]


def test_calls_of_megabytes_are_taken_a_few_at_a_time(
    database: Database, filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[int] = []
    take = filling.Filling._take_calls

    def counted(self: filling.Filling, batch: Any, ids: Sequence[str]) -> None:
        pages.append(len(ids))
        take(self, batch, ids)

    monkeypatch.setattr(filling.Filling, "_take_calls", counted)
    monkeypatch.setattr(filling, "_PAGE_BYTES", 12_000)
    monkeypatch.setattr(filling, "_MOST_BYTES", 30_000)
    filled.keep_contents = True
    ids = store(database, *(exchange_of("a", **say("x" * (5_000 if n else 50_000), "Yes.")) for n in range(12)))
    assert filled.fill() == 12
    assert max(pages) == 2
    assert filled.ids() == sorted(ids)
    assert len(filled.rows("SELECT * FROM contents")) == 12


@both
def test_without_a_lake_an_erasure_leaves_no_name_behind(database: Database) -> None:
    store(database, exchange_of("a", "jo"), lake=False)
    UserRecords(database).erase("a", "jo")
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM lake_queue").scalar_one() == 0


def test_what_is_past_its_time_goes(database: Database, filled: Filled) -> None:
    filled.keep_contents = True
    kept = say("What?", "That.")
    ages = (0.5, 1.5, 5, 40)
    ids = store(database, *(exchange_of("a", age=age * DAY, **kept) for age in ages))
    other = store(database, exchange_of("forever", age=40 * DAY, **kept))
    filled.fill()
    filled.compact()

    def periods(tenant: str) -> Periods:
        return Periods() if tenant == "forever" else Periods(30 * DAY, 1 * DAY)

    assert Keeping(filled.lake, lambda: periods).run() == 1 + 3
    assert filled.ids() == sorted([*ids[:3], *other])
    with_content = {row["call_id"] for row in filled.rows("SELECT call_id FROM contents")}
    assert with_content == {ids[0], *other}
    assert Keeping(filled.lake, lambda: periods).run() == 0


def test_a_damaged_file_keeps_no_other_beyond_its_time(
    database: Database, filled: Filled, caplog: pytest.LogCaptureFixture
) -> None:
    noon = time.time() % DAY - DAY / 2 + 10 * DAY  # seconds since then, ten days ago
    for tenant in ("a", "b"):
        store(database, *(exchange_of(tenant, age=noon + hours * 3600) for hours in (3, -3)))
    filled.fill()
    damaged, other = filled.manifest.live("calls")
    Path(filled.storage.full(damaged.path)).write_bytes(b"PAR1, and then a disk that fails. PAR1")
    assert Keeping(filled.lake, lambda: lambda tenant: Periods(noon)).run() == 1
    assert damaged.path in caplog.text
    assert other.path not in [file.path for file in filled.manifest.live()], "it was written anew"
    assert Keeping(filled.lake, lambda: lambda tenant: Periods(DAY)).run() == 2 + 1


def test_content_comes_only_where_it_is_asked_for_and_sealed_where_the_store_seals(
    database: Database, filled: Filled
) -> None:
    contents = Contents(Seal([b"k" * 32]))
    facts = say("My canary question, please?", "I'm sorry, I can't help with the canary.")
    store(database, exchange_of("a", **facts), contents=contents)
    filled.contents = contents
    filled.fill()
    assert "canary" not in filled.everything()
    assert filled.rows("SELECT * FROM contents") == []
    (call,) = filled.rows("SELECT question_chars, answer_chars, refused FROM calls")
    assert call == {"question_chars": 27, "answer_chars": 40, "refused": True}

    filled.keep_contents = True
    store(database, exchange_of("a", **facts), contents=contents)
    filled.fill()
    (row,) = filled.rows("SELECT * FROM contents")
    assert row["sealed"] is True
    assert "canary" not in filled.everything()


@both
def test_a_second_process_waits_for_the_first(database: Database, filled: Filled, tmp_path: Path) -> None:
    other = Lake(filled.storage, Manifest(database))
    assert not other.open()
    filled.manifest.release()
    assert other.open()
    assert not filled.lake.open()


def test_who_takes_long_stays_the_one_who_fills_it(
    database: Database, filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that take longer than the lease would each lose it to the other, and none would ever end its work."""

    class Clock:
        passed = 0.0

        def time(self) -> float:
            return time.time() + self.passed

        def monotonic(self) -> float:
            return time.monotonic() + self.passed

    clock = Clock()
    monkeypatch.setattr("gateway.lake.manifest.time", clock)
    monkeypatch.setattr(filling, "_PAGE", 1)
    take, rival, taken = filling.Filling._take_calls, Manifest(database, "rival"), []

    def slowly(self: filling.Filling, batch: Any, ids: Sequence[str]) -> None:
        take(self, batch, ids)
        clock.passed += 25.0
        taken.append(rival.take(filled.url))

    monkeypatch.setattr(filling.Filling, "_take_calls", slowly)
    ids = store(database, *(exchange_of("a") for _ in range(6)))
    assert filled.fill() == 6
    assert taken == [None] * 6
    assert filled.ids() == sorted(ids)


def test_an_embedder_that_hangs_is_asked_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def hanging(texts: Sequence[str]) -> list[list[float]]:
        nonlocal asked
        asked += 1
        raise TimeoutError

    sampler = Sampler(1.0, "m", hanging)
    assert [sampler.vectors(["x"]) for _ in range(5)] == [[]] * 5
    assert asked == 1
    monkeypatch.setattr("gateway.lake.vectors._PAUSE", 0.0)
    sampler._again = 0.0
    sampler.vectors(["x"])
    sampler.vectors(["x"])
    assert asked == 3


def test_a_folder_of_another_store_is_left_alone(database: Database, filled: Filled, tmp_path: Path) -> None:
    store(database, exchange_of("a"))
    filled.fill()
    stranger = Database(f"sqlite:///{tmp_path / 'stranger.db'}")
    stranger.upgrade()
    with pytest.raises(LakeUnavailable, match="another record store"):
        Filled(stranger, filled.url)
    stranger.close()
    assert len(filled.globbed()) == 1


def test_a_wrong_address_costs_a_lake_nothing(database: Database, filled: Filled, tmp_path: Path) -> None:
    ids = store(database, exchange_of("a"))
    filled.fill()
    stranger = Database(f"sqlite:///{tmp_path / 'stranger.db'}")
    stranger.upgrade()
    theirs = Filled(stranger, (tmp_path / "theirs").as_uri())
    with pytest.raises(LakeUnavailable, match="another record store"):
        Lake(theirs.storage, filled.manifest).open()
    stranger.close()
    assert filled.lake.open(), "at the right one it goes on"
    assert filled.ids() == ids


def test_a_store_that_was_restored_from_a_backup_removes_no_newer_file(
    database: Database, filled: Filled, tmp_path: Path
) -> None:
    filled.keep_contents = True
    before = store(database, exchange_of("a", "jo", **say("What?", "That.")), exchange_of("b"))
    filled.fill()
    waiting = store(database, exchange_of("a"))  # known to both, and in the lake after the backup
    restored = backup(database, tmp_path / "restored.db")
    for _ in range(9):
        after = store(database, exchange_of("a", "jo", **say("And?", "So.")))
        FeedbackStore(database, lake=True).add(Feedback(after[0], "a", score=1.0))
        QualityStore(database, lake=True).add([Judgement(after[0], "a", "relevance", 0.5, "e", time.time_ns())])
        before += after
        filled.fill()
    filled.compact()
    whole = {table: sorted(map(repr, filled.rows(f"FROM {table}"))) for table in TABLES}
    files = sorted(filled.storage.listed())
    filled.manifest.release()
    since = store(restored, exchange_of("a"))
    FeedbackStore(restored, lake=True).add(Feedback(since[0], "a", score=0.0))  # numbered like one that was lost

    lake = Lake(filled.storage, Manifest(restored, filled.manifest.holder))  # or it would wait for the lease to end
    for _ in range(2):
        with pytest.raises(LakeUnavailable, match="restored from a backup.*db adopt-lake"):
            lake.open()
    assert sorted(filled.storage.listed()) == files

    known = 1  # of one row: the call of b
    rows = sum(len(found) for found in whole.values())
    assert adopt(restored, lake) == Adopted(len(files) - 1 - known, rows - known, 0, 2)
    assert adopt(restored, lake) == Adopted(0, 0, 0, 2), "safe to repeat"
    anew = Filled(restored, filled.url, keep_contents=True)
    anew.fill()
    assert anew.ids() == sorted(before + waiting + since)
    assert sorted(row["score"] for row in anew.rows("FROM feedback")) == [0.0, *[1.0] * 9]
    for table in ("contents", "quality"):
        assert sorted(map(repr, anew.rows(f"FROM {table}"))) == whole[table]
    UserRecords(restored).erase("a", "jo")
    assert anew.erase() == 10 + 10 + 9 + 9, "calls, contents, and what was said and judged of them"
    restored.close()


def backup(database: Database, file: Path) -> Database:
    """A copy of it as it is now."""
    with contextlib.closing(database._engine.raw_connection()) as source, sqlite3.connect(file) as target:
        source.driver_connection.backup(target)
    target.close()
    made = Database(f"sqlite:///{file}")
    made.prepare()
    return made


@both
def test_a_new_store_can_go_on_with_an_old_lake(
    database: Database, filled: Filled, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ids = store(database, exchange_of("a/b", "jo"), exchange_of("c", age=3 * DAY))
    filled.fill()
    (file,) = filled.manifest.live("calls", "c")
    path = Path(filled.storage.full(file.path))
    path.with_name(f"calls-{'e' * 32}.parquet").write_bytes(path.read_bytes())  # as if it had been merged just then
    new = url_of_another(database, request, tmp_path)
    new.upgrade()
    kept = store(new, exchange_of("a/b", "max"))
    with pytest.raises(LakeUnavailable, match="another record store"):
        Filled(new, filled.url)

    lake = Lake(Storage(filled.url), Manifest(new))
    assert adopt(new, lake) == Adopted(3, 3, 1, 1)
    anew = Filled(new, filled.url)
    anew.fill()
    assert anew.ids() == sorted(ids + kept)
    assert {file.tenant for file in anew.manifest.live()} == {"a/b", "c"}
    UserRecords(new).erase("a/b", "jo")
    anew.erase()
    assert anew.ids() == sorted(ids[1:] + kept)
    with pytest.raises(LakeUnavailable, match="no lake"):
        adopt(new, Lake(Storage((tmp_path / "nowhere").as_uri()), Manifest(new)))
    new.close()


def url_of_another(database: Database, request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if database.embedded:
        return Database(f"sqlite:///{tmp_path / 'another.db'}")
    server: PostgresProcess = request.getfixturevalue("postgres_server")
    return Database(server.database())


def test_two_stores_that_fill_one_lake_find_out(database: Database, filled: Filled, tmp_path: Path) -> None:
    """One is a copy of the other, and so is as far."""
    store(database, exchange_of("a"))
    filled.fill()
    copy = backup(database, tmp_path / "copy.db")
    filled.manifest.release()
    copied = Lake(Storage(filled.url), Manifest(copy, filled.manifest.holder))
    assert copied.open()
    ids = store(database, exchange_of("a"))
    filled.lake.open()
    filled.fill()
    store(copy, exchange_of("a"))
    with pytest.raises(LakeUnavailable, match="a copy of the one that fills this lake"):
        Filling(copy, copied, Contents(), Signals()).step()
    copy.close()
    assert set(ids) <= set(filled.ids())


def test_a_folder_that_has_lost_its_mark_is_left_alone_where_a_file_of_it_is_unknown(
    database: Database, filled: Filled
) -> None:
    ids = store(database, exchange_of("a"))
    filled.fill()
    mark = Path(filled.storage.root) / "_lake.json"
    mark.unlink()
    assert filled.lake.open()
    assert mark.exists()
    (file,) = filled.manifest.live("calls")
    stray = Path(filled.storage.full(file.path)).with_name(f"calls-{'0' * 32}.parquet")
    stray.write_bytes(Path(filled.storage.full(file.path)).read_bytes())
    mark.unlink()
    with pytest.raises(LakeUnavailable, match="no _lake.json"):
        filled.lake.open()
    assert stray.exists()
    assert adopt(database, filled.lake) == Adopted(1, 1, 1, 0)
    assert filled.lake.open()
    assert filled.ids() == ids


def test_after_a_rotation_the_lake_s_contents_are_under_the_first_key_too(
    database: Database, filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = b"o" * 32, b"n" * 32
    filled.keep_contents = True
    calls = []
    for seal in (None, Seal([old]), Seal([b"x" * 32])):
        filled.contents = Contents(seal)
        calls += store(database, exchange_of("a", **say("Canary?", "Yes.")), contents=filled.contents)
        filled.fill()
    other = Lake(Storage(filled.url), Manifest(database))
    rotated = Contents(Seal([new, old]))

    with monkeypatch.context() as broken:
        broken.setattr(Lake, "commit", lambda *given: (_ for _ in ()).throw(LakeUnavailable("the disk is full")))
        with pytest.raises(LakeUnavailable):
            rewrap_lake(other, rotated)
    assert len(filled.rows("FROM contents")) == 3, "none is lost"
    assert rewrap_lake(other, rotated) == Rewrapped(2, 1)
    assert rewrap_lake(other, rotated) == Rewrapped(0, 1)
    assert "Canary" not in filled.everything()
    after = Contents(Seal([new]))
    rows = {row["call_id"]: row for row in filled.rows("FROM contents")}
    assert [after.read(rows[call]["content"], place_of(call)) is not None for call in calls] == [True, True, False]
    assert all(row["sealed"] for row in rows.values())

    store(database, exchange_of("a"))
    assert filled.lake.open(), "who was interrupted goes on"
    assert filled.fill() == 1
    assert len(filled.ids()) == 4


def test_who_fills_the_lake_finds_out_that_another_does(database: Database, filled: Filled) -> None:
    store(database, exchange_of("a"))
    other = Lake(Storage(filled.url), Manifest(database))
    assert other.open(by_force=True)
    with pytest.raises(LeaseLost):
        filled.fill()
    assert not filled.lake.open()
    other.manifest.release()
    assert filled.lake.open()
    assert filled.fill() == 1


@pytest.mark.parametrize("mark", ["", "[]", "{}", "\x00" * 20])
def test_a_folder_that_does_not_say_whose_it_is_is_left_alone(filled: Filled, mark: str) -> None:
    (Path(filled.storage.root) / "_lake.json").write_text(mark)
    with pytest.raises(LakeUnavailable, match="can't be read"):
        filled.lake.open()


def test_a_share_of_recorded_questions_becomes_vectors(database: Database, filled: Filled) -> None:
    asked: list[str] = []

    def embed(texts: Sequence[str]) -> list[list[float]]:
        asked.extend(texts)
        return [[float(len(text)), 0.5] for text in texts]

    said = [exchange_of("a", "jo", **say(f"Question {number}?", "So.")) for number in range(40)]
    store(database, *said, exchange_of("a", "jo"))
    filled.fill(sampler=Sampler(0.5, "small", embed))
    assert 5 < len(asked) < 35
    assert len(set(asked)) == len(asked)
    vectors = filled.rows("FROM vectors")
    assert sorted(row["vector"][0] for row in vectors) == sorted(float(len(text)) for text in asked)
    assert {(row["embedder"], row["model"], row["user"]) for row in vectors} == {("small", "handbook", "jo")}
    UserRecords(database).erase("a", "jo")
    filled.erase()
    assert filled.rows("FROM vectors") == []


def test_an_embedder_that_is_away_holds_up_no_row(database: Database, filled: Filled) -> None:
    def away(texts: Sequence[str]) -> list[list[float]]:
        raise ConnectionError

    (call,) = store(database, exchange_of("a", **say("What?", "That.")))
    assert filled.fill(sampler=Sampler(1.0, "small", away)) == 1
    assert filled.ids() == [call]
    assert filled.rows("FROM vectors") == []
