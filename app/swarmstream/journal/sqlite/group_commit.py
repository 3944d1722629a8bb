"""Group commit: the events of all live runs that gather within a moment, handed to the writer as one batch.

An append is written within 20 ms, or once 256 events have gathered. A hidden event, and everything that somebody waits
for, is written at the end of the event loop's present round: others that are about to wait share the write.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from swarmstream.clock import Clock, Timer
from swarmstream.events import Event
from swarmstream.journal.codec import RunEvent
from swarmstream.journal.event_log import EventLog
from swarmstream.journal.sqlite.file.store import Store
from swarmstream.journal.sqlite.live import LiveRun
from swarmstream.journal.sqlite.write_task import WriteTask, nothing
from swarmstream.journal.sqlite.writer import Writer

_BATCH_SECONDS = 0.02
_BATCH_EVENTS = 256


class GroupCommit:
    """The next batch."""

    def __init__(self, writer: Writer, clock: Clock, *, outlives_host: bool) -> None:
        self.outlives_host = outlives_host
        """True where writes that ask for it are flushed to the disk."""
        self.next_batch = 1
        """The number of the next batch."""
        self._writer = writer
        self._clock = clock
        self._events: list[RunEvent] = []
        self._writes: list[Callable[[Store], object]] = []
        """Written in the same transaction, before the events."""
        self._hiding: dict[int, EventLog] = {}
        """The logs that show more once the batch is written, by the numbers of their runs."""
        self._waiting: list[asyncio.Future[Any]] = []
        """Resolved once the batch is written."""
        self._is_for_disk = False
        """True where one of the writes is to outlive the host."""
        self._timer: Timer | None = None
        self._is_due = False
        """True where the batch is handed in at the end of this round of the event loop."""

    @property
    def has_writes(self) -> bool:
        """True where something beside events is to be written."""
        return bool(self._writes)

    def append(self, live: LiveRun, event: Event) -> int:
        """Append an event to a live run's log, to be written within a moment; returns its number."""
        number = live.log.append(event)
        self._events.append((live.no, number, event))
        if self._timer is None:
            self._timer = self._clock.call_later(_BATCH_SECONDS, self.hand_in)
        elif len(self._events) >= _BATCH_EVENTS:
            self.hand_in()
        return number

    def append_hidden(self, live: LiveRun, event: Event) -> int:
        """Append an event to a live run's log, to be shown once it is written; returns its number."""
        number = live.log.append_hidden(event)
        self._events.append((live.no, number, event))
        self._hiding[live.no] = live.log
        self._hand_in_soon()
        return number

    def add(self, write: Callable[[Store], object], *, outlives_host: bool = False) -> None:
        """Write something with the next batch, before its events."""
        self._writes.append(write)
        self._is_for_disk = self._is_for_disk or outlives_host

    def add_soon(self, write: Callable[[Store], object]) -> None:
        """Write something at the end of this round of the event loop."""
        self._writes.append(write)
        self._hand_in_soon()

    def drop(self, live: LiveRun) -> None:
        """Drop the events of a run that have not been handed in."""
        self._hiding.pop(live.no, None)
        self._events = [event for event in self._events if event[0] != live.no]

    async def flush(self) -> None:
        """Return once all that was appended and added is written.

        Raises:
            StorageUnavailable: it cannot be written at present.
        """
        written: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(written)
        self._hand_in_soon()
        await written

    def hand_in(self) -> None:
        """Hand the batch to the writer now."""
        self._is_due = False
        self.stop_timer()
        if not self._events and not self._writes and not self._waiting:
            return
        events, self._events = self._events, []
        writes, self._writes = self._writes, []
        waiting, self._waiting = self._waiting, []
        shown = [(log, log.end_place) for log in self._hiding.values()]
        self._hiding.clear()
        outlives_host, self._is_for_disk = self.outlives_host and self._is_for_disk, False
        batch = self.next_batch
        self.next_batch += 1

        def write_all(store: Store) -> None:
            for write in writes:
                write(store)
            if events:
                store.batches.add(batch, events)

        def show() -> None:
            for log, place in shown:
                log.show(place)

        self._writer.put(
            WriteTask(
                write_all,
                waiting,
                is_retried=True,
                outlives_host=outlives_host,
                done=show if shown else nothing,
                batch=None if writes or not events or outlives_host else (batch, events),
            )
        )

    def stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hand_in_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self.hand_in)
