"""One run in memory: its events, and the readers that wait for the next one.

Readers see a prefix of the entries. Most events are seen as soon as they are appended. What a reader must not be told
before it is safe (the end of a turn, the end of the run) is appended hidden: it and all behind it are seen once `show`
says that they are safe. Hiding costs an appended event nothing, and a reader that waits is not woken in vain.

| the book is | because | readers that are there | readers that come |
|---|---|---|---|
| shown | all is well | read what there is, and wait | the same |
| hidden from an event on | it is being written | wait before it | the same |
| closed (`close`) | it can no longer be written | are let go (`HandedOver`) | wait until it is shown |
| suspended (`suspend`) | the process stops | read what there is, are let go | the same |
"""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from pydantic_core import to_json

from swarmstream.events import (
    CustomEvent,
    Event,
    ReasoningDelta,
    RunEnded,
    TextDelta,
    ToolEnded,
    ToolStarted,
    TurnEnded,
)
from swarmstream.journal.base import Entry, HandedOver, RunRecord, RunState, RunStatus
from swarmstream.journal.summary import Summary

_ENTRIES_A_READ = 512
_DELTAS = (TextDelta, ReasoningDelta)
_EVENT_BYTES = 200
"""About what an event takes beside its text."""


def nothing() -> None:
    pass


class EventLog:
    """Events with their numbers, in order. Appending never waits."""

    __slots__ = (
        "_entries",
        "_hidden",
        "_next",
        "_observed",
        "_summary",
        "_trimmed",
        "_waiting",
        "generation",
        "is_suspended",
        "on_cancel",
        "record",
        "state",
    )

    def __init__(self, record: RunRecord, *, on_cancel: Callable[[], None] = nothing) -> None:
        self.record = record
        self.on_cancel = on_cancel
        self.state: RunState = "running"
        self.is_suspended = False
        self.generation = 0
        """How often it was closed: cursors of an earlier generation are let go."""
        self._hidden: list[int] = []
        """The places of the events that are not safe yet, ascending: nothing is seen from the first one on."""
        self._entries: list[Entry] = []
        self._next = 1
        self._trimmed = 0
        """How many entries have been dropped at the beginning."""
        self._waiting: list[asyncio.Future[None]] = []
        self._summary = Summary()
        self._observed = 0
        """How many entries the summary has seen."""

    @property
    def next_number(self) -> int:
        return self._next

    @property
    def entries(self) -> Sequence[Entry]:
        return self._entries

    def append(self, event: Event) -> int:
        """Its number."""
        if self.state != "running":
            raise RuntimeError(f"{self.record.job_id} has ended")
        number = self._next
        self._next = number + 1
        self._entries.append((number, event))
        if self._waiting and not self._hidden:
            self._wake()
        return number

    def append_hidden(self, event: Event) -> int:
        """As `append`, for what is not to be seen before `show` has been told of its place, which is `end_place`."""
        self._hidden.append(self.end_place)
        return self.append(event)

    @property
    def end_place(self) -> int:
        """The place behind the last event."""
        return self._trimmed + len(self._entries)

    def show(self, place: int) -> None:
        """What stands before this place is safe."""
        self._hidden = [hidden for hidden in self._hidden if hidden >= place]
        self._wake()

    def end(self, event: RunEnded) -> int:
        """Append the last event, and show all of them; its number."""
        number = self.append(event)
        self.state = event.status
        self.on_cancel = nothing  # it holds the run, and the run holds us: only the collector would part us
        self.show(self.end_place)
        return number

    def hide(self) -> None:
        """Hide what comes from now on."""
        self._hidden.append(self.end_place)

    def preview(self, events: Iterable[Entry]) -> None:
        """Let the status know of events that are still to be restored."""
        self._summary = Summary()
        for _, event in events:
            self._summary.observe(event)

    def close(self) -> None:
        """Hide what comes from now on, and let go of the readers that are there."""
        self.hide()
        self.generation += 1
        self._wake()

    def restore(self, entries: Sequence[Entry], *, next_number: int) -> None:
        """Take in what was written earlier; what is appended from now on is numbered from `next_number`."""
        self._entries = list(entries)
        self._next = next_number
        self._summary, self._observed = Summary(), 0
        if entries and isinstance(ended := entries[-1][1], RunEnded):
            self.state = ended.status

    def trim(self, before: int) -> None:
        """Forget the events numbered below `before`, but for the last one."""
        self._observe()
        dropped = min(self._place_of(before - 1) - self._trimmed, len(self._entries) - 1)
        if dropped > 0:
            del self._entries[:dropped]
            self._trimmed += dropped

    def suspend(self) -> None:
        """Let the readers go, once they have read what there is."""
        self.is_suspended = True
        self._wake()

    def status(self) -> RunStatus:
        self._observe()
        ended = self._summary.ended
        ended_at = self.record.created_at.timestamp() + ended.t_ms / 1000 if ended else None
        return RunStatus(self.record, self.state, self._summary, self._last, self._first, ended_at)

    def weigh(self) -> int:
        """About how many bytes it takes in memory."""
        deltas = [len(event.text) for _, event in self._entries if isinstance(event, _DELTAS)]
        outputs = [len(event.output) for _, event in self._entries if isinstance(event, TurnEnded | ToolEnded)]
        outputs += [len(event.call.arguments) for _, event in self._entries if isinstance(event, ToolStarted)]
        outputs += [len(to_json(event.data)) for _, event in self._entries if isinstance(event, CustomEvent)]
        return len(self.record.body) + len(self._entries) * _EVENT_BYTES + sum(deltas) + sum(outputs)

    def tail(self, after: int) -> "LiveCursor":
        first_available = self._first if after + 1 < self._first else None
        return LiveCursor(self, self._place_of(after), after, first_available)

    # For its cursors.

    def read_from(self, place: int) -> Sequence[Entry]:
        """Entries from a place on, which counts all that have ever been here."""
        start = max(0, place - self._trimmed)
        stop = start + _ENTRIES_A_READ
        if self._hidden:
            stop = min(stop, self._seen)
        return self._entries[start:stop]

    async def wait_behind(self, place: int, generation: int, waiter: asyncio.Future[None]) -> None:
        """Return once there is an entry at this place, or the waiter is woken.

        Raises:
            Suspended: there will be none for a cursor of this generation.
        """
        if place - self._trimmed < self._seen:
            return
        if self.is_suspended or generation != self.generation:
            raise HandedOver
        self._waiting.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiting:  # cancelled, and nothing has been appended since
                self._waiting.remove(waiter)

    def place_behind(self, place: int, read: int) -> int:
        return max(place, self._trimmed) + read

    @property
    def _seen(self) -> int:
        """How many of the entries that are here can be seen."""
        return max(0, self._hidden[0] - self._trimmed) if self._hidden else len(self._entries)

    @property
    def _first(self) -> int:
        return self._entries[0][0] if self._entries else self._next

    @property
    def _last(self) -> int:
        return self._entries[self._seen - 1][0] if self._seen else 0

    def _place_of(self, after: int) -> int:
        """The place behind the event of this number."""
        return self._trimmed + bisect_right(self._entries, after, key=lambda entry: entry[0])

    def _observe(self) -> None:
        seen = self._seen
        for _, event in self._entries[self._observed - self._trimmed : seen]:
            if not isinstance(event, _DELTAS):
                self._summary.observe(event)
        self._observed = max(self._observed, self._trimmed + seen)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


class LiveCursor:
    """A place in a book."""

    __slots__ = ("_after", "_book", "_generation", "_is_woken", "_place", "_waiter", "first_available")

    def __init__(self, book: EventLog, place: int, after: int, first_available: int | None) -> None:
        self.first_available = first_available
        self._book = book
        self._generation = book.generation
        self._place = place
        self._after = after
        """The reader has, or wants, nothing up to here; it may be beyond the log."""
        self._is_woken = False
        self._waiter: asyncio.Future[None] | None = None

    async def read(self) -> Sequence[Entry]:
        if entries := self.available():
            return entries
        while True:
            waiter = self._waiter = asyncio.get_running_loop().create_future()
            self._is_woken = False
            try:
                await self._book.wait_behind(self._place, self._generation, waiter)
            finally:
                self._waiter = None
            if (entries := self.available()) or self._is_woken:
                return entries

    def available(self) -> Sequence[Entry]:
        entries = self._book.read_from(self._place)
        self._place = self._book.place_behind(self._place, len(entries))
        if entries and entries[0][0] <= self._after:
            return [entry for entry in entries if entry[0] > self._after]
        return entries

    def wake(self) -> None:
        self._is_woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
