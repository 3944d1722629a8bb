"""The recorder: the only writer of a run's events, which it also folds to the run's summary."""

from collections.abc import Callable

from swarmstream.clock import Clock
from swarmstream.errors import RunError, StorageUnavailable
from swarmstream.events import (
    Event,
    ReasoningDelta,
    RunDescribed,
    RunEnded,
    RunFailed,
    RunStarted,
    TextDelta,
    TurnEnded,
    TurnFailed,
    UsageTotalled,
)
from swarmstream.journal.base import Log
from swarmstream.journal.summary import Summary

_SHOWN_ONCE_COMMITTED = (RunDescribed, RunStarted, TurnEnded, TurnFailed, RunFailed, UsageTotalled)
"""Events that clients act upon. A run that they saw begin must be found again after a crash, a turn that they saw end
must not be taken again, and a failure that they saw must stay."""


class RunRecorder:
    """Appends a run's events to its log until the run has left this process; what comes later is dropped."""

    _log: Log

    def __init__(self, clock: Clock, *, may_be_resumed: bool, on_storage_failure: Callable[[RunError], None]) -> None:
        """With `may_be_resumed`, another process may go on with the run, so that what is committed is waited for.
        `on_storage_failure` is called when a commit fails."""
        self._now = clock.now
        self._began = clock.now()
        self._may_be_resumed = may_be_resumed
        self._on_storage_failure = on_storage_failure
        self._is_recording = True
        self.summary = Summary()

    def open(self, log: Log, *, elapsed_ms: int = 0) -> None:
        """Begin to append to this log; `elapsed_ms` is the time that the run has had in other processes."""
        self._log = log
        self._began -= elapsed_ms / 1000

    def now_ms(self) -> int:
        """Return the milliseconds since the run began."""
        return int((self._now() - self._began) * 1000)

    def append_delta(self, delta: TextDelta | ReasoningDelta) -> None:
        """Append a delta, of which the summary needs nothing."""
        if self._is_recording:
            self._log.append(delta)

    def append(self, event: Event) -> None:
        """Append an event; readers see it at once, or once it is committed if clients act upon it."""
        if not self._is_recording:
            return
        if isinstance(event, _SHOWN_ONCE_COMMITTED):
            self._log.append_hidden(event)
        else:
            self._log.append(event)
        self.summary.observe(event)

    async def commit(self, event: Event) -> None:
        """Append an event, and return once it is committed; where nobody can resume the run, only its end is waited
        for."""
        if not self._is_recording:
            return
        if not self._may_be_resumed and not isinstance(event, RunEnded):
            self.append(event)
            return
        self.summary.observe(event)
        try:
            await self._log.commit(event)
        except StorageUnavailable as error:
            self._on_storage_failure(error)

    async def flush(self) -> None:
        """Return once all that was appended is committed.

        Raises:
            StorageUnavailable: it cannot be committed at present.
        """
        await self._log.flush()

    def close(self) -> None:
        """Drop all events from now on."""
        self._is_recording = False
        self._on_storage_failure = _ignore  # it is the run's: kept, only the garbage collector could free both

    def discard(self) -> None:
        """Close, and take the run out of the journal, which has shown nothing of it."""
        self.close()
        self._log.discard()

    async def hand_over(self) -> None:
        """Commit the log as it is, without an end, and let its readers go: the next process resumes the run."""
        await self._log.hand_over()


def _ignore(_: RunError) -> None:
    pass
