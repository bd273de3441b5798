"""The spool: whole records or none, in their order, once, wherever a process is killed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.records.drain import Drain
from gateway.records.ledger import Entry
from gateway.records.segments import Record, frames_bytes, header_bytes, read_header
from gateway.records.spool import Spool, abandoned

COLUMNS = ("call_id", "model")


def numbered(first: int, count: int) -> list[Record]:
    return [(number, b"record %d" % number * (number % 3 + 1), None) for number in range(first, first + count)]


def drained(spool: Spool) -> list[Record]:
    records: list[Record] = []
    while (batch := spool.read(3)) is not None:
        records += batch.records
        spool.done(batch)
    return records


def killed(spool: Spool) -> Path:
    """What is left of a process that is gone: its folder, and no lock on it."""
    descriptors = [spool._held, *(segment.descriptor for segment in spool._segments)]
    for descriptor in descriptors:
        with contextlib.suppress(OSError, TypeError):  # closed by itself before; not open
            os.close(descriptor)  # type: ignore[arg-type]  # None is not open
    return spool.folder


def test_records_come_out_in_their_order_and_the_disk_is_given_back(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path / "spool", COLUMNS, 200)
    records = numbered(1, 50)
    for at in range(0, 50, 5):
        spool.append(records[at : at + 5], records[at][0], sync=at % 2 == 0)
    assert len(list(spool.folder.iterdir())) > 5
    assert drained(spool) == records
    assert len(list(spool.folder.iterdir())) == 1
    assert spool.close()
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_is_not_done_is_read_again(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, COLUMNS)
    spool.append(numbered(1, 4), 1, sync=False)
    first, again = spool.read(2), spool.read(2)
    assert first == again
    assert first is not None
    assert first.columns == COLUMNS
    spool.done(first)
    rest = spool.read(9)
    assert rest is not None
    assert rest.records == numbered(3, 2)
    spool.close()


def test_a_living_process_keeps_its_spool_and_a_dead_ones_is_adopted_once(tmp_path: Path) -> None:
    spool, own = Spool.create(tmp_path, COLUMNS), Spool.create(tmp_path, COLUMNS)
    spool.append(numbered(1, 2), 1, sync=False)
    assert list(abandoned(tmp_path, own.id)) == []
    killed(spool)
    (adopted,) = abandoned(tmp_path, own.id)
    assert list(abandoned(tmp_path, own.id)) == []
    assert drained(adopted) == numbered(1, 2)
    assert adopted.close()
    assert own.close()


def test_a_tail_torn_at_any_byte_is_cut_and_all_before_it_read(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path / "made", COLUMNS)
    records = numbered(1, 4)
    ends = []
    for record in records:
        spool.append([record], record[0], sync=False)
        ends.append(spool.size)
    file = next(killed(spool).iterdir())
    whole = file.read_bytes()
    for length in range(len(whole) + 1):
        folder = tmp_path / "torn" / spool.id
        folder.mkdir(parents=True)
        (folder / file.name).write_bytes(whole[:length])
        adopted = Spool.adopt(folder)
        assert adopted is not None
        assert drained(adopted) == records[: sum(end <= length for end in ends)]
        assert adopted.close()


def test_every_damaged_byte_is_found_and_nothing_after_it_believed(tmp_path: Path) -> None:
    name = "ab" * 16
    head = header_bytes(name, 1, COLUMNS)
    records = numbered(1, 3)
    whole = head + frames_bytes(records)
    assert read_header(whole) is not None
    for at in range(len(whole)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{1:020d}.log").write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        adopted = Spool.adopt(folder)
        assert adopted is not None
        read = drained(adopted)
        assert read == records[: len(read)]
        assert len(read) < 3
        adopted.close()


def test_a_damaged_segment_is_kept_and_those_after_it_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool.create(tmp_path, COLUMNS, 60)
    for record in numbered(1, 3):
        spool.append([record], record[0], sync=False)
    folder = killed(spool)
    first, *_ = sorted(folder.iterdir())
    first.write_bytes(first.read_bytes()[:-1] + b"?")
    adopted = Spool.adopt(folder)
    assert adopted is not None
    assert drained(adopted) == numbered(2, 2)
    adopted.close()
    (kept,) = tmp_path.iterdir()
    assert kept.name.startswith("damaged-")
    assert "can't be read" in caplog.text


def test_a_record_larger_than_what_is_read_at_once(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, COLUMNS)
    large, small = (1, os.urandom(2_500_000), None), (2, b"small", None)
    spool.append([large, small], 1, sync=False)
    assert drained(spool) == [large, small]
    spool.close()


def test_a_folder_that_somebody_deleted_does_not_stop_the_reader(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool.create(tmp_path, COLUMNS)
    spool.append(numbered(1, 2), 1, sync=False)
    spool.append(numbered(3, 4), 3, sync=False)
    shutil.rmtree(spool.folder)
    assert drained(spool) == numbered(1, 2)  # these are at hand; of the others it takes three at a time, from the disk
    assert "nobody may delete a spool" in caplog.text
    with pytest.raises(FileNotFoundError):
        spool.append(numbered(7, 1), 7, sync=False)
    spool.close()


def test_what_was_just_written_is_not_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool.create(tmp_path, COLUMNS, 200)
    monkeypatch.delattr(os, "pread")
    for number in range(1, 31, 2):
        spool.append(numbered(number, 2), number, sync=False)
    assert drained(spool) == numbered(1, 30)
    spool.append(numbered(31, 1), 31, sync=False)
    assert spool.read(3) is not None
    with pytest.raises(AttributeError):
        spool.read(3)  # it was not stored, and is at hand no more
    spool.close()


def test_what_nobody_reads_is_at_hand_only_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.records.spool._AT_HAND", 500)
    spool = Spool.create(tmp_path, COLUMNS, 300)
    for number in range(1, 100):
        spool.append(numbered(number, 1), number, sync=False)
        assert sum(len(written.records) for written in spool._at_hand) < 20
    assert drained(spool) == numbered(1, 99)
    spool.close()


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.one_of(st.integers(1, 6), st.tuples(st.integers(1, 9), st.booleans())), min_size=1, max_size=40),
    at_hand=st.sampled_from([0, 60, 200, 10_000]),
    segment=st.sampled_from([150, 400, 10_000]),
)
def test_at_hand_or_not_records_come_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[int | tuple[int, bool]],
    at_hand: int,
    segment: int,
) -> None:
    """A step appends so many records; or reads so many, and says that they are stored or does not."""
    folder = tmp_path_factory.mktemp("spool")
    stored: list[Record] = []
    number = 1
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("gateway.records.spool._AT_HAND", at_hand)
        spool = Spool.create(folder, COLUMNS, segment)
        for step in steps:
            if isinstance(step, int):
                spool.append(numbered(number, step), number, sync=False)
                number += step
            elif (batch := spool.read(step[0])) is not None:
                assert len(batch.records) <= step[0]
                assert list(batch.records) == numbered(len(stored) + 1, len(batch.records))
                if step[1]:
                    stored += batch.records
                    spool.done(batch)
        assert stored + drained(spool) == numbered(1, number - 1)
        spool.close()
    shutil.rmtree(folder)


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_of_a_write_that_failed_nothing_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    spool = Spool.create(tmp_path, COLUMNS)
    spool.append(numbered(1, 2), 1, sync=True)
    real, tries = os.pwrite, iter(range(9))

    def full(*given: Any) -> int:
        if call == "pwrite" and next(tries) < 2:
            return real(given[0], given[1][:5], given[2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(os, call, full)
        spool.append(numbered(3, 2), 3, sync=True)
    assert drained(spool) == numbered(1, 2)
    spool.append(numbered(3, 2), 3, sync=True)
    assert drained(spool) == numbered(3, 2)
    assert spool.close()


def test_a_segment_without_a_record_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    """To append nothing is how a disk that was full is tried."""
    spool = Spool.create(tmp_path / "spool", COLUMNS, 200)
    large: list[Record] = [(1, b"x" * 500, None), (2, b"y" * 500, None)]
    spool.append([], 1, sync=True)
    spool.append(large[:1], 1, sync=True)
    assert drained(spool) == large[:1]
    spool.append([], 2, sync=True)
    spool.append(large[1:], 2, sync=True)
    adopted = Spool.adopt(killed(spool))
    assert adopted is not None
    assert drained(adopted)[-1:] == large[1:]
    assert adopted.close()


def test_the_open_segment_goes_when_all_of_it_is_stored(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, COLUMNS)
    spool.append(numbered(1, 2), 1, sync=False)
    spool.shrink()
    assert spool.size > 0
    drained(spool)
    spool.shrink()
    assert (spool.size, list(spool.folder.iterdir())) == (0, [])
    spool.append(numbered(3, 1), 3, sync=False)
    assert drained(spool) == numbered(3, 1)
    assert spool.close()


# --- killed between any two steps ---------------------------------------------------------------------
class Killed(BaseException):
    """SIGKILL, as far as a test can do it to itself."""


class Steps:
    """Everything that a process does to the disk or the store; it is killed before, amid or after the n-th."""

    def __init__(self, fatal: int, moment: str) -> None:
        self.left = fatal
        self.moment = moment

    def take(self, step: Callable[..., Any], *given: Any, **named: Any) -> Any:
        self.left -= 1
        if self.left != 0:
            return step(*given, **named)
        if self.moment == "after":
            step(*given, **named)
        elif self.moment == "amid" and step is REAL["pwrite"]:
            step(given[0], given[1][: len(given[1]) // 2], given[2])
        raise Killed


REAL = {name: getattr(os, name) for name in ("pwrite", "unlink", "rmdir", "rename", "mkdir", "fdatasync", "link")}


class KeptStore:
    """As the ledger: the records and the cursor change together or not at all."""

    def __init__(self) -> None:
        self.steps: Steps | None = None
        self.cursors: dict[str, int] = {}
        self.kept: dict[str, list[int]] = {}

    def apply(self, spool_id: str, columns: Sequence[str], entries: Sequence[tuple[int, Entry]]) -> None:
        assert self.steps is not None
        self.steps.take(self._commit, spool_id, [number for number, _ in entries])

    def _commit(self, spool_id: str, numbers: Sequence[int]) -> None:
        new = [number for number in numbers if number > self.cursors.get(spool_id, 0)]
        self.kept.setdefault(spool_id, []).extend(new)
        if new:
            self.cursors[spool_id] = new[-1]

    def forget(self, spool_id: str) -> None:
        assert self.steps is not None
        self.steps.take(self.cursors.pop, spool_id, None)


@contextlib.contextmanager
def watched(steps: Steps) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for name, step in REAL.items():
            patched.setattr(os, name, lambda *given, _step=step, **named: steps.take(_step, *given, **named))
        yield


def live(parent: Path, store: KeptStore, groups: Sequence[int], steps: Steps, safe: dict[str, int]) -> None:
    """One process's life: it adopts, appends groups, drains now and then; it ends well or is killed."""
    store.steps = steps
    opened: set[int] = set()
    real_open, real_close = os.open, os.close

    def noted_open(*given: Any, **named: Any) -> int:
        opened.add(descriptor := real_open(*given, **named))
        return descriptor

    def noted_close(descriptor: int) -> None:
        opened.discard(descriptor)
        real_close(descriptor)

    with watched(steps), pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "open", noted_open)
        patched.setattr(os, "close", noted_close)
        try:
            spool = Spool.create(parent, COLUMNS, 150)
            drain = Drain(store, spool, lambda most: (), lambda number: None, 0.0)
            number = 1
            for order, count in enumerate(groups):
                payload = msgspec.msgpack.encode(Entry(["c", "m"]))
                spool.append([(number + n, payload, None) for n in range(count)], number, sync=bool(order % 2))
                number += count
                safe[spool.id] = number - 1
                if order % 3 == 2:
                    assert drain.round()
            assert drain.round()
            spool.close()
        except Killed:
            for descriptor in opened:  # with which its locks go, as the system does it
                real_close(descriptor)


@settings(max_examples=100, deadline=None)
@given(
    lives=st.lists(
        st.tuples(
            st.lists(st.integers(1, 4), max_size=7), st.integers(1, 40), st.sampled_from(["before", "amid", "after"])
        ),
        min_size=1,
        max_size=4,
    )
)
def test_killed_between_any_two_steps_each_record_is_stored_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, lives: list[tuple[list[int], int, str]]
) -> None:
    parent = tmp_path_factory.mktemp("lives")
    store, safe = KeptStore(), {}  # type: tuple[KeptStore, dict[str, int]]
    try:
        for groups, fatal, moment in lives:
            live(parent, store, groups, Steps(fatal, moment), safe)
        live(parent, store, [], Steps(0, "never"), safe)
        for spool_id, last in safe.items():
            kept = store.kept.get(spool_id, [])
            assert kept == list(range(1, len(kept) + 1))  # once, in order, without a gap
            assert len(kept) >= last  # all that was acknowledged
        assert [folder for folder in parent.iterdir() if not folder.name.startswith(".")] == []
    finally:
        shutil.rmtree(parent)
