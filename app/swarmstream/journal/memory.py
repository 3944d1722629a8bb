"""A journal in this process's memory: finished runs stay for a while, within a number of bytes."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from swarmstream.clock import SYSTEM_CLOCK, Clock, Timer
from swarmstream.errors import NotFound, StillRunning
from swarmstream.events import Event, RunEnded
from swarmstream.journal.base import (
    MAX_ADMITTED,
    Cursor,
    IdempotencyKey,
    InterruptedRun,
    Log,
    Page,
    RunRecord,
    RunState,
    RunStatus,
)
from swarmstream.journal.blanking import blanked
from swarmstream.journal.event_log import EventLog, nothing
from swarmstream.journal.idempotency import IdempotencyIndex


class _Log:
    """The writer's end of a book."""

    def __init__(self, book: EventLog, ended: Callable[[EventLog], None], withdraw: Callable[[], None]) -> None:
        self._book = book
        self._ended = ended
        self.append = self.append_hidden = book.append
        self.withdraw = withdraw

    async def commit(self, event: Event) -> int:
        if not isinstance(event, RunEnded):
            return self._book.append(event)
        number = self._book.end(event)
        self._ended(self._book)
        return number

    async def safe(self) -> None:
        pass

    async def suspend(self) -> None:
        raise RuntimeError("a run in memory does not survive its process")


class MemoryJournal:
    """Keeps live runs without limit, finished ones for `retain_seconds` and within `retain_bytes`: where they are too
    much, the oldest of the owner that has most goes first.

    With `retain_seconds=math.inf` it keeps them as long as it is kept itself.
    """

    survives = False
    is_open = True
    healthy = True

    def __init__(self, *, retain_seconds: float, retain_bytes: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._retain_seconds = retain_seconds
        self._retain_bytes = retain_bytes
        self._books: dict[str, EventLog] = {}
        """In the order in which they were begun."""
        self._claims = IdempotencyIndex(clock)
        self._admitted: dict[str, dict[bytes, None]] = {}
        """The digests of the stream tokens that have connected, by run, the oldest first."""
        self._finished: dict[str, OrderedDict[str, tuple[Timer, int]]] = {}
        """When each is forgotten, and its bytes, by owner; the oldest first."""
        self._finished_bytes: dict[str, int] = {}
        """By owner."""

    async def open(self) -> None:
        pass

    def look_up(self, claim: IdempotencyKey | None) -> None:
        self._claims.look_up(claim)

    def opening_tail(self) -> Cursor:
        raise RuntimeError("it is open")

    async def submit(
        self, record: RunRecord, *, on_cancel: Callable[[], None], on_failure: Callable[[], None] = nothing
    ) -> Log:
        self._claims.take(record.claim, record.job_id)
        book = self._books[record.job_id] = EventLog(record, on_cancel=on_cancel)
        return _Log(book, self._ended, partial(self._forget, record.job_id))

    async def tail(self, job_id: str, *, after: int = 0) -> Cursor:
        return self._book(job_id).tail(after)

    async def status(self, job_id: str, *, owner: str | None = None) -> RunStatus:
        book = self._books.get(job_id)
        if book is None or owner not in (None, book.record.owner):
            raise NotFound("there is no such run")
        return book.status()

    async def list(
        self, owner: str, *, state: RunState | None = None, limit: int = 20, after: str | None = None
    ) -> Page:
        books = [book for book in reversed(self._books.values()) if book.record.owner == owner]
        if after is not None:
            ids = [book.record.job_id for book in books]
            if after not in ids:
                raise NotFound("there is no such run")
            books = books[ids.index(after) + 1 :]
        wanted = [book for book in books if state is None or book.state == state]
        return Page([book.record.job_id for book in wanted[:limit]], has_more=len(wanted) > limit)

    async def cancel(self, job_id: str) -> None:
        self._book(job_id).on_cancel()

    async def delete(self, job_id: str) -> None:
        if self._book(job_id).state == "running":
            raise StillRunning("the run goes on; cancel it first")
        self._forget(job_id)

    async def admit_token(self, job_id: str, digest: bytes) -> None:
        self._book(job_id)
        admitted = self._admitted.setdefault(job_id, {})
        admitted[digest] = None
        if len(admitted) > MAX_ADMITTED:
            del admitted[next(iter(admitted))]

    async def has_admitted(self, job_id: str, digest: bytes) -> bool:
        return digest in self._admitted.get(job_id, ())

    async def trim(self, job_id: str, before: int) -> None:
        self._book(job_id).trim(before)

    async def unfinished(self) -> Sequence[InterruptedRun]:
        return ()

    async def close(self) -> None:
        for finished in self._finished.values():
            for timer, _ in finished.values():
                timer.cancel()
        self._finished.clear()
        self._books.clear()
        self._admitted.clear()

    def _ended(self, book: EventLog) -> None:
        """Start the retention of a book whose run is over."""
        if self._retain_seconds == math.inf:
            return
        book.record = replace(book.record, body=blanked(book.record.body))
        job_id, owner, weight = book.record.job_id, book.record.owner, book.weigh()
        timer = self._clock.call_later(self._retain_seconds, self._forget, job_id)
        self._finished.setdefault(owner, OrderedDict())[job_id] = (timer, weight)
        self._finished_bytes[owner] = self._finished_bytes.get(owner, 0) + weight
        excess = sum(self._finished_bytes.values()) - self._retain_bytes
        while excess > 0:
            has_most = max(self._finished_bytes, key=self._finished_bytes.__getitem__)
            oldest, (_, its) = next(iter(self._finished[has_most].items()))
            self._forget(oldest)
            excess -= its

    def _forget(self, job_id: str) -> None:
        """Readers that hold a cursor read on: the book goes with the last of them."""
        record = self._books.pop(job_id).record
        owner, finished = record.owner, self._finished.get(record.owner, OrderedDict())
        if (kept := finished.pop(job_id, None)) is not None:
            timer, weight = kept
            timer.cancel()
            self._finished_bytes[owner] -= weight
            if not finished:
                del self._finished[owner], self._finished_bytes[owner]
        self._admitted.pop(job_id, None)
        self._claims.drop(record.claim, job_id)

    def _book(self, job_id: str) -> EventLog:
        try:
            return self._books[job_id]
        except KeyError:
            raise NotFound("there is no such run") from None
