"""Runs whose process is gone: the next one finds them whole, and goes on above every number that was shown."""

from itertools import pairwise

import anyio
import pytest

from swarmstream.errors import NotFound, StillRunning, StorageUnavailable
from swarmstream.events import Event, RunStarted
from swarmstream.journal.base import AlreadySubmitted, Cursor, HandedOver
from swarmstream.journal.records import Entry, IdempotencyKey
from tests.fakes.run_callbacks import RecordedCallbacks
from tests.journal.kinds import SqlitePlace, serving_process
from tests.journal.sample_runs import DESCRIBED, END, ENDED, begin, finish, record, text

pytestmark = pytest.mark.anyio


async def test_a_finished_run_is_the_same_after_reopening(place: SqlitePlace) -> None:
    events: list[Event] = [DESCRIBED, RunStarted(0), *(text(number) for number in range(5000)), ENDED, END]
    async with serving_process(place) as owner:
        log = await begin(owner.journal, idempotency_key=IdempotencyKey("key", "body"), traceparent="t", request_id="r")
        for event in events[:-1]:
            log.append(event)
        await log.commit(END)
        before = await owner.journal.status("run-1")
    async with serving_process(place) as owner:
        assert not owner.found
        assert await owner.events() == list(enumerate(events, start=1))
        assert await owner.journal.status("run-1") == before
        assert list((await owner.journal.list("o")).job_ids) == ["run-1"]
        assert [number for number, _ in await owner.events(after=4999)] == list(range(5000, 5005))
        with pytest.raises(AlreadySubmitted):
            await begin(owner.journal, "run-2", idempotency_key=IdempotencyKey("key", "body"))


async def test_committed_events_of_an_interrupted_run_are_there_with_all_before_them(place: SqlitePlace) -> None:
    async with serving_process(place) as first:
        log = await begin(first.journal, owner="me", idempotency_key=IdempotencyKey("key", "body"))
        log.append(DESCRIBED)
        log.append(text(1))
        await log.commit(ENDED)
        async with serving_process(place) as second:
            [found] = second.found
            assert found.record == record(
                owner="me", idempotency_key=IdempotencyKey("key", "body"), created_at=found.record.created_at
            )
            assert second.entries == [[(1, DESCRIBED), (2, text(1)), (3, ENDED)]]
            status = await second.journal.status("run-1")
            assert (status.state, status.is_waiting, status.summary.answers) == ("running", True, [ENDED])
            log = second.resume()
            status = await second.journal.status("run-1")
            assert (status.state, status.is_waiting, status.last_event_id) == ("running", False, 3)
            assert status.summary.answers == [ENDED]
            assert list((await second.journal.list("me", state="running")).job_ids) == ["run-1"]
            with pytest.raises(AlreadySubmitted):
                await begin(second.journal, "run-2", idempotency_key=IdempotencyKey("key", "body"))
            with pytest.raises(StillRunning):
                await second.journal.delete("run-1")


async def test_an_interrupted_run_is_claimed_once(place: SqlitePlace) -> None:
    async with serving_process(place) as first:
        await (await begin(first.journal)).commit(RunStarted(0))
    async with serving_process(place) as second:
        assert [found.record.job_id for found in second.found] == ["run-1"]
        assert not await second.journal.claim_interrupted()
        await second.resume().commit(END)
    async with serving_process(place) as third:
        assert not third.found


@pytest.mark.promise("W-48")
@pytest.mark.noisy
async def test_numbers_go_on_above_all_that_a_reader_can_have_seen(place: SqlitePlace) -> None:
    async with serving_process(place) as first:
        log = await begin(first.journal)
        await log.commit(RunStarted(0))
        cursor = await first.journal.open_cursor("run-1")
        for number in range(50):
            log.append(text(number))
        seen = list(await cursor.read())  # more than what is written, perhaps
        async with serving_process(place) as second:
            log = second.resume()
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


async def test_a_run_that_three_processes_carried_out_is_whole(place: SqlitePlace) -> None:
    events: list[Event] = []
    async with serving_process(place) as owner:
        log = await begin(owner.journal)
        for number in range(300):
            events.append(text(number))
            log.append(events[-1])
        await log.commit(RunStarted(0))
        events.append(RunStarted(0))
    for number in range(300, 302):
        async with serving_process(place) as owner:
            log = owner.resume()
            others = await begin(owner.journal, f"other-{number}")
            events += [text(number), RunStarted(number)]
            log.append(text(number))
            others.append(text(0))
            await log.commit(RunStarted(number))
            await others.commit(END)
    async with serving_process(place) as owner:
        await owner.resume().commit(END)
        entries = await owner.events()
        assert [event for _, event in entries] == [*events, END]
        numbers = [number for number, _ in entries]
        assert numbers == sorted(set(numbers))
        assert sum(after > before + 1 for before, after in pairwise(numbers)) == 3
        assert [event for _, event in await owner.events("other-300")] == [text(0), END]


async def test_a_new_run_has_nothing_of_a_deleted_one(place: SqlitePlace) -> None:
    async with serving_process(place) as owner:
        await (await begin(owner.journal, "long")).commit(RunStarted(0))
        log = await begin(owner.journal, "short")
        await log.commit(text(1))
        await log.commit(END)
        await owner.journal.delete("short")
    async with serving_process(place) as owner:
        await (await begin(owner.journal, "new")).commit(text(2))
    async with serving_process(place) as owner:
        entries = {
            found.record.job_id: [event for _, event in entries]
            for found, entries in zip(owner.found, owner.entries, strict=True)
        }
    assert entries == {"long": [RunStarted(0)], "new": [text(2)]}


async def test_a_run_that_had_only_begun_keeps_the_events_of_the_next_process(place: SqlitePlace) -> None:
    async with serving_process(place) as owner:
        for number in range(3):
            await finish(owner.journal, f"other-{number}", "x")
        await begin(owner.journal)
        await owner.journal.list("o")
    async with serving_process(place) as owner:
        await owner.resume().commit(text(1))
        await finish(owner.journal, "another", "x")
    async with serving_process(place) as owner:
        assert [event for _, event in owner.entries[0]] == [text(1)]


@pytest.mark.noisy
async def test_a_process_that_lost_the_directory_can_write_nothing(place: SqlitePlace) -> None:
    callbacks = RecordedCallbacks()
    async with serving_process(place) as old:
        log = await old.journal.submit(record(), callbacks)
        await log.commit(RunStarted(0))
        await finish(old.journal, "done", "x")
        async with serving_process(place) as new:
            resumed = new.resume()
            resumed.append(text(1))
            log.append(text(2))
            with pytest.raises(StorageUnavailable):
                await log.commit(text(3))
            with anyio.fail_after(5):
                await callbacks.failed.wait()
            with pytest.raises(StorageUnavailable):
                await log.commit(END)
            with pytest.raises(StorageUnavailable):
                await old.journal.delete("done")
            with pytest.raises(StorageUnavailable):
                await begin(old.journal, "run-2")
            assert not old.journal.is_healthy
            assert (await new.journal.status("run-1")).state == "running"
            await resumed.commit(END)
            assert [event for _, event in await new.events()] == [RunStarted(0), text(1), END]
            assert list((await new.journal.list("o")).job_ids) == ["done", "run-1"]
    async with serving_process(place) as newest:
        assert not newest.found
        assert [event for _, event in await newest.events()] == [RunStarted(0), text(1), END]


async def test_a_resumed_run_can_be_cancelled(place: SqlitePlace) -> None:
    async with serving_process(place) as owner:
        await (await begin(owner.journal)).commit(RunStarted(0))
    async with serving_process(place) as owner:
        callbacks = RecordedCallbacks()
        owner.resume(callbacks)
        await owner.journal.cancel("run-1")
        with anyio.fail_after(5):
            await callbacks.cancelled.wait()


async def test_a_run_that_is_handed_over_lets_its_readers_go_and_goes_on_in_the_next_process(
    place: SqlitePlace,
) -> None:
    seen: list[Entry] = []
    let_go = anyio.Event()

    async def read(cursor: Cursor) -> None:
        try:
            while True:
                seen.extend(await cursor.read())
        except HandedOver:
            let_go.set()

    async with serving_process(place) as owner:
        log = await begin(owner.journal)
        log.append(RunStarted(0))
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read, await owner.journal.open_cursor("run-1"))
                await anyio.wait_all_tasks_blocked()
                log.append(text(1))
                await log.hand_over()
                await let_go.wait()
            late = await owner.journal.open_cursor("run-1", after=1)
            assert list(await late.read()) == [(2, text(1))], "what there is can be read"
            with pytest.raises(HandedOver):
                await late.read()
        async with serving_process(place) as other:
            assert [seen] == list(other.entries) == [[(1, RunStarted(0)), (2, text(1))]]
            await other.resume().commit(END)
            assert (await other.journal.status("run-1")).state == "success"


async def test_deleted_runs_and_trimmed_events_stay_forgotten_after_reopening(place: SqlitePlace) -> None:
    async with serving_process(place) as owner:
        await finish(owner.journal, "deleted", idempotency_key=IdempotencyKey("key", "body"))
        await finish(owner.journal, "trimmed", *"abc")
        await owner.journal.delete("deleted")
        await owner.journal.trim("trimmed", 3)
    async with serving_process(place) as owner:
        with pytest.raises(NotFound):
            await owner.journal.status("deleted")
        await begin(owner.journal, "new", idempotency_key=IdempotencyKey("key", "other"))
        assert [number for number, _ in await owner.events("trimmed")] == [3, 4]
        assert (await owner.journal.status("trimmed")).first_event_id == 3
