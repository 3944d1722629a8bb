"""Retention in a data directory: runs go for their age and their size, their space goes back to the disk."""

import math
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest

from swarmstream.errors import NotFound
from swarmstream.events import RunStarted, TextDelta
from swarmstream.journal.records import IdempotencyKey
from swarmstream.journal.sqlite.data_directory import FILE
from swarmstream.journal.sqlite.file.store import Store
from swarmstream.journal.sqlite.journal import SqliteJournal
from swarmstream.journal.sqlite.takeover import DirectoryLock, take_over
from tests.fakes.clock import DrivenClock
from tests.journal.directories import DAY, columns, ids, opened, opened_still, query_rows, size_of, swept, until
from tests.journal.sample_runs import begin, finish, read_all

pytestmark = pytest.mark.anyio


async def left(journal: SqliteJournal) -> set[str]:
    """The owner's runs, once the sweep is over: it was asked for when the journal was opened, before this one's."""
    await finish(journal, "other", owner="somebody")
    with suppress(NotFound):  # it may be too much itself
        await journal.delete("other")
    return set((await journal.list("o", limit=100)).job_ids)


async def test_old_runs_go_and_live_ones_never(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await (await begin(journal, "live")).commit(RunStarted(0))
        for name in ("old", "older", "young"):
            await finish(journal, name, "x")
    query_rows(tmp_path, "UPDATE runs SET ended_at = ended_at - 100, created_at = 0 WHERE job_id LIKE 'old%'")
    query_rows(tmp_path, "UPDATE runs SET created_at = 0 WHERE job_id = 'live'")
    async with opened(tmp_path) as journal:
        assert await left(journal) == {"live", "young"}
        assert len(query_rows(tmp_path, "SELECT * FROM segments")) == 1
        for call in (journal.status, journal.open_cursor):
            with pytest.raises(NotFound):
                await call("old")


async def test_the_oldest_finished_runs_go_once_all_are_too_many_bytes(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        live = await begin(journal, "live")
        await live.commit(TextDelta(0, "A", 1, "x" * 100_000))
        for name in ("first", "second", "third"):
            await finish(journal, name, "x" * 10_000)
    async with opened(tmp_path, retain_bytes=25_000) as journal:
        assert await left(journal) == {"live", "second", "third"}
    async with opened(tmp_path, retain_bytes=0) as journal:
        assert await left(journal) == {"live"}


async def test_the_idempotency_key_of_a_swept_run_is_free_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await finish(journal, "gone", idempotency_key=IdempotencyKey("key", "body"))
        await finish(journal, "kept", "x")
    query_rows(tmp_path, "UPDATE runs SET ended_at = 0 WHERE job_id = 'gone'")
    async with opened(tmp_path) as journal:
        assert await left(journal) == {"kept"}
        await finish(journal, "again", idempotency_key=IdempotencyKey("key", "body"))
        assert await left(journal) == {"kept", "again"}


async def test_sweeping_goes_on_until_enough_runs_are_deleted(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await finish(journal, "run-1", "x")
    multiply(tmp_path, 3500)
    async with opened(tmp_path, retain_bytes=0) as journal:
        await until(lambda: not columns(tmp_path, "SELECT no FROM runs LIMIT 1"))
        assert not columns(tmp_path, "SELECT run FROM segments LIMIT 1")


def multiply(folder: Path, count: int) -> None:
    """Make so many finished runs of one, without the checksums, which are each run's own."""

    def renamed(stored: bytes, no: int) -> bytes:
        return msgspec.msgpack.encode({**msgspec.msgpack.decode(stored[5:]), "job_id": f"run-{no}"})

    with closing(sqlite3.connect(folder / FILE)) as connection, connection:
        connection.create_function("renamed", 2, renamed)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(
            f"WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) INSERT INTO runs"
            " (no, job_id, owner, state, epoch, created_at, ended_at, first_batch, first_event_id, last_event_id,"
            " bytes, record, outline) SELECT i, 'run-' || i, owner, state, epoch, created_at, ended_at, first_batch,"
            " first_event_id, last_event_id, bytes, renamed(record, i), substr(outline, 6) FROM n, runs WHERE no = 1"
        )
        connection.execute("INSERT INTO segments SELECT no, 1, substr(events, 6) FROM runs, segments WHERE no > 1")


async def test_starting_listing_reading_and_sweeping_take_no_longer_for_more_finished_runs(tmp_path: Path) -> None:
    """Counted in SQLite's own instructions."""
    counts: list[dict[str, int]] = []
    for finished in (100, 3000):
        folder = tmp_path / str(finished)
        async with opened(folder) as journal:
            await finish(journal, "run-1", *(str(number) for number in range(20)))
        multiply(folder, finished)
        with closing(Store(folder, writes=True)) as store:
            counts.append({name: instructions(store, step) for name, step in STEPS.items()})
    assert counts[0] == counts[1]


def expire(store: Store) -> None:
    """Look for runs to delete, among many that are to stay."""
    limits = {"max_bytes": 1 << 40, "most_runs": 200, "most_bytes": 1 << 20}
    assert not store.retention.expired(after=-math.inf, before=0, excluded=frozenset(), **limits)


def read(store: Store) -> None:
    run = store.runs.find("run-50")
    assert run is not None
    assert len(store.segments.entries(run)) == 21


class NoLock(DirectoryLock):
    """A lock that is always free."""

    def take(self) -> None:
        pass


STEPS: dict[str, Callable[[Store], object]] = {
    "start": lambda store: take_over(store, NoLock(Path()), 0),
    "list": lambda store: store.runs.page("o", state="success", limit=20, before=None),
    "read": read,
    "expire": expire,
    "forget old keys": lambda store: store.idempotency_keys.drop(0),
}


def instructions(store: Store, step: Callable[[Store], object]) -> int:
    """Return the number of instructions of SQLite's virtual machine that a step takes."""
    count = 0

    def add() -> int:
        nonlocal count
        count += 1
        return 0

    connections = (store.connections.main, store.connections.committed)
    for connection in connections:
        connection.set_progress_handler(add, 1)
    step(store)
    for connection in connections:
        connection.set_progress_handler(None, 0)
    return count


async def test_admitted_stream_tokens_are_forgotten_with_their_run(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for job_id in ("old", "deleted", "kept"):
            await finish(journal, job_id)
            await journal.admit_token(job_id, job_id.encode())
        await journal.delete("deleted")
        assert columns(tmp_path, "SELECT digest FROM stream_tokens") == [b"old", b"kept"]
    query_rows(tmp_path, "UPDATE runs SET ended_at = 0 WHERE job_id = 'old'")
    async with opened(tmp_path) as journal:
        await left(journal)
        assert columns(tmp_path, "SELECT digest FROM stream_tokens") == [b"kept"], "also where a sweep takes it"


async def test_runs_go_as_soon_as_their_sum_passes_the_limit(tmp_path: Path) -> None:
    """No timer is needed for it: the clock stands still."""
    clock = DrivenClock()
    large = "x" * 100_000
    async with opened_still(tmp_path, clock=clock, retain_bytes=1_000_000) as journal:
        await clock.advance(0)
        for number in range(60):
            await finish(journal, f"run-{number}", large)
        await until(lambda: query_rows(tmp_path, "SELECT sum(bytes) FROM owners")[0][0] <= 1_000_000)
        assert size_of(tmp_path) < 12_000_000, "of 24 MB that were written; 4 MB of it are a WAL"
        assert "run-59" in await ids(journal)


async def test_space_that_is_free_goes_back_to_the_disk(tmp_path: Path) -> None:
    async with opened_still(tmp_path) as journal:
        for number in range(40):
            await finish(journal, f"run-{number:02}", "x" * 500_000)
    before = (tmp_path / FILE).stat().st_size
    clock = DrivenClock()
    async with opened_still(tmp_path, clock=clock, retain_bytes=2_000_000) as journal:
        await clock.advance(0)
        await until(lambda: query_rows(tmp_path, "SELECT count(*) FROM runs")[0][0] < 5)
        await until(lambda: query_rows(tmp_path, "PRAGMA freelist_count")[0][0] <= 1100)
        await read_all(await journal.open_cursor("run-39"))
    assert (tmp_path / FILE).stat().st_size < before / 3
    assert query_rows(tmp_path, "PRAGMA integrity_check") == [("ok",)]


async def test_the_sums_by_owner_are_those_of_the_runs(tmp_path: Path) -> None:
    async with opened_still(tmp_path) as journal:
        for owner in "aab":
            for number in range(3):
                await finish(journal, f"{owner}-{number}-{len(await ids(journal, owner))}", "x" * 100, owner=owner)
        await begin(journal, "live", owner="c")
        await journal.delete((await ids(journal, "a"))[0])
        await journal.trim((await ids(journal, "a"))[0], 2)
        for job_id in await ids(journal, "b"):
            await journal.delete(job_id)
    sums = query_rows(tmp_path, "SELECT owner, sum(bytes) FROM runs WHERE ended_at IS NOT NULL GROUP BY owner")
    assert query_rows(tmp_path, "SELECT * FROM owners") == sums
    assert [owner for owner, _ in sums] == ["a"]


@pytest.mark.noisy
async def test_a_start_that_would_expire_every_run_warns_and_spares_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened_still(tmp_path, clock=DrivenClock()) as journal:
        for name in ("run-1", "run-2"):
            await finish(journal, name, "x" * 1000)
    ahead = DrivenClock(unix=DrivenClock().unix() + 8 * DAY)
    async with opened_still(tmp_path, clock=ahead) as journal:
        await swept(journal, ahead)
        assert await ids(journal) == ["run-1", "run-2"]
        [warning] = caplog.records
        assert "--expire" in warning.getMessage()
    async with opened_still(tmp_path, clock=ahead, retain_bytes=2000) as journal:
        await swept(journal, ahead)
        assert await ids(journal) == ["run-2"], "their bytes count all the same"
    async with opened_still(tmp_path, clock=ahead, expires_all=True) as journal:
        await swept(journal, ahead)
        assert await ids(journal) == []


@pytest.mark.noisy
async def test_runs_that_a_start_spared_expire_in_their_time_once_the_clock_is_right(tmp_path: Path) -> None:
    clock = DrivenClock()
    async with opened_still(tmp_path, clock=clock) as journal:
        await finish(journal, "run-1", "x")
    clock.offset += 400 * DAY
    async with opened_still(tmp_path, clock=clock) as journal:
        await swept(journal, clock)
        clock.offset -= 400 * DAY
        await swept(journal, clock)
        assert await ids(journal) == ["run-1"]
        clock.offset += 7 * DAY
        await swept(journal, clock)
        assert await ids(journal) == []
