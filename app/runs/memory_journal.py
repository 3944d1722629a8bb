"""A journal in this process's memory: finished runs stay for a while, within a number of bytes."""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

from pydantic_core import to_json

from app.errors import NotFound
from app.events import CustomEvent, Event, ReasoningDelta, RunEnded, TextDelta, ToolEnded, ToolStarted, TurnEnded
from app.runs.journal import Entry, Log, RunRecord, RunState, RunStatus, Tail

_ENTRIES_A_READ = 512
_DELTAS = (TextDelta, ReasoningDelta)
_EVENT_BYTES = 200
"""About what an event takes beside its text."""


def _nothing() -> None:
    pass


class _Book:
    """One run: its events, and the readers that wait for the next one."""

    __slots__ = ("_journal", "_on_cancel", "bytes", "entries", "record", "state", "waiting")

    def __init__(self, journal: "MemoryJournal", record: RunRecord, on_cancel: Callable[[], None]) -> None:
        self._journal = journal
        self._on_cancel = on_cancel
        self.waiting: list[asyncio.Future[None]] = []
        self.record = record
        self.entries: list[Entry] = []
        self.state: RunState = "running"
        self.bytes = 0

    def append(self, event: Event) -> int:
        if self.state != "running":
            raise RuntimeError(f"{self.record.job_id} has ended")
        number = len(self.entries) + 1
        self.entries.append((number, event))
        if self.waiting:
            self._wake()
        return number

    async def commit(self, event: Event) -> int:
        number = self.append(event)
        if isinstance(event, RunEnded):
            self.state = event.status
            self._on_cancel = _nothing  # it holds the run, and the run holds us: only the collector would part us
            self._journal.ended(self)
        return number

    def cancel(self) -> None:
        if self.state == "running":
            self._on_cancel()

    def weigh(self) -> int:
        deltas = [len(event.text) for _, event in self.entries if isinstance(event, _DELTAS)]
        outputs = [len(event.output) for _, event in self.entries if isinstance(event, TurnEnded | ToolEnded)]
        outputs += [len(event.call.arguments) for _, event in self.entries if isinstance(event, ToolStarted)]
        outputs += [len(to_json(event.data)) for _, event in self.entries if isinstance(event, CustomEvent)]
        return len(self.entries) * _EVENT_BYTES + sum(deltas) + sum(outputs)

    def _wake(self) -> None:
        waiting, self.waiting = self.waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


class _Cursor:
    """A place in a book."""

    __slots__ = ("_book", "_place", "_waiter")

    def __init__(self, book: _Book, after: int) -> None:
        self._book = book
        self._place = after
        self._waiter: asyncio.Future[None] | None = None

    async def read(self) -> Sequence[Entry]:
        if self._place >= len(self._book.entries):
            waiter = self._waiter = asyncio.get_running_loop().create_future()
            self._book.waiting.append(waiter)
            try:
                await waiter
            finally:
                self._waiter = None
                if waiter in self._book.waiting:  # cancelled, and nothing has been appended since
                    self._book.waiting.remove(waiter)
        return self.available()

    def available(self) -> Sequence[Entry]:
        entries = self._book.entries[self._place : self._place + _ENTRIES_A_READ]
        self._place += len(entries)
        return entries

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class MemoryJournal:
    """Keeps live runs without limit, finished ones for `retain_seconds` and within `retain_bytes`, oldest out first.

    With `retain_seconds=math.inf` it keeps them as long as it is kept itself.
    """

    def __init__(self, *, retain_seconds: float, retain_bytes: int) -> None:
        self._retain_seconds = retain_seconds
        self._retain_bytes = retain_bytes
        self._books: dict[str, _Book] = {}
        self._finished: OrderedDict[str, asyncio.TimerHandle] = OrderedDict()
        self._finished_bytes = 0

    async def submit(self, record: RunRecord, *, on_cancel: Callable[[], None]) -> Log:
        book = _Book(self, record, on_cancel)
        self._books[record.job_id] = book
        return book

    async def tail(self, job_id: str, *, after: int = 0) -> Tail:
        return _Cursor(self._book(job_id), after)

    async def status(self, job_id: str) -> RunStatus:
        book = self._book(job_id)
        return RunStatus(book.record, book.state, last_event_id=len(book.entries))

    async def cancel(self, job_id: str) -> None:
        self._book(job_id).cancel()

    async def close(self) -> None:
        for timer in self._finished.values():
            timer.cancel()
        self._finished.clear()
        self._books.clear()

    def ended(self, book: _Book) -> None:
        """Start the retention of a book whose run is over."""
        job_id = book.record.job_id
        book.bytes = book.weigh()
        self._finished_bytes += book.bytes
        loop = asyncio.get_running_loop()
        if self._retain_seconds == math.inf:
            return
        self._finished[job_id] = loop.call_later(self._retain_seconds, self._forget, job_id)
        while self._finished_bytes > self._retain_bytes:
            self._forget(next(iter(self._finished)))

    def _forget(self, job_id: str) -> None:
        """Readers that hold a cursor read on: the book goes with the last of them."""
        self._finished.pop(job_id).cancel()
        self._finished_bytes -= self._books.pop(job_id).bytes

    def _book(self, job_id: str) -> _Book:
        try:
            return self._books[job_id]
        except KeyError:
            raise NotFound("there is no such run") from None
