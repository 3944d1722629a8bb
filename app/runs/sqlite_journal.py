"""A journal on SQLite: live runs are read from memory and written behind, finished ones are read from the file.

One process serves a data directory. Its writer is a thread: what has gathered within 20 ms, of all runs, is one batch
in one transaction. When a run ends, its events are written once more, together, and its batches go.
"""

import asyncio
import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from anyio import to_thread

from app.errors import NotFound, StillRunning, StorageUnavailable
from app.events import CustomEvent, Event, ReasoningDelta, RunEnded, TextDelta, ToolEnded, ToolStarted
from app.places import Places
from app.runs.book import Book, nothing
from app.runs.journal import Claim, DirectoryInUse, Entry, Log, Page, RunRecord, RunState, RunStatus, Tail, Unfinished
from app.runs.memory_journal import CLAIM_SECONDS, Claims
from app.runs.packing import Noted
from app.runs.sqlite_store import Ending, Store, StoredRun
from app.runs.sqlite_writer import Task, Writer
from app.runs.summary import Summary
from app.shares import owner_of_context

logger = logging.getLogger(__name__)

_BATCH_SECONDS = 0.02
_BATCH_EVENTS = 256
_SWEEP_SECONDS = 60.0
_NUMBERS_SKIPPED = 1_000_000
"""Between the last event that was written of a run and the first after its recovery: more than readers can have seen
that was not."""
_RUNS_A_SWEEP = 1000
"""Whoever commits waits for a sweep."""
_READS = 8
"""Reads that are in threads at once, one of them in the file: however many one owner asks for, others come soon."""
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

    def __init__(self, folder: Path, *, retain_seconds: float, retain_bytes: int) -> None:
        self._folder = folder
        self._retain_seconds = retain_seconds
        self._retain_bytes = retain_bytes
        self._live: dict[str, _LiveBook] = {}
        self._opened: OrderedDict[str, Book] = OrderedDict()
        self._claims = Claims()
        self._next_run = 1
        self._next_batch = 1
        self._begun: list[Callable[[Store], None]] = []
        """What writes the runs down that have begun since the last batch."""
        self._pending: list[Noted] = []
        self._flush_timer: asyncio.TimerHandle | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._opening: _Opening | None = None
        self._recovered: Sequence[tuple[StoredRun, list[Entry]]] = ()
        self._lock: int | None = None
        try:
            self._lock = _locked(folder)
        except OSError as error:
            logger.warning("the data directory cannot be used: %s", error)
        self._readers: Store | None = None
        self._reading = threading.Lock()
        self._reading_places = Places(_READS)

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(self._folder, self._loop, self._on_health)
        self._writer.start()
        try:
            await self._write(self._begin, is_tried_again=True, done=self._take_over)
        except StorageUnavailable:
            logger.warning("the data directory %s cannot be written: no run can begin", self._folder)
        self._sweep()

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

    async def status(self, job_id: str, *, owner: str | None = None) -> RunStatus:
        live = self._live.get(job_id)
        if live is not None and owner in (None, live.book.record.owner):
            return live.book.status()
        stored = await self._read(lambda store: store.run(job_id, owner=owner))
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
        await self._write(lambda store: store.delete_run(job_id))
        self._forget(status.record)

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
        stored = await self._read(lambda store: store.run(job_id))
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
            claimed.append(Unfinished(run.record, list(entries), self._go_on(live)))
        return claimed

    def _go_on(self, live: "_LiveBook") -> Callable[[Callable[[], None], Callable[[], None]], Log]:
        def go_on(on_cancel: Callable[[], None], on_failure: Callable[[], None]) -> Log:
            live.book.on_cancel, live.on_failure = on_cancel, on_failure
            return _Log(self, live)

        return go_on

    async def close(self) -> None:
        for timer in (self._flush_timer, self._sweep_timer):
            if timer is not None:
                timer.cancel()
        self.flush()
        await to_thread.run_sync(self._writer.stop)
        if self._readers is not None:
            self._readers.close()
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
            state=event.status,
            ended_at=time.time(),
            entries=entries,
            outline=[entry for entry in entries if not isinstance(entry[1], _LEFT_OUT)],
            next_batch=self._next_batch,
        )
        let_go = partial(self._live.pop, book.record.job_id, None)
        await self._write(lambda store: store.end_run(ending), is_tried_again=True, done=let_go)

    # Its own.

    def _begin(self, store: Store) -> None:
        """What the writer does first, as soon as it can."""
        if self._lock is None:
            try:
                self._lock = _locked(self._folder)
            except DirectoryInUse as error:
                raise OSError(str(error)) from error
        self._found = _Opening(store.next_epoch(), store.last_numbers(), store.in_progress(), store.claims())

    def _take_over(self) -> None:
        """What the writer found is ours."""
        opening = self._opening = self._found
        self._writer.epoch = opening.epoch
        last_run, last_batch = opening.last_numbers
        self._next_run, self._next_batch = last_run + 1, max(self._next_batch, last_batch + 1)
        self._recovered = opening.in_progress
        for claim, job_id in opening.claims:
            self._claims.take(claim, job_id)

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
            return run, store.events(run.no)

        run, entries = await self._read(read)
        book = Book(run.record)
        book.restore(entries, next_number=run.last_event_id + 1)
        self._opened[job_id] = book
        while len(self._opened) > _OPENED_RUNS:
            self._opened.popitem(last=False)
        return book

    def _status(self, run: StoredRun) -> RunStatus:
        if (live := self._live.get(run.record.job_id)) is not None:
            return live.book.status()
        summary = Summary()
        for _, event in run.outline:
            summary.observe(event)
        return RunStatus(run.record, run.state, summary, run.last_event_id, run.first_event_id, run.ended_at)

    async def _read(self, read: Callable[[Store], ResultT]) -> ResultT:
        def in_thread() -> ResultT:
            with self._reading:
                if self._readers is None:
                    self._readers = Store(self._folder, writes=False)
                return read(self._readers)

        owner = owner_of_context.get()
        await self._reading_places.take(owner)
        try:
            return await to_thread.run_sync(in_thread)
        except (sqlite3.Error, OSError) as error:
            logger.warning("the data directory cannot be read: %s", error)
            raise StorageUnavailable("what is stored cannot be read at present") from error
        finally:
            self._reading_places.give_back(owner)

    async def _write(
        self, write: Callable[[Store], None], *, is_tried_again: bool = False, done: Callable[[], object] = nothing
    ) -> None:
        written: asyncio.Future[Any] = self._loop.create_future()
        self._writer.put(Task(write, written, is_tried_again, done))
        await written

    def _sweep(self) -> None:
        """Forget what is old or too much, now and then."""
        if self.healthy:
            self._sweep_some()
        self._sweep_timer = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep_some(self) -> None:
        now = time.time()
        expired: list[StoredRun] = []

        def sweep(store: Store) -> None:
            store.drop_claims(now - CLAIM_SECONDS)
            expired[:] = store.expired(now - self._retain_seconds, max_bytes=self._retain_bytes, limit=_RUNS_A_SWEEP)
            for run in expired:
                store.delete_run(run.record.job_id)

        def forget() -> None:
            for run in expired:
                self._forget(run.record)
            if len(expired) == _RUNS_A_SWEEP:
                self._sweep_some()

        self._writer.put(Task(sweep, None, is_tried_again=False, done=forget))

    def _forget(self, record: RunRecord) -> None:
        """The run is not in the file any more."""
        self._opened.pop(record.job_id, None)
        self._claims.drop(record.claim, record.job_id)

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


def _locked(folder: Path) -> int:
    """The lock of a directory, which the system lets go of when the process ends.

    Raises:
        DirectoryInUse: another process has it.
        OSError: there can be none.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise DirectoryInUse(f"another process serves the data directory {folder}") from error
    return lock


def _no_such_run() -> NotFound:
    return NotFound("there is no such run")
