"""What every journal keeps to. Nothing here assumes that writer and reader are in one process."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest

from swarmstream.errors import IdempotencyMismatch, NotFound, StillRunning, StorageUnavailable
from swarmstream.events import EndStatus, Event, RunDescribed, RunEnded, RunStarted, TextDelta, TurnEnded, Usage
from swarmstream.journal.base import (
    MAX_ADMITTED,
    AlreadyClaimed,
    Cursor,
    Entry,
    HandedOver,
    IdempotencyKey,
    InterruptedRun,
    Journal,
    Log,
    RunRecord,
)
from swarmstream.journal.memory import MemoryJournal
from swarmstream.journal.sqlite.journal import SqliteJournal

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def memory_journal(*, retain_seconds: float = 60, retain_bytes: int = 1 << 20) -> AsyncGenerator[Journal]:
    journal = MemoryJournal(retain_seconds=retain_seconds, retain_bytes=retain_bytes)
    yield journal
    await journal.close()


@asynccontextmanager
async def sqlite_journal(*, retain_seconds: float = 60, retain_bytes: int = 1 << 20) -> AsyncGenerator[Journal]:
    with TemporaryDirectory() as folder:
        place = SqlitePlace(Path(folder) / "store")
        async with place.opened(retain_seconds=retain_seconds, retain_bytes=retain_bytes) as journal:
            yield journal


class SqlitePlace:
    """A data directory that one process after another opens."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @asynccontextmanager
    async def opened(self, *, retain_seconds: float = 60, retain_bytes: int = 1 << 20) -> AsyncGenerator[Journal]:
        """As a process would that finds nobody there any more, whether or not that is so."""
        (self._folder / "lock").unlink(missing_ok=True)
        journal = SqliteJournal(self._folder, retain_seconds=retain_seconds, retain_bytes=retain_bytes)
        await journal.open()
        yield journal
        await journal.close()


@pytest.fixture(params=[SqlitePlace])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> SqlitePlace:
    """Where journals that survive their process are."""
    return request.param(tmp_path / "store")


@pytest.fixture(params=[memory_journal, sqlite_journal])
async def journal(request: pytest.FixtureRequest) -> AsyncGenerator[Journal]:
    async with request.param() as its:
        yield its


def record(job_id: str = "run-1", **fields: Any) -> RunRecord:
    fields = {"owner": "o", "kind": "agent", "created_at": datetime.now(UTC), **fields}
    return RunRecord(job_id=job_id, **fields)


def nothing() -> None:
    pass


async def begin(journal: Journal, job_id: str = "run-1", on_cancel: Callable[[], None] = nothing, **fields: Any) -> Log:
    return await journal.submit(record(job_id, **fields), on_cancel=on_cancel)


async def finish(journal: Journal, job_id: str, *texts: str, status: EndStatus = "success", **fields: Any) -> None:
    log = await begin(journal, job_id, **fields)
    for word in texts:
        log.append(TextDelta(0, "A", 1, word))
    await log.commit(RunEnded(t_ms=9, status=status, duration_seconds=0.009, failed_agents=()))


def text(number: int) -> TextDelta:
    return TextDelta(t_ms=number, agent="A", turn=1, text=str(number))


END = RunEnded(t_ms=9, status="success", duration_seconds=0.009, failed_agents=())


async def read_all(tail: Cursor) -> list[Entry]:
    entries: list[Entry] = []
    with anyio.fail_after(5):
        while not (entries and isinstance(entries[-1][1], RunEnded)):
            entries += await tail.read()
    return entries


async def test_events_come_back_in_order_and_numbered_from_one(journal: Journal) -> None:
    log = await begin(journal)
    events = [RunStarted(t_ms=0), *(text(number) for number in range(1500)), END]
    for event in events[:-1]:
        log.append(event)
    assert await log.commit(END) == len(events)
    entries = await read_all(await journal.tail("run-1"))
    assert [number for number, _ in entries] == list(range(1, len(events) + 1))
    assert [event for _, event in entries] == events


@pytest.mark.parametrize("make", [memory_journal, sqlite_journal])
async def test_an_owner_with_many_runs_pushes_out_its_own(make: Any) -> None:
    """Not those of an owner with few, though they are older."""
    async with make(retain_bytes=100_000) as journal:
        await finish(journal, "few-1", "x" * 10_000, owner="few")
        for number in range(30):
            await finish(journal, f"many-{number:02}", "x" * 10_000, owner="many")
        await finish(journal, "few-2", "x" * 10_000, owner="few")
        left: list[str] = []
        with anyio.fail_after(30):
            while not left or len(left) > 10:
                left = [job for owner in ("few", "many") for job in (await journal.list(owner, limit=100)).job_ids]
    assert left[:2] == ["few-2", "few-1"]
    assert left[2] == "many-29"
    assert len(left) > 4


@pytest.mark.parametrize("make", [memory_journal, sqlite_journal])
async def test_what_only_a_run_in_progress_needs_is_gone_with_its_end(make: Any) -> None:
    body = b'{"img":"aW1hZ2U=","mcp_url":"https://a.example/?key=secret"}'
    async with make() as journal:
        log = await begin(journal, body=body)
        assert (await journal.status("run-1")).record.body == body
        await log.commit(END)
        left = (await journal.status("run-1")).record.body
    assert b"a.example" in left
    assert b"secret" not in left
    assert b"aW1hZ2U=" not in left


@pytest.mark.parametrize("after", [0, 1, 700, 1500])
async def test_a_reader_can_begin_anywhere(journal: Journal, after: int) -> None:
    log = await begin(journal)
    for number in range(1500):
        log.append(text(number))
    await log.commit(END)
    entries = await read_all(await journal.tail("run-1", after=after))
    assert [number for number, _ in entries] == list(range(after + 1, 1502))


async def test_readers_follow_while_the_run_is_written(journal: Journal) -> None:
    log = await begin(journal)
    seen: list[list[Entry]] = [[], [], []]

    async def read(into: list[Entry], after: int) -> None:
        into += await read_all(await journal.tail("run-1", after=after))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for after, into in enumerate(seen):
                tasks.start_soon(read, into, after)
            for number in range(100):
                log.append(text(number))
                if number % 7 == 0:
                    await anyio.lowlevel.checkpoint()
            await log.commit(END)
    assert [len(entries) for entries in seen] == [101, 100, 99]
    assert seen[0][1:] == seen[1]


async def test_a_cursor_beyond_the_log_waits_for_it(journal: Journal) -> None:
    log = await begin(journal)
    tail = await journal.tail("run-1", after=2)
    for event in (text(1), text(2), text(3)):
        log.append(event)
    with anyio.fail_after(5):
        assert [number for number, _ in await tail.read()] == [3]


async def test_a_waiting_reader_can_be_woken(journal: Journal) -> None:
    log = await begin(journal)
    tail = await journal.tail("run-1")
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:

            async def wake() -> None:
                tail.wake()

            tasks.start_soon(wake)
            assert list(await tail.read()) == []
        log.append(text(1))
        assert len(await tail.read()) == 1
    tail.wake()
    assert list(tail.available()) == []


async def test_a_cancelled_reader_leaves_nothing_behind(journal: Journal) -> None:
    log = await begin(journal)
    tail = await journal.tail("run-1")
    with anyio.move_on_after(0.01):
        await tail.read()
    log.append(text(1))
    with anyio.fail_after(5):
        assert len(await tail.read()) == 1


@pytest.mark.promise("W-57")
async def test_nothing_is_written_after_the_end(journal: Journal) -> None:
    log = await begin(journal)
    await log.commit(END)
    with pytest.raises(RuntimeError):
        log.append(text(1))
    assert len(await read_all(await journal.tail("run-1"))) == 1


async def test_a_runs_state_can_be_asked_for(journal: Journal) -> None:
    log = await begin(journal)
    log.append(text(1))
    status = await journal.status("run-1")
    assert (status.state, status.last_event_id, status.record.owner) == ("running", 1, "o")
    await log.commit(END)
    assert ((await journal.status("run-1")).state, (await journal.status("run-1")).last_event_id) == ("success", 2)


async def test_a_cancellation_reaches_the_writer(journal: Journal) -> None:
    asked = anyio.Event()
    await begin(journal, on_cancel=asked.set)
    await journal.cancel("run-1")
    await journal.cancel("run-1")
    with anyio.fail_after(5):
        await asked.wait()


async def test_a_reader_may_leave_in_the_moment_that_something_is_written(journal: Journal) -> None:
    log = await begin(journal)
    tail = await journal.tail("run-1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tail.read)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        log.append(text(1))
    assert [number for number, _ in await (await journal.tail("run-1")).read()] == [1]


async def test_a_finished_run_is_not_cancelled(journal: Journal) -> None:
    asked = anyio.Event()
    log = await begin(journal, on_cancel=asked.set)
    await log.commit(END)
    await journal.cancel("run-1")
    assert not asked.is_set()


async def test_what_is_not_there_is_not_found(journal: Journal) -> None:
    for call in (journal.tail, journal.status, journal.cancel):
        with pytest.raises(NotFound):
            await call("run-2")


async def test_a_finished_run_is_forgotten_in_time_and_a_live_one_never() -> None:
    async with memory_journal(retain_seconds=0.01) as journal:
        live = await begin(journal, "live")
        log = await begin(journal, "done")
        held = await journal.tail("done")
        await log.commit(END)
        with anyio.fail_after(5):
            while True:
                try:
                    await journal.status("done")
                except NotFound:
                    break
                await anyio.lowlevel.checkpoint()
        assert len(await read_all(held)) == 1, "who reads already reads on"
        live.append(text(1))
        assert (await journal.status("live")).last_event_id == 1


async def test_finished_runs_stay_within_their_bytes_the_oldest_going_first() -> None:
    async with memory_journal(retain_bytes=25_000) as journal:
        for name in ("first", "second", "third"):
            log = await begin(journal, name)
            log.append(TextDelta(0, "A", 1, "x" * 10_000))
            await log.commit(END)
        with pytest.raises(NotFound):
            await journal.status("first")
        assert (await journal.status("second")).state == (await journal.status("third")).state == "success"


# Several runs.


async def test_an_owners_runs_are_listed_newest_first_page_by_page(journal: Journal) -> None:
    for number in range(7):
        await finish(journal, f"run-{number}", owner="me" if number != 3 else "you")
    pages = [await journal.list("me", limit=2)]
    while pages[-1].has_more:
        pages.append(await journal.list("me", limit=2, after=pages[-1].job_ids[-1]))
    assert [list(page.job_ids) for page in pages] == [
        ["run-6", "run-5"], ["run-4", "run-2"], ["run-1", "run-0"]
    ]  # fmt: skip
    assert list((await journal.list("you")).job_ids) == ["run-3"]
    assert not (await journal.list("nobody")).job_ids


@pytest.mark.parametrize("after", ["run-1", "none"])
async def test_a_page_begins_behind_a_run_of_the_owners_only(journal: Journal, after: str) -> None:
    await finish(journal, "run-1", owner="you")
    await finish(journal, "run-2", owner="me")
    with pytest.raises(NotFound):
        await journal.list("me", after=after)


async def test_runs_are_listed_by_their_state(journal: Journal) -> None:
    await finish(journal, "well")
    await finish(journal, "badly", status="failed")
    await begin(journal, "now")
    states = {
        state: list((await journal.list("o", state=state)).job_ids)
        for state in ("success", "failed", "running", "cancelled")
    }
    assert states == {"success": ["well"], "failed": ["badly"], "running": ["now"], "cancelled": []}
    assert list((await journal.list("o")).job_ids) == ["now", "badly", "well"]
    assert list((await journal.list("o", state="success", limit=1)).job_ids) == ["well"]


async def test_whoever_has_begun_a_run_finds_it_at_once(journal: Journal) -> None:
    log = await begin(journal)
    assert list((await journal.list("o", state="running")).job_ids) == ["run-1"]
    log.append(text(1))
    await log.commit(END)
    assert list((await journal.list("o", state="success")).job_ids) == ["run-1"]


async def test_runs_do_not_mix(journal: Journal) -> None:
    logs = [await begin(journal, f"run-{number}") for number in range(5)]
    for turn in range(40):
        for number, log in enumerate(logs):
            assert log.append(TextDelta(turn, "A", number, "x")) == turn + 1
    for number, log in enumerate(logs):
        await log.commit(END)
        entries = await read_all(await journal.tail(f"run-{number}"))
        assert [entry[0] for entry in entries] == list(range(1, 42))
        assert {event.turn for _, event in entries if isinstance(event, TextDelta)} == {number}


DESCRIBED = RunDescribed(0, "run-1", "agent", "n", None, None, 1, "standard", None, datetime.now(UTC), (), {"a": [1]})
ENDED = TurnEnded(5, "A", 1, None, "m", "12", "success", "stop", Usage(3, 4), 0.1)


async def test_a_runs_summary_is_that_of_its_events_before_and_after_its_end(journal: Journal) -> None:
    log = await begin(journal, body=b"{}", include_output=False, coalesce_ms=5, on_disconnect="continue")
    for event in (DESCRIBED, RunStarted(0), text(1)):
        log.append(event)
    await log.commit(ENDED)
    live = await journal.status("run-1")
    assert (live.summary.described, live.summary.answers, live.summary.ended) == (DESCRIBED, [ENDED], None)
    await log.commit(END)
    for status in (await journal.status("run-1"), await journal.status("run-1", owner="o")):
        assert (status.summary.described, status.summary.answers, status.summary.ended) == (DESCRIBED, [ENDED], END)
        assert (status.first_event_id, status.last_event_id) == (1, 5)
        assert (status.record.body, status.record.include_output, status.record.coalesce_ms) == (b"{}", False, 5)


# Forgotten.


async def test_a_deleted_run_is_gone(journal: Journal) -> None:
    await finish(journal, "run-1")
    await finish(journal, "run-2")
    await read_all(await journal.tail("run-1"))
    await journal.delete("run-1")
    for call in (journal.tail, journal.status, journal.cancel, journal.delete):
        with pytest.raises(NotFound):
            await call("run-1")
    assert list((await journal.list("o")).job_ids) == ["run-2"]


async def test_a_live_run_is_not_deleted(journal: Journal) -> None:
    log = await begin(journal)
    with pytest.raises(StillRunning):
        await journal.delete("run-1")
    log.append(text(1))
    await log.commit(END)
    await journal.delete("run-1")


async def test_a_trimmed_run_says_where_it_begins_now(journal: Journal) -> None:
    await finish(journal, "run-1", *"abcdefgh")
    await journal.trim("run-1", 6)
    status = await journal.status("run-1")
    assert (status.first_event_id, status.last_event_id, status.state) == (6, 9, "success")
    first_available: list[int | None] = []
    for after in (0, 4, 5, 7):
        tail = await journal.tail("run-1", after=after)
        assert [number for number, _ in await read_all(tail)] == list(range(max(after + 1, 6), 10))
        first_available.append(tail.first_available)
    assert first_available == [6, 6, None, None]


async def test_the_last_event_stays_whatever_is_trimmed(journal: Journal) -> None:
    await finish(journal, "run-1", *"abc")
    await journal.trim("run-1", 3)
    await journal.trim("run-1", 100)
    assert [number for number, _ in await read_all(await journal.tail("run-1"))] == [4]
    assert (await journal.status("run-1")).first_event_id == 4
    with pytest.raises(NotFound):
        await journal.trim("run-2", 1)


async def test_a_trimmed_run_keeps_its_summary(journal: Journal) -> None:
    log = await begin(journal)
    for event in (DESCRIBED, RunStarted(0), ENDED):
        log.append(event)
    await log.commit(END)
    await journal.trim("run-1", 100)
    summary = (await journal.status("run-1")).summary
    assert (summary.described, summary.answers, summary.ended) == (DESCRIBED, [ENDED], END)


# Claimed.


async def test_one_claim_is_one_run(journal: Journal) -> None:
    log = await begin(journal, "first", claim=IdempotencyKey("key", "body"))
    with pytest.raises(AlreadyClaimed) as claimed:
        await begin(journal, "second", claim=IdempotencyKey("key", "body"))
    assert claimed.value.job_id == "first"
    with pytest.raises(IdempotencyMismatch):
        await begin(journal, "second", claim=IdempotencyKey("key", "other"))
    with pytest.raises(NotFound):
        await journal.status("second")
    await begin(journal, "third", claim=IdempotencyKey("other", "body"))
    await log.commit(END)
    with pytest.raises(AlreadyClaimed):
        await begin(journal, "second", claim=IdempotencyKey("key", "body"))


async def test_a_claim_goes_with_its_run(journal: Journal) -> None:
    await finish(journal, "first", claim=IdempotencyKey("key", "body"))
    await journal.delete("first")
    await finish(journal, "second", claim=IdempotencyKey("key", "other"))
    assert (await journal.status("second")).state == "success"


# Kept, beyond the process.


@dataclass
class Owner:
    """A process that has opened the place, and what it found unfinished, loaded."""

    journal: Journal
    found: Sequence[InterruptedRun]
    entries: Sequence[list[Entry]]

    async def events(self, job_id: str = "run-1", after: int = 0) -> list[Entry]:
        return await read_all(await self.journal.tail(job_id, after=after))

    def go_on(self, on_cancel: Callable[[], None] = nothing, on_failure: Callable[[], None] = nothing) -> Log:
        [found] = self.found
        return found.go_on(on_cancel=on_cancel, on_failure=on_failure)


@asynccontextmanager
async def owning(place: SqlitePlace) -> AsyncGenerator[Owner]:
    async with place.opened() as journal:
        assert journal.survives
        found = await journal.unfinished()
        yield Owner(journal, found, [list((await run.load())[1]) for run in found])


async def test_a_finished_run_is_the_same_after_reopening(place: SqlitePlace) -> None:
    events: list[Event] = [DESCRIBED, RunStarted(0), *(text(number) for number in range(5000)), ENDED, END]
    async with owning(place) as owner:
        log = await begin(owner.journal, claim=IdempotencyKey("key", "body"), traceparent="t", request_id="r")
        for event in events[:-1]:
            log.append(event)
        await log.commit(END)
        before = await owner.journal.status("run-1")
    async with owning(place) as owner:
        assert not owner.found
        assert await owner.events() == list(enumerate(events, start=1))
        assert await owner.journal.status("run-1") == before
        assert list((await owner.journal.list("o")).job_ids) == ["run-1"]
        assert [number for number, _ in await owner.events(after=4999)] == list(range(5000, 5005))
        with pytest.raises(AlreadyClaimed):
            await begin(owner.journal, "run-2", claim=IdempotencyKey("key", "body"))


async def test_what_was_committed_of_an_unfinished_run_is_there_with_all_before_it(place: SqlitePlace) -> None:
    async with owning(place) as first:
        log = await begin(first.journal, owner="me", claim=IdempotencyKey("key", "body"))
        log.append(DESCRIBED)
        log.append(text(1))
        await log.commit(ENDED)
        async with owning(place) as second:
            [found] = second.found
            assert found.record == record(
                owner="me", claim=IdempotencyKey("key", "body"), created_at=found.record.created_at
            )
            assert second.entries == [[(1, DESCRIBED), (2, text(1)), (3, ENDED)]]
            status = await second.journal.status("run-1")
            assert (status.state, status.is_waiting, status.summary.answers) == ("running", True, [ENDED])
            log = second.go_on()
            status = await second.journal.status("run-1")
            assert (status.state, status.is_waiting, status.last_event_id) == ("running", False, 3)
            assert status.summary.answers == [ENDED]
            assert list((await second.journal.list("me", state="running")).job_ids) == ["run-1"]
            with pytest.raises(AlreadyClaimed):
                await begin(second.journal, "run-2", claim=IdempotencyKey("key", "body"))
            with pytest.raises(StillRunning):
                await second.journal.delete("run-1")


async def test_an_unfinished_run_is_claimed_once(place: SqlitePlace) -> None:
    async with owning(place) as first:
        await (await begin(first.journal)).commit(RunStarted(0))
    async with owning(place) as second:
        assert [found.record.job_id for found in second.found] == ["run-1"]
        assert not await second.journal.unfinished()
        await second.go_on().commit(END)
    async with owning(place) as third:
        assert not third.found


@pytest.mark.promise("W-48")
@pytest.mark.noisy
async def test_numbers_go_on_above_all_that_a_reader_can_have_seen(place: SqlitePlace) -> None:
    async with owning(place) as first:
        log = await begin(first.journal)
        await log.commit(RunStarted(0))
        tail = await first.journal.tail("run-1")
        for number in range(50):
            log.append(text(number))
        seen = list(await tail.read())  # more than what is written, perhaps
        async with owning(place) as second:
            log = second.go_on()
            first_number = log.append(text(100))
            assert first_number > seen[-1][0]
            assert log.append(text(101)) == first_number + 1
            assert await log.commit(END) == first_number + 2
            # Whoever had seen more than what is kept goes on behind it: nothing twice, nothing left out.
            assert [number for number, _ in await second.events(after=seen[-1][0])] == [
                first_number + more for more in range(3)
            ]
            whole = await second.events()
    kept = [entry for entry in whole if entry[0] < first_number]
    assert kept == seen[: len(kept)], "a number never means another event"


async def test_a_run_that_has_seen_three_owners_is_whole(place: SqlitePlace) -> None:
    events: list[Event] = []
    async with owning(place) as owner:
        log = await begin(owner.journal)
        for number in range(300):
            events.append(text(number))
            log.append(events[-1])
        await log.commit(RunStarted(0))
        events.append(RunStarted(0))
    for number in range(300, 302):
        async with owning(place) as owner:
            log = owner.go_on()
            others = await begin(owner.journal, f"other-{number}")
            events += [text(number), RunStarted(number)]
            log.append(text(number))
            others.append(text(0))
            await log.commit(RunStarted(number))
            await others.commit(END)
    async with owning(place) as owner:
        await owner.go_on().commit(END)
        entries = await owner.events()
        assert [event for _, event in entries] == [*events, END]
        numbers = [number for number, _ in entries]
        assert numbers == sorted(set(numbers))
        assert sum(after > before + 1 for before, after in pairwise(numbers)) == 3
        assert [event for _, event in await owner.events("other-300")] == [text(0), END]


async def test_a_new_run_has_nothing_of_a_deleted_one(place: SqlitePlace) -> None:
    async with owning(place) as owner:
        await (await begin(owner.journal, "long")).commit(RunStarted(0))
        log = await begin(owner.journal, "short")
        await log.commit(text(1))
        await log.commit(END)
        await owner.journal.delete("short")
    async with owning(place) as owner:
        await (await begin(owner.journal, "new")).commit(text(2))
    async with owning(place) as owner:
        entries = {
            found.record.job_id: [event for _, event in entries]
            for found, entries in zip(owner.found, owner.entries, strict=True)
        }
    assert entries == {"long": [RunStarted(0)], "new": [text(2)]}


async def test_a_run_that_has_only_begun_keeps_what_its_next_owners_write(place: SqlitePlace) -> None:
    async with owning(place) as owner:
        for number in range(3):
            await finish(owner.journal, f"other-{number}", "x")
        await begin(owner.journal)
        await owner.journal.list("o")
    async with owning(place) as owner:
        await owner.go_on().commit(text(1))
        await finish(owner.journal, "another", "x")
    async with owning(place) as owner:
        assert [event for _, event in owner.entries[0]] == [text(1)]


@pytest.mark.noisy
async def test_who_is_not_the_owner_any_more_can_write_nothing(place: SqlitePlace) -> None:
    failed = anyio.Event()
    async with owning(place) as old:
        log = await old.journal.submit(record(), on_cancel=nothing, on_failure=failed.set)
        await log.commit(RunStarted(0))
        await finish(old.journal, "done", "x")
        async with owning(place) as new:
            its = new.go_on()
            its.append(text(1))
            log.append(text(2))
            with pytest.raises(StorageUnavailable):
                await log.commit(text(3))
            with anyio.fail_after(5):
                await failed.wait()
            with pytest.raises(StorageUnavailable):
                await log.commit(END)
            with pytest.raises(StorageUnavailable):
                await old.journal.delete("done")
            with pytest.raises(StorageUnavailable):
                await begin(old.journal, "run-2")
            assert not old.journal.healthy
            assert (await new.journal.status("run-1")).state == "running"
            await its.commit(END)
            assert [event for _, event in await new.events()] == [RunStarted(0), text(1), END]
            assert list((await new.journal.list("o")).job_ids) == ["done", "run-1"]
    async with owning(place) as newest:
        assert not newest.found
        assert [event for _, event in await newest.events()] == [RunStarted(0), text(1), END]


async def test_a_run_that_was_taken_over_can_be_cancelled(place: SqlitePlace) -> None:
    async with owning(place) as owner:
        await (await begin(owner.journal)).commit(RunStarted(0))
    async with owning(place) as owner:
        asked = anyio.Event()
        owner.go_on(asked.set)
        await owner.journal.cancel("run-1")
        with anyio.fail_after(5):
            await asked.wait()


async def test_a_suspended_run_lets_its_readers_go_and_is_the_next_owners(place: SqlitePlace) -> None:
    seen: list[Entry] = []
    let_go = anyio.Event()

    async def read(tail: Cursor) -> None:
        try:
            while True:
                seen.extend(await tail.read())
        except HandedOver:
            let_go.set()

    async with owning(place) as owner:
        log = await begin(owner.journal)
        log.append(RunStarted(0))
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read, await owner.journal.tail("run-1"))
                await anyio.wait_all_tasks_blocked()
                log.append(text(1))
                await log.suspend()
                await let_go.wait()
            late = await owner.journal.tail("run-1", after=1)
            assert list(await late.read()) == [(2, text(1))], "what there is can be read"
            with pytest.raises(HandedOver):
                await late.read()
        async with owning(place) as other:
            assert [seen] == list(other.entries) == [[(1, RunStarted(0)), (2, text(1))]]
            await other.go_on().commit(END)
            assert (await other.journal.status("run-1")).state == "success"


async def test_what_was_forgotten_stays_forgotten_after_reopening(place: SqlitePlace) -> None:
    async with owning(place) as owner:
        await finish(owner.journal, "deleted", claim=IdempotencyKey("key", "body"))
        await finish(owner.journal, "trimmed", *"abc")
        await owner.journal.delete("deleted")
        await owner.journal.trim("trimmed", 3)
    async with owning(place) as owner:
        with pytest.raises(NotFound):
            await owner.journal.status("deleted")
        await begin(owner.journal, "new", claim=IdempotencyKey("key", "other"))
        assert [number for number, _ in await owner.events("trimmed")] == [3, 4]
        assert (await owner.journal.status("trimmed")).first_event_id == 3


# Whose runs.


async def test_an_owner_is_told_of_its_own_runs_only(journal: Journal) -> None:
    await finish(journal, "done", owner="me")
    await begin(journal, "live", owner="me")
    for job_id in ("done", "live"):
        assert (await journal.status(job_id, owner="me")).record.job_id == job_id
        for stranger in ("you", ""):
            with pytest.raises(NotFound):
                await journal.status(job_id, owner=stranger)


# Stream tokens.


def digest(number: int) -> bytes:
    return number.to_bytes(32)


async def test_the_tokens_that_have_connected_are_remembered_by_run(journal: Journal) -> None:
    await finish(journal, "done")
    await begin(journal, "live")
    for job_id, number in (("done", 1), ("live", 2), ("live", 2), ("live", 3)):
        await journal.admit_token(job_id, digest(number))
    found = {
        job_id: [number for number in range(5) if await journal.has_admitted(job_id, digest(number))]
        for job_id in ("done", "live", "none")
    }
    assert found == {"done": [1], "live": [2, 3], "none": []}
    with pytest.raises(NotFound):
        await journal.admit_token("none", digest(1))


async def test_of_too_many_tokens_the_oldest_are_forgotten(journal: Journal) -> None:
    await begin(journal, "run-1")
    await begin(journal, "run-2")
    await journal.admit_token("run-2", digest(0))
    for number in range(MAX_ADMITTED + 2):
        await journal.admit_token("run-1", digest(number))
    found = [await journal.has_admitted("run-1", digest(number)) for number in range(MAX_ADMITTED + 2)]
    assert found == [False] * 2 + [True] * MAX_ADMITTED
    assert await journal.has_admitted("run-2", digest(0)), "another run has its own"


async def test_a_forgotten_runs_tokens_are_forgotten(journal: Journal) -> None:
    await finish(journal, "run-1")
    await journal.admit_token("run-1", digest(1))
    await journal.delete("run-1")
    await finish(journal, "run-1")
    assert not await journal.has_admitted("run-1", digest(1))


async def test_the_tokens_that_have_connected_are_remembered_after_reopening(place: SqlitePlace) -> None:
    async with owning(place) as owner:
        await begin(owner.journal)
        await owner.journal.admit_token("run-1", digest(1))
        async with owning(place) as other:
            assert await other.journal.has_admitted("run-1", digest(1))
            await other.go_on().commit(END)
            assert await other.journal.has_admitted("run-1", digest(1)), "also once it has ended"


async def test_a_run_has_ended_when_its_end_was_written_however_long_nobody_went_on_with_it(place: SqlitePlace) -> None:
    began = datetime.now(UTC) - timedelta(hours=1)
    async with owning(place) as owner:
        await (await begin(owner.journal, created_at=began)).commit(RunStarted(0))
        assert (await owner.journal.status("run-1")).ended_at is None
    async with owning(place) as owner:
        await owner.go_on().commit(END)
        ended_at = (await owner.journal.status("run-1")).ended_at
        assert ended_at is not None
        assert ended_at - began.timestamp() >= 3600
