"""Runs from their admission to their one end, whatever stops them."""

import gc
import sqlite3
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

import anyio
import pytest
from anyio.lowlevel import checkpoint

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.errors import NotFound, RunCancelled, StorageUnavailable, Unavailable
from swarmstream.events import Event, RunEnded, RunFailed, TextDelta, TurnEnded, TurnStarted
from swarmstream.journal.base import AlreadySubmitted, HandedOver, Log, RunCallbacks
from swarmstream.journal.memory import MemoryJournal
from swarmstream.journal.records import IdempotencyKey, RunRecord
from swarmstream.journal.sqlite.data_directory import FILE
from swarmstream.journal.sqlite.journal import SqliteJournal
from swarmstream.runs.job import Job
from swarmstream.runs.limits import RunLimits
from swarmstream.runs.run import Run
from swarmstream.runs.supervisor import Supervisor
from tests.fakes.clock import DrivenClock
from tests.fakes.scripted_model import ScriptedModel, swarm
from tests.runs.supervisors import supervisor_of

pytestmark = pytest.mark.anyio


class SlowLog:
    """A log that takes its time over what has to be safe, as one behind a network does."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.append = log.append
        self.append_hidden = log.append_hidden
        self.flush = log.flush
        self.discard = log.discard
        self.hand_over = log.hand_over

    async def commit(self, event: Event) -> int:
        for _ in range(3):
            await checkpoint()
        return await self._log.commit(event)


class SlowJournal(MemoryJournal):
    """The memory journal, as slow as one behind a network. `let_in` holds admission up."""

    def __init__(self) -> None:
        super().__init__(retain_seconds=60, retain_bytes=1 << 20)
        self.let_in = anyio.Event()
        self.let_in.set()

    async def submit(self, record: RunRecord, callbacks: RunCallbacks) -> Log:
        await self.let_in.wait()
        return SlowLog(await super().submit(record, callbacks))


def job(flow: str = "A -> B", on_disconnect: Literal["cancel", "continue"] = "cancel") -> Job:
    plan = swarm(flow).plan
    return Job(kind="swarm", plan=plan, owner="o", swarm_type="AgentRearrange", on_disconnect=on_disconnect)


@asynccontextmanager
async def supervising(
    model: ScriptedModel, *, limits: RunLimits | None = None, clock: Clock = SYSTEM_CLOCK
) -> AsyncGenerator[tuple[Supervisor, SlowJournal]]:
    journal = SlowJournal()
    with anyio.fail_after(30):
        async with supervisor_of(journal, {"scripted": model}, limits or RunLimits(), clock=clock) as supervisor:
            yield supervisor, journal
    await journal.close()


async def events_of(journal: SlowJournal, run: Run) -> list[Event]:
    tail = await journal.open_cursor(run.job_id)
    events: list[Event] = []
    with anyio.fail_after(30):
        while not (events and isinstance(events[-1], RunEnded)):
            events += [event for _, event in await tail.read()]
    return events


def outcome(events: list[Event]) -> tuple[str, str | None]:
    """The end's status, and the code of what the run itself failed with."""
    assert [isinstance(event, RunEnded) for event in events].count(True) == 1
    end = events[-1]
    assert isinstance(end, RunEnded)
    return end.status, next((event.failure.code for event in events if isinstance(event, RunFailed)), None)


async def test_a_run_can_be_cancelled_through_the_journal() -> None:
    async with supervising(ScriptedModel({"A": ["a", "a"], "B": ["b"]}, order="A-")) as (supervisor, journal):
        run = await supervisor.start(job())
        await journal.cancel(run.job_id)
        events = await events_of(journal, run)
    assert outcome(events) == ("cancelled", "cancelled")


async def test_a_run_that_is_cancelled_before_it_began_starts_no_turn() -> None:
    model = ScriptedModel({"A": ["a"], "B": ["b"]})
    async with supervising(model) as (supervisor, journal):
        run = await supervisor.start(job("A, B"))
        run.stop(RunCancelled("now"))
        events = await events_of(journal, run)
    assert outcome(events) == ("cancelled", "cancelled")
    assert not [event for event in events if isinstance(event, TurnStarted)]
    assert not model.calls


async def test_a_run_that_is_cancelled_with_a_turns_last_token_starts_no_later_turn() -> None:
    model = ScriptedModel({"A": ["a"], "B": ["b"]})
    async with supervising(model) as (supervisor, journal):
        run = await supervisor.start(job(on_disconnect="continue"))
        tail = await journal.open_cursor(run.job_id)
        while not any(isinstance(event, TextDelta) for _, event in await tail.read()):
            pass
        run.stop(RunCancelled("now"))
        events = await events_of(journal, run)
    assert outcome(events) == ("cancelled", "cancelled")
    assert [call.model.target for call in model.calls] == ["A"]


async def test_the_first_reason_to_stop_counts() -> None:
    async with supervising(ScriptedModel({"A": ["a"], "B": ["b"]}, order="-")) as (supervisor, journal):
        run = await supervisor.start(job())
        run.stop(RunCancelled("first"))
        await supervisor.drain(0)
        events = await events_of(journal, run)
    assert outcome(events) == ("cancelled", "cancelled")


async def test_a_turn_that_is_cut_has_its_end_in_the_journal_however_slow() -> None:
    async with supervising(ScriptedModel({"A": ["a", "a"], "B": ["b"]}, order="A-")) as (supervisor, journal):
        run = await supervisor.start(job())
        tail = await journal.open_cursor(run.job_id)
        while not any(isinstance(event, TextDelta) for _, event in await tail.read()):
            pass
        await supervisor.drain(0)
        events = await events_of(journal, run)
    assert outcome(events) == ("interrupted", "interrupted")
    assert [event.status for event in events if isinstance(event, TurnEnded)] == ["cancelled"]


async def test_a_run_that_is_admitted_while_the_server_stops_is_interrupted_not_lost() -> None:
    async with supervising(ScriptedModel({"A": ["a"], "B": ["b"]})) as (supervisor, journal):
        journal.let_in = anyio.Event()
        runs: list[Run] = []

        async def admit() -> None:
            runs.append(await supervisor.start(job()))

        async def drain() -> None:
            await supervisor.drain(0)
            assert runs[0].summary.ended, "no run is left when the drain is over"

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(admit)
            await checkpoint()
            tasks.start_soon(drain)
            await checkpoint()
            journal.let_in.set()
        events = await events_of(journal, runs[0])
        with pytest.raises(Unavailable):
            await supervisor.start(job())
    assert outcome(events) == ("interrupted", "interrupted")
    assert not supervisor.is_ready


async def test_a_reader_that_comes_back_in_time_keeps_the_run() -> None:
    clock = DrivenClock()
    model = ScriptedModel({"A": ["a"], "B": ["b"]}, order="-A")
    async with supervising(model, limits=RunLimits(disconnect_grace_seconds=10), clock=clock) as (supervisor, journal):
        run = await supervisor.start(job("A"))
        with run.presence.reader():
            await checkpoint()
        await clock.advance(9)
        with run.presence.reader():
            await clock.advance(30)  # three times the grace: had the timer gone on, the run would be over
            model.skip()
            events = await events_of(journal, run)
    assert outcome(events) == ("success", None)


async def test_a_forgotten_run_is_freed_without_the_garbage_collector() -> None:
    journal = MemoryJournal(retain_seconds=60, retain_bytes=0)
    gc.collect()
    gc.disable()
    try:
        async with supervisor_of(journal, {"scripted": ScriptedModel({"A": ["a"]})}, RunLimits()) as supervisor:
            run = weakref.ref(await supervisor.start(job("A")))
            await supervisor.drain(5)
            await anyio.wait_all_tasks_blocked()
            assert run() is None
    finally:
        gc.enable()


@pytest.mark.noisy
async def test_a_run_whose_beginning_cannot_be_written_is_refused_and_frees_its_key(tmp_path: Path) -> None:
    """Nor a reader: whoever repeated the request meanwhile is let go."""
    model = ScriptedModel({"A": ["a"]})
    keyed = replace(job("A", on_disconnect="continue"), idempotency_key=IdempotencyKey("key", "body"))
    journal = SqliteJournal(tmp_path, retain_seconds=60, retain_bytes=1 << 20)
    await journal.open()
    with anyio.fail_after(60):
        async with supervisor_of(journal, {"scripted": model}, RunLimits()) as supervisor:
            with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
                other.execute("DROP TABLE runs")  # what is written next fails
                outcomes: list[str] = []

                async def start() -> None:
                    with pytest.raises(StorageUnavailable):
                        await supervisor.start(keyed)
                    outcomes.append("refused")

                async def read() -> None:
                    [job_id] = list(supervisor._live._runs)  # pyright: ignore[reportPrivateUsage]
                    tail = await journal.open_cursor(job_id)
                    assert not tail.read_nowait(), "nothing is shown of what is not kept"
                    with pytest.raises(HandedOver):
                        await tail.read()
                    outcomes.append("let go")

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(start)
                    tasks.start_soon(start)
                    tasks.start_soon(read)
            assert sorted(outcomes) == ["let go", "refused", "refused"]
            await supervisor.drain(5)  # nothing goes on
        await journal.close()


async def test_a_repeated_request_is_its_run_also_where_there_is_room_for_no_other() -> None:
    model = ScriptedModel({"A": ["a"]}, order="-")
    keyed = replace(job("A", on_disconnect="continue"), idempotency_key=IdempotencyKey("key", "body"))
    async with supervising(model, limits=RunLimits(max_runs=1)) as (supervisor, _):
        run = await supervisor.start(keyed)
        with pytest.raises(AlreadySubmitted) as known:
            await supervisor.start(keyed)
        with pytest.raises(Unavailable):
            await supervisor.start(job("A"))
        await supervisor.drain(0)
        with pytest.raises(AlreadySubmitted):
            await supervisor.start(keyed)
    assert known.value.job_id == run.job_id


async def test_looking_for_a_keys_run_before_the_journal_is_open_is_refused_for_now(tmp_path: Path) -> None:
    """Then no key is known yet, and a run that is stored must not be denied."""
    key = IdempotencyKey(key="key", body="body")
    journal = SqliteJournal(tmp_path, retain_seconds=60, retain_bytes=1 << 20)
    async with supervisor_of(journal, {}, RunLimits()) as supervisor:
        with pytest.raises(StorageUnavailable):
            await supervisor.keyed_runs.require(key)
        await journal.open()
        with pytest.raises(NotFound):
            await supervisor.keyed_runs.require(key)
    await journal.close()
