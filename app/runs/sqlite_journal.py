"""A journal on SQLite: live runs are read from memory and written behind, finished ones are read from the file.

One process serves a data directory. Its writer is a thread: what has gathered within 20 ms, of all runs, is one batch
in one transaction. When a run ends, its events are written once more, together, and its batches go.
"""

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from anyio import to_thread

from app.clock import SYSTEM_CLOCK, Clock
from app.errors import NotFound, StillRunning, StorageUnavailable
from app.events import CustomEvent, Event, ReasoningDelta, RunEnded, TextDelta, ToolEnded, ToolStarted
from app.runs.book import Book, nothing
from app.runs.checksums import Damaged
from app.runs.data_directory import take_lock
from app.runs.journal import Claim, DirectoryInUse, Entry, Log, Page, RunRecord, RunState, RunStatus, Tail, Unfinished
from app.runs.memory_journal import Claims
from app.runs.packing import Noted
from app.runs.sqlite_reader import Reader
from app.runs.sqlite_store import Ending, Store
from app.runs.sqlite_upkeep import RetentionLimits, Upkeep
from app.runs.sqlite_writer import Task, Writer
from app.runs.stored_run import StoredRun
from app.runs.summary import Summary

logger = logging.getLogger(__name__)

_BATCH_SECONDS = 0.02
_BATCH_EVENTS = 256
_NUMBERS_SKIPPED = 1_000_000
"""Between the last event that was written of a run and the first after its recovery: more than readers can have seen
that was not."""
_OPENED_RUNS = 16
"""Finished runs that are kept in memory for their next reader."""
_LEFT_OUT = (TextDelta, ReasoningDelta, ToolStarted, ToolEnded, CustomEvent)
"""Of an outline: what answers are not made of."""

ResultT = TypeVar("ResultT")


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
        expires_all: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._live: dict[str, _LiveBook] = {}
        self._opened: OrderedDict[str, Book] = OrderedDict()
        self._claims = Claims()
        self._next_run = 1
        self._next_batch = 1
        self._begun: list[Callable[[Store], None]] = []
        """What writes the runs down that have begun since the last batch."""
        self._pending: list[Noted] = []
        self._flush_timer: asyncio.TimerHandle | None = None
        self._opening: _Opening | None = None
        self._recovered: Sequence[tuple[StoredRun, list[Entry]]] = ()
        self._lock: int | None = None
        try:
            self._lock = take_lock(folder)
        except OSError as error:
            logger.warning("the data directory cannot be used: %s", error)
        self._reader = Reader(folder)
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
            await self._write(self._begin, is_tried_again=True, done=self._take_over)
        except StorageUnavailable:
            logger.warning("the data directory %s cannot be written: no run can begin", self._folder)

    @property
    def healthy(self) -> bool:
        return self._opening is not None and self._writer.is_healthy

    async def submit(
        self, record: RunRecord, *, on_cancel: Callable[[], None], on_failure: Callable[[], None] = nothing
    ) -> Log:
        if self._opening is None or not self.healthy:
            raise StorageUnavailable("the server cannot write anything down at present")
        self._claims.take(record.claim, record.job_id)
        no = self._next_run
        self._next_run += 1
        first_batch = self._next_batch
        book = _LiveBook(no, Book(record, on_cancel=on_cancel), on_failure)
        self._live[record.job_id] = book
        epoch = self._opening.epoch

        # Written with the run's first events, whose commit waits for it.
        self._begun.append(lambda store: store.add_run(no, record, epoch=epoch, first_batch=first_batch))
        return _Log(self, book)

    async def tail(self, job_id: str, *, after: int = 0) -> Tail:
        return (await self._book(job_id)).tail(after)

    async def status(self, job_id: str) -> RunStatus:
        if (live := self._live.get(job_id)) is not None:
            return live.book.status()
        stored = await self._read(lambda store: store.run(job_id), of=job_id)
        if stored is None:
            raise _no_such_run()
        return self._status(stored)

    async def list(
        self, owner: str, *, state: RunState | None = None, limit: int = 20, after: str | None = None
    ) -> Page:
        def read(store: Store) -> tuple[list[StoredRun], bool]:
            before = None
            if after is not None:
                last = store.run(after)
                if last is None or last.record.owner != owner:
                    raise _no_such_run()
                before = last.no
            return store.page(owner, state=state, limit=limit, before=before)

        if self._begun and self.healthy:
            await self.safe()  # whoever has begun a run finds it here
        runs, has_more = await self._read(read)
        return Page([self._status(run) for run in runs], has_more)

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

    async def trim(self, job_id: str, before: int) -> None:
        book = await self._book(job_id)
        book.trim(before)
        stored = await self._read(lambda store: store.run(job_id), of=job_id)
        if stored is not None and stored.state != "running":
            entries = list(book.entries)
            await self._write(lambda store: store.trim_run(stored.no, entries))

    async def unfinished(self) -> Sequence[Unfinished]:
        found, self._recovered = self._recovered, ()
        claimed: list[Unfinished] = []
        for run, entries in found:
            book = Book(run.record)
            last = entries[-1][0] if entries else 0
            book.restore(entries, next_number=last + _NUMBERS_SKIPPED)
            live = self._live[run.record.job_id] = _LiveBook(run.no, book, nothing)
            if run.fault is not None:
                logger.error("run %s was in progress and cannot go on: %s", run.record.job_id, run.fault)
            claimed.append(Unfinished(run.record, list(entries), self._go_on(live), run.fault))
        return claimed

    def _go_on(self, live: "_LiveBook") -> Callable[[Callable[[], None], Callable[[], None]], Log]:
        def go_on(on_cancel: Callable[[], None], on_failure: Callable[[], None]) -> Log:
            live.book.on_cancel, live.on_failure = on_cancel, on_failure
            return _Log(self, live)

        return go_on

    async def close(self) -> None:
        self._upkeep.stop()
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        self.flush()
        await to_thread.run_sync(self._reader.close)  # first: whoever closes last folds the WAL in, and must be able to
        await to_thread.run_sync(self._writer.stop)
        if self._lock is not None:
            os.close(self._lock)

    # For its logs.

    def note(self, no: int, number: int, event: Event) -> None:
        """An event of a live run, to be written within a moment."""
        self._pending.append((no, number, event))
        if self._flush_timer is None:
            self._flush_timer = self._loop.call_later(_BATCH_SECONDS, self.flush)
        elif len(self._pending) >= _BATCH_EVENTS:
            self.flush()

    def flush(self, written: asyncio.Future[Any] | None = None) -> None:
        """Hand on to the writer what has gathered; `written` is resolved once it is safe."""
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        if not self._pending and not self._begun and written is None:
            return
        begun, self._begun = self._begun, []
        events, self._pending = self._pending, []
        batch = self._next_batch
        self._next_batch += 1

        def add(store: Store) -> None:
            for begin in begun:
                begin(store)
            if events:
                store.add_batch(batch, events)

        alone = None if begun or not events else (batch, events)
        self._writer.put(Task(add, written, is_tried_again=True, alone=alone))

    async def safe(self) -> None:
        """Return once all that was noted is safe.

        Raises:
            StorageUnavailable: it is not.
        """
        written: asyncio.Future[Any] = self._loop.create_future()
        self.flush(written)
        await written

    async def end(self, live: "_LiveBook", event: RunEnded) -> None:
        """Write the end of a run. From then on, who holds a cursor reads on, and others read the file.

        Raises:
            StorageUnavailable: it is tried again until it is written, and not yet.
        """
        book = live.book
        entries = [*book.entries, (book.next_number, event)]
        if self._begun:
            self.flush()
        self._pending = [noted for noted in self._pending if noted[0] != live.no]
        ending = Ending(
            no=live.no,
            record=book.record,
            state=event.status,
            ended_at=self._clock.unix(),
            entries=entries,
            outline=[entry for entry in entries if not isinstance(entry[1], _LEFT_OUT)],
            next_batch=self._next_batch,
        )
        size = 0

        def write(store: Store) -> None:
            nonlocal size
            size = store.end_run(ending)

        def let_go() -> None:
            self._live.pop(book.record.job_id, None)
            self._upkeep.ended(size)

        await self._write(write, is_tried_again=True, done=let_go)

    # Its own.

    def _begin(self, store: Store) -> None:
        """What the writer does first, as soon as it can."""
        if self._lock is None:
            try:
                self._lock = take_lock(self._folder)
            except DirectoryInUse as error:
                raise OSError(str(error)) from error
        self._found = _Opening(
            store.next_epoch(), store.last_numbers(), store.in_progress(), store.claims(), store.retention.finished()
        )

    def _take_over(self) -> None:
        """What the writer found is ours."""
        opening = self._opening = self._found
        self._writer.epoch = opening.epoch
        last_run, last_batch = opening.last_numbers
        self._next_run, self._next_batch = last_run + 1, max(self._next_batch, last_batch + 1)
        self._recovered = opening.in_progress
        for claim, job_id in opening.claims:
            self._claims.take(claim, job_id)
        self._upkeep.begin(*opening.finished)

    async def _book(self, job_id: str) -> Book:
        if (live := self._live.get(job_id)) is not None:
            return live.book
        if (opened := self._opened.get(job_id)) is not None:
            self._opened.move_to_end(job_id)
            return opened

        def read(store: Store) -> tuple[StoredRun, list[Entry]]:
            run = store.run(job_id)
            if run is None:
                raise _no_such_run()
            return run, store.events(run)

        run, entries = await self._read(read, of=job_id)
        book = Book(run.record)
        book.restore(entries, next_number=run.last_event_id + 1)
        self._opened[job_id] = book
        while len(self._opened) > _OPENED_RUNS:
            self._opened.popitem(last=False)
        return book

    def _status(self, run: StoredRun) -> RunStatus:
        if (live := self._live.get(run.record.job_id)) is not None:
            return live.book.status()
        if run.fault is not None:
            logger.error("run %s cannot be read: %s", run.record.job_id, run.fault)
        summary = Summary()
        for _, event in run.outline:
            summary.observe(event)
        return RunStatus(run.record, run.state, summary, run.last_event_id, run.first_event_id, run.fault)

    async def _read(self, read: Callable[[Store], ResultT], *, of: str = "") -> ResultT:
        """What is stored, `of` a run or of many.

        Raises:
            StorageUnavailable: it cannot be read.
        """
        try:
            return await self._reader.read(read)
        except Damaged as damage:
            raise _unreadable(of, str(damage)) from damage

    async def _write(
        self, write: Callable[[Store], object], *, is_tried_again: bool = False, done: Callable[[], object] = nothing
    ) -> None:
        written: asyncio.Future[Any] = self._loop.create_future()
        self._writer.put(Task(write, written, is_tried_again, done))
        await written

    def _forget(self, job_id: str, claim: Claim | None) -> None:
        """The run is not in the file any more."""
        self._opened.pop(job_id, None)
        self._claims.drop(claim, job_id)

    def _on_health(self, is_healthy: bool) -> None:
        """The writer has begun to fail, or to succeed."""
        if is_healthy:
            logger.info("the data directory can be written again")
            return
        for live in list(self._live.values()):
            if live.book.state == "running":
                live.on_failure()


@dataclass(frozen=True, slots=True)
class _Opening:
    """What a process finds in the directory that it takes."""

    epoch: int
    last_numbers: tuple[int, int]
    in_progress: Sequence[tuple[StoredRun, list[Entry]]]
    claims: Sequence[tuple[Claim, str]]
    finished: tuple[int, float | None]
    """The bytes of all runs that have ended, and when the last of them did."""


@dataclass(slots=True, eq=False)
class _LiveBook:
    """A run in progress, or one whose end is not written yet."""

    no: int
    book: Book
    on_failure: Callable[[], None]


class _Log:
    """The writer's end of a run."""

    def __init__(self, journal: SqliteJournal, live: _LiveBook) -> None:
        self._journal = journal
        self._live = live

    def append(self, event: Event) -> int:
        live = self._live
        number = live.book.append(event)
        self._journal.note(live.no, number, event)
        return number

    async def commit(self, event: Event) -> int:
        if not isinstance(event, RunEnded):
            number = self.append(event)
            await self._journal.safe()
            return number
        try:
            await self._journal.end(self._live, event)
        finally:
            number = self._live.book.end(event)
        return number

    async def suspend(self) -> None:
        try:
            await self._journal.safe()
        finally:
            self._live.book.suspend()


def _no_such_run() -> NotFound:
    return NotFound("there is no such run")


def _unreadable(job_id: str, fault: str) -> StorageUnavailable:
    logger.error("run %s cannot be read: %s", job_id, fault)
    return StorageUnavailable("what is stored of this run is damaged and cannot be read")
