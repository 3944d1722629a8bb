"""A journal on SQLite: live runs are read from memory and written behind, finished ones are read from the file.

One process serves a data directory. Its writer is a thread: what has gathered within 20 ms, of all runs, is one batch
in one transaction; what somebody waits for, or readers are not to see before it is safe, is written at the end of the
event loop's present round. When a run ends, its events are written once more, together, and its batches go.

What a process finds of another (`_take_over`):

- Each opening raises the directory's epoch. A writer with an older one can write nothing more.
- A run in progress is claimed by the same transaction: its next event's number is written down as at least a million
  more than any number known of it, and at least the microseconds since 1970. So no number is used by two lives of a
  run, not if the first could not write, and not if the directory was put back to an earlier state.
- Until it goes on, it waits: its book is empty and hidden, its readers wait.

Where writing fails, live runs are closed (`Book.close`): their readers are let go, their writers told to stop. All that
was appended is kept and tried again; what is written is shown.
"""

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from anyio import Event as Flag
from anyio import to_thread

from swarmstream.clock import SYSTEM_CLOCK, Clock, Timer
from swarmstream.errors import NotFound, StillRunning, StorageUnavailable
from swarmstream.events import CustomEvent, Event, ReasoningDelta, RunEnded, TextDelta, ToolEnded, ToolStarted
from swarmstream.journal.base import (
    Cursor,
    DirectoryInUse,
    Entry,
    IdempotencyKey,
    InterruptedRun,
    Log,
    Page,
    RunRecord,
    RunState,
    RunStatus,
)
from swarmstream.journal.checksums import Damaged
from swarmstream.journal.codec import Noted
from swarmstream.journal.event_log import EventLog, nothing
from swarmstream.journal.idempotency import IdempotencyIndex
from swarmstream.journal.sqlite.data_directory import take_lock
from swarmstream.journal.sqlite.live import ClosedTail, LiveRun
from swarmstream.journal.sqlite.reader import FileReader
from swarmstream.journal.sqlite.store import Ending, Store, StoredInterruptedRun
from swarmstream.journal.sqlite.stored_run import StoredRun
from swarmstream.journal.sqlite.upkeep import RetentionLimits, Upkeep
from swarmstream.journal.sqlite.writer import Task, Writer
from swarmstream.journal.summary import Summary
from swarmstream.places import Places
from swarmstream.shares import current_owner

logger = logging.getLogger(__name__)

_BATCH_SECONDS = 0.02
_BATCH_EVENTS = 256
_RETRY_SECONDS = 1.0
_READS = 8
"""Reads that are in threads at once, one of them in the file: however many one owner asks for, others come soon."""
_OPENED_RUNS = 16
"""Finished runs that are kept in memory for their next reader."""
_LEFT_OUT = (TextDelta, ReasoningDelta, ToolStarted, ToolEnded, CustomEvent)
"""Of an outline: what answers are not made of."""

ResultT = TypeVar("ResultT")
Durability: TypeAlias = Literal["process", "host"]
"""What the ends of runs, idempotency keys and the claims of a new process outlive once they are said to be safe."""


class SqliteJournal:
    """The runs of a data directory, which is taken when the journal is made.

    Raises:
        DirectoryInUse: another process has it.
    """

    survives = True

    def __init__(
        self,
        folder: Path,
        *,
        retain_seconds: float,
        retain_bytes: int,
        durability: Durability = "process",
        expires_all: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._folder = folder
        self._outlives_host = durability == "host"
        self._clock = clock
        self._live: dict[str, LiveRun] = {}
        self._opened: OrderedDict[str, EventLog] = OrderedDict()
        self._claims = IdempotencyIndex(clock)
        self._next_run = 1
        self._next_batch = 1
        self._begun: list[Callable[[Store], None]] = []
        """What writes the runs down that have begun since the last batch."""
        self._pending: list[Noted] = []
        self._hiding: dict[int, EventLog] = {}
        """The books that show more once what is pending is written, by the numbers of their runs."""
        self._waiting: list[asyncio.Future[Any]] = []
        """Resolved once what is pending is written."""
        self._claims_begin = False
        """Whether a run with a claim is among those that have begun."""
        self._flush_timer: Timer | None = None
        self._flush_is_due = False
        """Whether it comes at the end of this round of the event loop."""
        self._retry_timer: Timer | None = None
        self._opening: _Opening | None = None
        self._is_open = Flag()
        self._unfinished: Sequence[InterruptedRun] = ()
        self._lock: int | None = None
        try:
            self._lock = take_lock(folder)
        except OSError as error:
            logger.warning("the data directory cannot be used: %s", error)
        self._reader = FileReader(folder)
        self._reading_places = Places(_READS)
        self._upkeep = Upkeep(
            folder,
            RetentionLimits(retain_seconds, retain_bytes, expires_all),
            clock,
            put=lambda task: self._writer.put(task),
            is_healthy=lambda: self.healthy,
            forget=self._forget,
        )

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(self._folder, self._loop, self._on_health)
        self._writer.start()
        try:
            await self._write(self._begin, is_tried_again=True, outlives_host=True, done=self._take_over)
        except StorageUnavailable:
            logger.warning("the data directory %s cannot be written: no run can begin", self._folder)

    @property
    def is_open(self) -> bool:
        return self._opening is not None

    @property
    def healthy(self) -> bool:
        return self._opening is not None and self._writer.is_healthy

    def look_up(self, claim: IdempotencyKey | None) -> None:
        self._claims.look_up(claim)

    async def submit(
        self, record: RunRecord, *, on_cancel: Callable[[], None], on_failure: Callable[[], None] = nothing
    ) -> Log:
        if self._opening is None or not self.healthy:
            raise StorageUnavailable(
                "the server cannot write anything down at present", retry_after_seconds=_RETRY_SECONDS
            )
        self._claims.take(record.claim, record.job_id)
        live = LiveRun(self._next_run, EventLog(record, on_cancel=on_cancel), on_failure)
        self._next_run += 1
        self._live[record.job_id] = live
        epoch, first_batch = self._opening.epoch, self._next_batch

        def add(store: Store) -> None:
            if live.is_withdrawn:
                store.delete_run(record.job_id)  # it may have been written although that seemed to fail
            else:
                store.add_run(live.no, record, epoch=epoch, first_batch=first_batch)

        # Written with the run's first events, whose commit waits for it.
        self._begun.append(add)
        self._claims_begin = self._claims_begin or record.claim is not None
        return _Log(self, live)

    async def tail(self, job_id: str, *, after: int = 0) -> Cursor:
        return (await self._book(job_id)).tail(after)

    def opening_tail(self) -> Cursor:
        return ClosedTail(self._is_open)

    async def status(self, job_id: str, *, owner: str | None = None) -> RunStatus:
        live = self._live.get(job_id)
        if live is not None and owner in (None, live.book.record.owner):
            return live.status()
        stored = await self._read(lambda store: store.run(job_id, owner=owner), of=job_id)
        if stored is None:
            raise _no_such_run()
        return self._status(stored)

    async def list(
        self, owner: str, *, state: RunState | None = None, limit: int = 20, after: str | None = None
    ) -> Page:
        def read(store: Store) -> tuple[list[str], bool]:
            before = None
            if after is not None and (before := store.number(after, owner=owner)) is None:
                raise _no_such_run()
            return store.page(owner, state=state, limit=limit, before=before)

        if self._begun and self.healthy:
            await self.safe()  # whoever has begun a run finds it here
        return Page(*await self._read(read))

    async def cancel(self, job_id: str) -> None:
        if (live := self._live.get(job_id)) is not None:
            live.book.on_cancel()
        else:
            await self.status(job_id)

    async def delete(self, job_id: str) -> None:
        status = await self.status(job_id)
        if status.state == "running":
            raise StillRunning("the run goes on; cancel it first")
        damages: list[Damaged] = []

        def delete(store: Store) -> None:
            try:
                store.delete_run(job_id)
            except Damaged as damage:
                damages.append(damage)
            store.space.truncate_soon()

        await self._write(delete)
        if damages:
            raise _unreadable(job_id, str(damages[0]))
        self._forget(job_id, status.record.claim)

    async def admit_token(self, job_id: str, digest: bytes) -> None:
        if self._begun:
            self.flush()  # the run's row is written first
        is_there: list[bool] = []
        await self._write(lambda store: is_there.append(store.admit_token(job_id, digest)))
        if not any(is_there):
            raise _no_such_run()

    async def has_admitted(self, job_id: str, digest: bytes) -> bool:
        return await self._read(lambda store: store.has_admitted(job_id, digest))

    async def trim(self, job_id: str, before: int) -> None:
        book = await self._book(job_id)
        book.trim(before)
        stored = await self._read(lambda store: store.run(job_id), of=job_id)
        if stored is not None and stored.state != "running":
            entries = list(book.entries)
            await self._write(lambda store: store.trim_run(stored.no, entries))

    async def unfinished(self) -> Sequence[InterruptedRun]:
        await self._is_open.wait()
        found, self._unfinished = self._unfinished, ()
        return found

    async def close(self) -> None:
        self._upkeep.stop()
        for timer in (self._flush_timer, self._retry_timer):
            if timer is not None:
                timer.cancel()
        self.flush()
        await to_thread.run_sync(self._reader.close)  # first: whoever closes last folds the WAL in, and must be able to
        await to_thread.run_sync(self._writer.stop)
        await asyncio.sleep(0)  # what the writer told last is heard
        for live in self._live.values():
            if live.is_ending:
                logger.error(
                    "the end of run %s could not be written: the next start takes it up", live.book.record.job_id
                )
        if self._lock is not None:
            os.close(self._lock)

    # For its logs.

    def append(self, live: LiveRun, event: Event) -> int:
        """Add an event of a live run, to be written within a moment; its number."""
        number = live.book.append(event)
        self._pending.append((live.no, number, event))
        if self._flush_timer is None:
            self._flush_timer = self._clock.call_later(_BATCH_SECONDS, self.flush)
        elif len(self._pending) >= _BATCH_EVENTS:
            self.flush()
        return number

    def append_hidden(self, live: LiveRun, event: Event) -> int:
        """Add an event of a live run, to be shown once it is written; its number."""
        number = live.book.append_hidden(event)
        self._pending.append((live.no, number, event))
        self._hiding[live.no] = live.book
        self._flush_soon()
        return number

    def flush(self) -> None:
        """Hand on to the writer what has gathered."""
        self._flush_is_due = False
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        if not self._pending and not self._begun and not self._waiting:
            return
        begun, self._begun = self._begun, []
        events, self._pending = self._pending, []
        waiting, self._waiting = self._waiting, []
        shown = [(book, book.end_place) for book in self._hiding.values()]
        self._hiding.clear()
        outlives_host, self._claims_begin = self._outlives_host and self._claims_begin, False
        batch = self._next_batch
        self._next_batch += 1

        def add(store: Store) -> None:
            for begin in begun:
                begin(store)
            if events:
                store.add_batch(batch, events)

        def show() -> None:
            for book, place in shown:
                book.show(place)

        self._writer.put(
            Task(
                add,
                waiting,
                is_tried_again=True,
                outlives_host=outlives_host,
                done=show if shown else nothing,
                alone=None if begun or not events or outlives_host else (batch, events),
            )
        )

    async def safe(self) -> None:
        """Return once all that was appended is safe.

        Raises:
            StorageUnavailable: it is not.
        """
        written: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(written)
        self._flush_soon()
        await written

    async def end(self, live: LiveRun, event: RunEnded) -> None:
        """Write the end of a run, and show it. From then on, who holds a cursor reads on, and others read the file.

        Raises:
            StorageUnavailable: it is tried again until it is written, and not yet.
        """
        book = live.book
        entries = [*book.entries, (book.next_number, event)]
        if self._begun:
            self.flush()
        self._pending = [noted for noted in self._pending if noted[0] != live.no]
        self._hiding.pop(live.no, None)
        ending = Ending(
            no=live.no,
            record=book.record,
            state=event.status,
            ended_at=self._clock.unix(),
            entries=entries,
            outline=[entry for entry in entries if not isinstance(entry[1], _LEFT_OUT)],
            next_batch=self._next_batch,
        )
        # They hold the run, and the run holds us: only the garbage collector would part us.
        live.on_failure = book.on_cancel = nothing
        live.is_ending = True

        size = 0

        def write(store: Store) -> None:
            nonlocal size
            if not live.is_withdrawn:
                size = store.end_run(ending)

        def show() -> None:
            self._live.pop(book.record.job_id, None)
            self._upkeep.ended(size)
            book.end(event)

        await self._write(write, is_tried_again=True, outlives_host=self._outlives_host, done=show)

    def withdraw(self, live: LiveRun) -> None:
        """Forget a run of which nothing was shown."""
        record = live.book.record
        live.is_withdrawn = True
        live.on_failure = live.book.on_cancel = nothing
        live.book.suspend()  # whoever repeated the request may wait for its first event
        self._live.pop(record.job_id, None)
        self._hiding.pop(live.no, None)
        self._pending = [noted for noted in self._pending if noted[0] != live.no]
        self._claims.drop(record.claim, record.job_id)
        # The writer may have written it since, for it tries again by itself.
        self._writer.put(Task(lambda store: store.delete_run(record.job_id), is_tried_again=True))

    def cleared(self, no: int) -> None:
        """The run goes on that was taken up."""
        self._begun.append(lambda store: store.clear_attempts(no))
        self._flush_soon()

    def count_attempt(self, no: int, times: int) -> None:
        """Taking the run up counts so many times more."""
        self._begun.append(lambda store: store.count_attempt(no, times))
        self._flush_soon()

    async def load(self, no: int) -> RunRecord:
        """The whole record of a run that is about to be taken up, which counts as an attempt.

        Raises:
            Damaged: it cannot be read.
        """
        record = await self._reader.read(lambda store: store.record(no))
        await self._write(lambda store: store.count_attempt(no, 1))
        return record

    # Its own.

    def _begin(self, store: Store) -> None:
        """What the writer does first, as soon as it can."""
        if self._lock is None:
            try:
                self._lock = take_lock(self._folder)
            except DirectoryInUse as error:
                raise OSError(str(error)) from error
        epoch = store.next_epoch()
        unfinished = store.claim_unfinished(self._clock.unix())
        self._found = _Opening(epoch, store.last_numbers(), unfinished, store.claims(), store.retention.finished())

    def _take_over(self) -> None:
        """What the writer found is ours."""
        opening = self._opening = self._found
        self._writer.epoch = opening.epoch
        last_run, last_batch = opening.last_numbers
        self._next_run, self._next_batch = last_run + 1, max(self._next_batch, last_batch + 1)
        waiting, self._live = self._live, {}
        for run in opening.unfinished:
            job_id = run.record.job_id
            live = waiting.pop(job_id, None) or LiveRun.waiting(run.no, run.record)
            live.no = run.no
            live.book.preview(_outline(run))
            self._live[job_id] = live
        for live in waiting.values():  # its readers came while another process had the directory, and ended the run
            live.book.suspend()
        self._unfinished = [_InterruptedRun(self, run, self._live[run.record.job_id]) for run in opening.unfinished]
        for claim, job_id in opening.claims:
            self._claims.take(claim, job_id)
        self._upkeep.begin(*opening.finished)
        self._is_open.set()

    async def _book(self, job_id: str) -> EventLog:
        if (live := self._live.get(job_id)) is not None:
            return live.book
        if (opened := self._opened.get(job_id)) is not None:
            self._opened.move_to_end(job_id)
            return opened

        def read(store: Store) -> tuple[StoredRun, list[Entry]]:
            run = store.run(job_id)
            if run is None:
                raise _no_such_run()
            return run, store.events(run) if run.state != "running" else []

        run, entries = await self._read(read, of=job_id)
        if (live := self._live.get(job_id)) is not None:
            return live.book
        if run.state == "running" and self._opening is not None:
            raise _no_such_run()  # it is withdrawn
        if run.state == "running":  # and nobody has taken it up: we have not taken the directory over yet
            live = self._live[job_id] = LiveRun.waiting(run.no, replace(run.record, body=b""))
            return live.book
        book = EventLog(run.record)
        book.restore(entries, next_number=run.last_event_id + 1)
        self._opened[job_id] = book
        while len(self._opened) > _OPENED_RUNS:
            self._opened.popitem(last=False)
        return book

    def _status(self, run: StoredRun) -> RunStatus:
        if (live := self._live.get(run.record.job_id)) is not None:
            return live.status()
        if run.fault is not None:
            logger.error("run %s cannot be read: %s", run.record.job_id, run.fault)
        summary = Summary()
        for _, event in run.outline:
            summary.observe(event)
        return RunStatus(
            run.record,
            run.state,
            summary,
            run.last_event_id,
            run.first_event_id,
            ended_at=run.ended_at,
            is_waiting=run.state == "running",
            fault=run.fault,
        )

    async def _read(self, read: Callable[[Store], ResultT], *, of: str = "") -> ResultT:
        """What is stored, `of` a run or of many.

        Raises:
            StorageUnavailable: it cannot be read.
        """
        owner = current_owner.get()
        await self._reading_places.take(owner)
        try:
            return await self._reader.read(read)
        except Damaged as damage:
            raise _unreadable(of, str(damage)) from damage
        finally:
            self._reading_places.give_back(owner)

    async def _write(
        self,
        write: Callable[[Store], object],
        *,
        is_tried_again: bool = False,
        outlives_host: bool = False,
        done: Callable[[], object] = nothing,
    ) -> None:
        written: asyncio.Future[Any] = self._loop.create_future()
        self._writer.put(Task(write, [written], is_tried_again, outlives_host=outlives_host, done=done))
        await written

    def _flush_soon(self) -> None:
        """Flush at the end of the event loop's round: others that are about to wait share the write."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush)

    def _forget(self, job_id: str, claim: IdempotencyKey | None) -> None:
        """The run is not in the file any more."""
        self._opened.pop(job_id, None)
        self._claims.drop(claim, job_id)

    def _on_health(self, is_healthy: bool) -> None:
        """The writer has begun to fail, or to succeed."""
        if is_healthy:
            logger.info("the data directory can be written again")
            return
        if self._retry_timer is not None:
            self._retry_timer.cancel()
        self._retry_timer = self._clock.call_later(_RETRY_SECONDS, self._try_again)
        for live in list(self._live.values()):
            if live.is_carried_out:
                live.close()

    def _try_again(self) -> None:
        if not self._writer.is_healthy:
            self._writer.try_again()
            self._retry_timer = self._clock.call_later(_RETRY_SECONDS, self._try_again)


@dataclass(frozen=True, slots=True)
class _Opening:
    """What a process finds in the directory that it takes."""

    epoch: int
    last_numbers: tuple[int, int]
    unfinished: Sequence[StoredInterruptedRun]
    claims: Sequence[tuple[IdempotencyKey, str]]
    finished: tuple[int, float | None]
    """The bytes of all runs that have ended, and when the last of them did."""


class _Log:
    """The writer's end of a run."""

    def __init__(self, journal: SqliteJournal, live: LiveRun) -> None:
        self._journal = journal
        self._live = live

    def append(self, event: Event) -> int:
        return self._journal.append(self._live, event)

    def append_hidden(self, event: Event) -> int:
        return self._journal.append_hidden(self._live, event)

    async def commit(self, event: Event) -> int:
        if isinstance(event, RunEnded):
            number = self._live.book.next_number
            await self._journal.end(self._live, event)
        else:
            number = self._journal.append_hidden(self._live, event)
            await self._journal.safe()
        return number

    async def safe(self) -> None:
        await self._journal.safe()

    def withdraw(self) -> None:
        self._journal.withdraw(self._live)

    async def suspend(self) -> None:
        try:
            await self._journal.safe()
        finally:
            self._live.book.suspend()


class _InterruptedRun:
    """A run of a process that is gone."""

    def __init__(self, journal: SqliteJournal, found: StoredInterruptedRun, live: LiveRun) -> None:
        self._journal = journal
        self._found = found
        self._live = live
        self.record = found.record
        self.attempts = found.attempts
        self.fault = found.fault
        self._entries: Sequence[Entry] = ()

    async def load(self) -> tuple[RunRecord, Sequence[Entry]]:
        entries: list[Entry] = []
        try:
            if self.fault is None:
                self.record = await self._journal.load(self._found.no)
            entries += (packed.entry() for packed in self._found.packed)
        except Damaged as damage:
            self.fault = str(damage)
        self._entries = entries
        return self.record, entries

    def count_attempt(self, times: int) -> None:
        self._journal.count_attempt(self._found.no, times)

    def go_on(self, *, on_cancel: Callable[[], None], on_failure: Callable[[], None]) -> Log:
        if not self._journal.healthy:
            raise StorageUnavailable("the run cannot go on at present", retry_after_seconds=_RETRY_SECONDS)
        found = self._found
        self._live.take_up(self.record, self._entries, found.next_event_id, on_cancel, on_failure)
        found.packed, self._entries = [], ()
        self._journal.cleared(found.no)
        return _Log(self._journal, self._live)


def _outline(run: StoredInterruptedRun) -> list[Entry]:
    """What answers are made of, as far as it can be read."""
    entries: list[Entry] = []
    with suppress(Damaged):
        entries += (packed.entry() for packed in run.packed if not packed.is_of(_LEFT_OUT))
    return entries


def _unreadable(job_id: str, why: str) -> StorageUnavailable:
    logger.error("run %s cannot be read: %s", job_id, why)
    return StorageUnavailable("what is stored of this run is damaged and cannot be read")


def _no_such_run() -> NotFound:
    return NotFound("there is no such run")
