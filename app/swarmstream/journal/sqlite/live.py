"""A run of a data directory that has no end yet, and who carries it out."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import anyio

from swarmstream.journal.base import Entry, HandedOver, RunRecord, RunStatus
from swarmstream.journal.event_log import EventLog, nothing


@dataclass(slots=True, eq=False)
class LiveRun:
    """A run in progress, one that waits to be taken up, or one whose end is not written yet."""

    no: int
    book: EventLog
    on_failure: Callable[[], None] = nothing
    is_carried_out: bool = True
    """False until a run that another process has begun is taken up."""
    is_closed: bool = False
    """Whether something of it could not be written; then its end is all that is still to come."""
    is_ending: bool = False
    """Whether its end is being written."""
    is_withdrawn: bool = False
    is_cancelled: bool = False
    """Whether somebody has asked for that while it waited."""

    @classmethod
    def waiting(cls, no: int, record: RunRecord) -> "LiveRun":
        """A run that waits to be taken up: its book is empty, and hidden."""
        live = cls(no, EventLog(record), is_carried_out=False)
        live.book.hide()
        live.book.on_cancel = live.remember_cancel
        return live

    def remember_cancel(self) -> None:
        """Cancel the run once somebody carries it out."""
        self.is_cancelled = True

    def close(self) -> None:
        """Let its readers go and its writer know: what happens in it can no longer be written."""
        self.is_closed = True
        self.book.close()
        self.on_failure()

    def take_up(
        self,
        record: RunRecord,
        entries: Sequence[Entry],
        next_number: int,
        on_cancel: Callable[[], None],
        on_failure: Callable[[], None],
    ) -> None:
        """Go on here, behind these entries."""
        book = self.book
        book.record, book.on_cancel, self.on_failure = record, on_cancel, on_failure
        book.restore(entries, next_number=next_number)
        book.show(book.end_place)
        self.is_carried_out = True
        if self.is_cancelled:
            asyncio.get_running_loop().call_soon(on_cancel)

    def status(self) -> RunStatus:
        """How it stands."""
        status = self.book.status()
        return replace(status, is_waiting=True) if self.is_closed or not self.is_carried_out else status


class ClosedTail:
    """A cursor into a directory that cannot be read yet: it waits until it can, and then lets its reader go."""

    first_available: int | None = None

    def __init__(self, is_open: anyio.Event) -> None:
        self._is_open = is_open
        self._woken = anyio.Event()

    async def read(self) -> Sequence[Entry]:
        async with anyio.create_task_group() as tasks:
            for event in (self._is_open, self._woken):
                tasks.start_soon(self._leave_after, event, tasks.cancel_scope)
        if self._is_open.is_set():
            raise HandedOver
        self._woken = anyio.Event()
        return ()

    async def _leave_after(self, event: anyio.Event, scope: anyio.CancelScope) -> None:
        await event.wait()
        scope.cancel()

    def available(self) -> Sequence[Entry]:
        return ()

    def wake(self) -> None:
        self._woken.set()
