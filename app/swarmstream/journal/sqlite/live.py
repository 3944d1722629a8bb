"""A run of a data directory that has no end yet."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from swarmstream.journal.base import NO_CALLBACKS, RunCallbacks
from swarmstream.journal.event_log import EventLog
from swarmstream.journal.records import Entry, RunRecord, RunStatus


@dataclass(slots=True, eq=False)
class LiveRun:
    """A run in progress, one that waits to be resumed, or one whose end is not written yet."""

    no: int
    log: EventLog
    is_carried_out: bool = True
    """False until a run that another process has begun is resumed."""
    is_closed: bool = False
    """True once something of it could not be written; then its end is all that is still to come."""
    is_ending: bool = False
    """True while its end is being written."""
    is_discarded: bool = False

    @classmethod
    def waiting(cls, no: int, record: RunRecord) -> "LiveRun":
        """Return a run that waits to be resumed: its log is empty, and hidden."""
        log = EventLog(record, _RememberedCancel())
        log.hide()
        return cls(no, log, is_carried_out=False)

    def release(self) -> None:
        """Let go of the run's callbacks: they hold the run, and the run holds this object. Only the garbage collector
        would part them."""
        self.log.callbacks = NO_CALLBACKS

    def close(self) -> None:
        """Let its readers go and report to its writer: its events can no longer be written."""
        self.is_closed = True
        self.log.close()
        self.log.callbacks.storage_failed()

    def resume(self, record: RunRecord, entries: Sequence[Entry], next_number: int, callbacks: RunCallbacks) -> None:
        """Carry the run on here, behind these entries."""
        log = self.log
        was_cancelled = isinstance(log.callbacks, _RememberedCancel) and log.callbacks.was_requested
        log.record, log.callbacks = record, callbacks
        log.restore(entries, next_number=next_number)
        log.show(log.end_place)
        self.is_carried_out = True
        if was_cancelled:
            asyncio.get_running_loop().call_soon(callbacks.cancel_requested)

    def status(self) -> RunStatus:
        """Return the run's state as readers see it."""
        status = self.log.status()
        return replace(status, is_waiting=True) if self.is_closed or not self.is_carried_out else status


class _RememberedCancel:
    """Callbacks of a run that waits to be resumed: a cancellation is kept for whoever resumes it."""

    def __init__(self) -> None:
        self.was_requested = False

    def cancel_requested(self) -> None:
        self.was_requested = True

    def storage_failed(self) -> None:
        pass
