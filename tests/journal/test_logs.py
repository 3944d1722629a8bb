"""A run's log in every journal: what is appended is read by every cursor, in order, and once."""

from typing import Any

import anyio
import pytest

from swarmstream.errors import NotFound
from swarmstream.events import RunStarted, TextDelta
from swarmstream.journal.base import Journal
from swarmstream.journal.records import Entry
from tests.fakes.run_callbacks import RecordedCallbacks
from tests.journal.kinds import memory_journal, sqlite_journal
from tests.journal.sample_runs import END, begin, finish, read_all, text

pytestmark = pytest.mark.anyio


async def test_events_come_back_in_order_and_numbered_from_one(journal: Journal) -> None:
    log = await begin(journal)
    events = [RunStarted(t_ms=0), *(text(number) for number in range(1500)), END]
    for event in events[:-1]:
        log.append(event)
    assert await log.commit(END) == len(events)
    entries = await read_all(await journal.open_cursor("run-1"))
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
    entries = await read_all(await journal.open_cursor("run-1", after=after))
    assert [number for number, _ in entries] == list(range(after + 1, 1502))


async def test_readers_follow_while_the_run_is_written(journal: Journal) -> None:
    log = await begin(journal)
    seen: list[list[Entry]] = [[], [], []]

    async def read(into: list[Entry], after: int) -> None:
        into += await read_all(await journal.open_cursor("run-1", after=after))

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
    cursor = await journal.open_cursor("run-1", after=2)
    for event in (text(1), text(2), text(3)):
        log.append(event)
    with anyio.fail_after(5):
        assert [number for number, _ in await cursor.read()] == [3]


async def test_a_waiting_reader_can_be_woken(journal: Journal) -> None:
    log = await begin(journal)
    cursor = await journal.open_cursor("run-1")
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:

            async def wake() -> None:
                cursor.wake()

            tasks.start_soon(wake)
            assert list(await cursor.read()) == []
        log.append(text(1))
        assert len(await cursor.read()) == 1
    cursor.wake()
    assert list(cursor.read_nowait()) == []


async def test_a_cancelled_reader_leaves_nothing_behind(journal: Journal) -> None:
    log = await begin(journal)
    cursor = await journal.open_cursor("run-1")
    with anyio.move_on_after(0.01):
        await cursor.read()
    log.append(text(1))
    with anyio.fail_after(5):
        assert len(await cursor.read()) == 1


async def test_nothing_is_written_after_the_end(journal: Journal) -> None:
    log = await begin(journal)
    await log.commit(END)
    with pytest.raises(RuntimeError):
        log.append(text(1))
    assert len(await read_all(await journal.open_cursor("run-1"))) == 1


async def test_a_runs_state_can_be_asked_for(journal: Journal) -> None:
    log = await begin(journal)
    log.append(text(1))
    status = await journal.status("run-1")
    assert (status.state, status.last_event_id, status.record.owner) == ("running", 1, "o")
    await log.commit(END)
    assert ((await journal.status("run-1")).state, (await journal.status("run-1")).last_event_id) == ("success", 2)


async def test_a_cancellation_reaches_the_writer(journal: Journal) -> None:
    callbacks = RecordedCallbacks()
    await begin(journal, callbacks=callbacks)
    await journal.cancel("run-1")
    await journal.cancel("run-1")
    with anyio.fail_after(5):
        await callbacks.cancelled.wait()


async def test_a_reader_may_leave_in_the_moment_that_something_is_written(journal: Journal) -> None:
    log = await begin(journal)
    cursor = await journal.open_cursor("run-1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cursor.read)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        log.append(text(1))
    assert [number for number, _ in await (await journal.open_cursor("run-1")).read()] == [1]


async def test_a_finished_run_is_not_cancelled(journal: Journal) -> None:
    callbacks = RecordedCallbacks()
    log = await begin(journal, callbacks=callbacks)
    await log.commit(END)
    await journal.cancel("run-1")
    assert not callbacks.cancelled.is_set()


async def test_what_is_not_there_is_not_found(journal: Journal) -> None:
    for call in (journal.open_cursor, journal.status, journal.cancel):
        with pytest.raises(NotFound):
            await call("run-2")


async def test_a_finished_run_is_forgotten_in_time_and_a_live_one_never() -> None:
    async with memory_journal(retain_seconds=0.01) as journal:
        live = await begin(journal, "live")
        log = await begin(journal, "done")
        held = await journal.open_cursor("done")
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
