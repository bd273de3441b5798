"""The lake holds each finished call once; what is erased or past its time goes from its files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lake_calls import DAY, exchange_of, say, store

from gateway.lake import filling
from gateway.lake.lake import Lake
from gateway.lake.manifest import Manifest
from gateway.lake.storage import LakeUnavailable
from gateway.lake.upkeep import Keeping
from gateway.lake.vectors import Sampler
from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.records.feedback import Feedback, FeedbackStore
from gateway.records.quality import Judgement, QualityStore
from gateway.records.retention import Periods
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
def test_judgements_come_too_and_go_with_their_user(
    database: Database, filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = store(database, exchange_of("a", "jo"), exchange_of("a", "max"))
    quality = QualityStore(database, lake=True)
    monkeypatch.setattr("gateway.lake.filling._JUDGED_AFTER", -(10**9))  # as if a minute had passed
    quality.add([Judgement(call, "a", "relevance", 0.5, "e", time.time_ns()) for call in (mine, other)])
    quality.add([Judgement(mine, "a", "relevance", 0.9, "e", time.time_ns())])  # what was judged before stays
    filled.fill()
    assert [row["score"] for row in filled.rows("FROM quality")] == [0.5, 0.5]
    assert filled.catch_up() == 0
    UserRecords(database).erase("a", "jo")
    assert filled.erase() == 2
    assert [row["call_id"] for row in filled.rows("FROM quality")] == [other]


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
