"""What every journal keeps to. Nothing here assumes that writer and reader are in one process."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest

from app.errors import NotFound
from app.events import RunEnded, RunStarted, TextDelta
from app.runs.journal import Entry, Journal, Log, RunRecord, Tail
from app.runs.memory_journal import MemoryJournal
from app.runs.sqlite_journal import SqliteJournal

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def memory_journal(*, retain_seconds: float = 60, retain_bytes: int = 1 << 20) -> AsyncGenerator[Journal]:
    journal = MemoryJournal(retain_seconds=retain_seconds, retain_bytes=retain_bytes)
    yield journal
    await journal.close()


@asynccontextmanager
async def sqlite_journal(*, retain_seconds: float = 60, retain_bytes: int = 1 << 20) -> AsyncGenerator[Journal]:
    with TemporaryDirectory() as folder:
        journal = SqliteJournal(Path(folder) / "store", retain_seconds=retain_seconds, retain_bytes=retain_bytes)
        await journal.open()
        yield journal
        await journal.close()


@pytest.fixture(params=[memory_journal, sqlite_journal])
async def journal(request: pytest.FixtureRequest) -> AsyncGenerator[Journal]:
    async with request.param() as its:
        yield its


async def begin(journal: Journal, job_id: str = "run-1", on_cancel: Callable[[], None] = lambda: None) -> Log:
    record = RunRecord(job_id=job_id, owner="o", kind="agent", created_at=datetime.now(UTC))
    return await journal.submit(record, on_cancel=on_cancel)


def text(number: int) -> TextDelta:
    return TextDelta(t_ms=number, agent="A", turn=1, text=str(number))


END = RunEnded(t_ms=9, status="success", duration_seconds=0.009, failed_agents=())


async def read_all(tail: Tail) -> list[Entry]:
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
