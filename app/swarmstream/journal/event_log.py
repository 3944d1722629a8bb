"""One run's log in memory: its entries, and the cursors that wait for the next one.

Theory of operation. Readers see a prefix of the entries. Most events are shown as soon as they are appended. An event
that a client acts upon (the end of a turn, the end of the run) is appended hidden: it and all behind it are shown once
`show` reports that they are committed. Without this a reader could act upon an event that a crash takes back. Hiding
costs an appended event nothing, and wakes no waiting reader in vain.

    place     0   1   2   3   4   5   6          place: counts every entry there ever was, also the trimmed ones
    entries   .   .   e   e   H   e   e          .  trimmed    e  entry    H  appended hidden
                      └─shown─┘                  number: the entry's own; numbers jump where a run was resumed

| the log is | because | cursors that are there | cursors that come |
|---|---|---|---|
| shown | all is well | read what there is, and wait | the same |
| hidden from an event on | it is being written | wait before it | the same |
| closed (`close`) | it can no longer be written | raise `HandedOver` | wait until it is shown |
| handed over (`hand_over`) | the process stops | read what there is, then raise `HandedOver` | the same |
"""

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from swarmstream.events import Event, ReasoningDelta, RunEnded, TextDelta
from swarmstream.journal.base import NO_CALLBACKS, HandedOver, RunCallbacks
from swarmstream.journal.records import Entry, RunRecord, RunState, RunStatus
from swarmstream.journal.summary import Summary

_ENTRIES_A_READ = 512
_DELTAS = (TextDelta, ReasoningDelta)


class EventLog:
    """A run's events with their numbers, in order. Appending never waits."""

    __slots__ = (
        "_entries",
        "_hidden",
        "_is_handed_over",
        "_next",
        "_observed",
        "_summary",
        "_trimmed",
        "_waiting",
        "callbacks",
        "generation",
        "record",
        "state",
    )

    def __init__(self, record: RunRecord, callbacks: RunCallbacks = NO_CALLBACKS) -> None:
        self.record = record
        self.callbacks = callbacks
        self.state: RunState = "running"
        self._is_handed_over = False
        self.generation = 0
        """Raised by `close`: cursors of an earlier generation are let go."""
        self._hidden: list[int] = []
        """The places of the events that are not committed yet, ascending: nothing is shown from the first one on."""
        self._entries: list[Entry] = []
        self._next = 1
        self._trimmed = 0
        """The number of entries that have been dropped at the beginning."""
        self._waiting: list[asyncio.Future[None]] = []
        self._summary = Summary()
        self._observed = 0
        """The place up to which the summary has seen the entries."""

    @property
    def next_number(self) -> int:
        return self._next

    @property
    def entries(self) -> Sequence[Entry]:
        return self._entries

    @property
    def end_place(self) -> int:
        """The place behind the last event."""
        return self._trimmed + len(self._entries)

    def append(self, event: Event) -> int:
        """Append an event and return its number."""
        if self.state != "running":
            raise RuntimeError(f"{self.record.job_id} has ended")
        number = self._next
        self._next = number + 1
        self._entries.append((number, event))
        if self._waiting and not self._hidden:
            self._wake()
        return number

    def append_hidden(self, event: Event) -> int:
        """Append an event that is not shown before `show` is called with a place behind it; returns its number."""
        self._hidden.append(self.end_place)
        return self.append(event)

    def append_end(self, event: RunEnded) -> int:
        """Append the last event and show all of them; returns its number."""
        number = self.append(event)
        self.state = event.status
        self.callbacks = NO_CALLBACKS  # they hold the run, and the run holds us: only the collector would part us
        self.show(self.end_place)
        return number

    def hide(self) -> None:
        """Hide what is appended from now on."""
        self._hidden.append(self.end_place)

    def show(self, place: int) -> None:
        """Show the events before this place: they are committed."""
        self._hidden = [hidden for hidden in self._hidden if hidden >= place]
        self._wake()

    def close(self) -> None:
        """Hide what is appended from now on, and let the present cursors go."""
        self.hide()
        self.generation += 1
        self._wake()

    def hand_over(self) -> None:
        """Let cursors go once they have read what there is."""
        self._is_handed_over = True
        self._wake()

    def preview(self, events: Iterable[Entry]) -> None:
        """Make the status that of these events, which are still to be restored."""
        self._summary = Summary()
        for _, event in events:
            self._summary.observe(event)

    def restore(self, entries: Sequence[Entry], *, next_number: int) -> None:
        """Take these entries for the log's own; the next event is numbered `next_number`."""
        self._entries = list(entries)
        self._next = next_number
        self._summary, self._observed = Summary(), 0
        if entries and isinstance(ended := entries[-1][1], RunEnded):
            self.state = ended.status

    def trim(self, before: int) -> None:
        """Forget the events numbered below `before`, but for the last one."""
        self._observe()
        dropped = min(self._place_behind(before - 1) - self._trimmed, len(self._entries) - 1)
        if dropped > 0:
            del self._entries[:dropped]
            self._trimmed += dropped

    def status(self) -> RunStatus:
        """Return the run's state as readers see it."""
        self._observe()
        shown = self._shown
        last = self._entries[shown - 1][0] if shown else 0
        ended = self._summary.ended
        ended_at = self.record.created_at.timestamp() + ended.t_ms / 1000 if ended else None
        return RunStatus(self.record, self.state, self._summary, last, self._first_number, ended_at)

    def open_cursor(self, after: int) -> "LiveCursor":
        """Return a cursor behind the event numbered `after`."""
        first = self._first_number
        return LiveCursor(self, self._place_behind(after), after, first if after + 1 < first else None)

    def read_from(self, place: int) -> tuple[Sequence[Entry], int]:
        """Return shown entries from a cursor's place on, and the place behind them."""
        trimmed = self._trimmed
        start = max(0, place - trimmed)
        stop = start + _ENTRIES_A_READ
        if self._hidden:
            stop = min(stop, self._shown)
        entries = self._entries[start:stop]
        return entries, max(place, trimmed) + len(entries)

    async def wait_for(self, place: int, generation: int, waiter: asyncio.Future[None]) -> None:
        """Return once there is a shown entry at a cursor's place, or the waiter is woken.

        Raises:
            HandedOver: there will be none for a cursor of this generation.
        """
        if place - self._trimmed < self._shown:
            return
        if self._is_handed_over or generation != self.generation:
            raise HandedOver
        self._waiting.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiting:  # cancelled, and nothing has been appended since
                self._waiting.remove(waiter)

    @property
    def _shown(self) -> int:
        """The number of present entries that readers may see."""
        return max(0, self._hidden[0] - self._trimmed) if self._hidden else len(self._entries)

    @property
    def _first_number(self) -> int:
        return self._entries[0][0] if self._entries else self._next

    def _place_behind(self, number: int) -> int:
        """Return the place behind the event of this number."""
        return self._trimmed + bisect_right(self._entries, number, key=lambda entry: entry[0])

    def _observe(self) -> None:
        shown = self._shown
        for _, event in self._entries[self._observed - self._trimmed : shown]:
            if not isinstance(event, _DELTAS):
                self._summary.observe(event)
        self._observed = max(self._observed, self._trimmed + shown)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


class LiveCursor:
    """A place in a log."""

    __slots__ = ("_after", "_generation", "_is_woken", "_log", "_place", "_waiter", "first_available")

    def __init__(self, log: EventLog, place: int, after: int, first_available: int | None) -> None:
        self.first_available = first_available
        self._log = log
        self._generation = log.generation
        self._place = place
        self._after = after
        """The reader has, or wants, nothing up to this number, which may be beyond the log."""
        self._is_woken = False
        self._waiter: asyncio.Future[None] | None = None

    async def read(self) -> Sequence[Entry]:
        if entries := self.read_nowait():
            return entries
        while True:
            waiter = self._waiter = asyncio.get_running_loop().create_future()
            self._is_woken = False
            try:
                await self._log.wait_for(self._place, self._generation, waiter)
            finally:
                self._waiter = None
            if (entries := self.read_nowait()) or self._is_woken:
                return entries

    def read_nowait(self) -> Sequence[Entry]:
        entries, self._place = self._log.read_from(self._place)
        if entries and entries[0][0] <= self._after:
            return [entry for entry in entries if entry[0] > self._after]
        return entries

    def wake(self) -> None:
        self._is_woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
