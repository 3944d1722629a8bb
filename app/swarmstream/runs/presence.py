"""The readers of a run, by which its `on_disconnect` goes.

A run with `on_disconnect: "cancel"` goes on only while it is read, since nobody is to pay for what nobody reads. Once
its last reader has left, no new turn starts, and after the grace period the run is abandoned; a reader that comes back
in time calls that off. The client that posted the run is expected, too: it may be gone before its answer begins.

| readers | reached by | new turns | timer |
|---|---|---|---|
| expected | `expect_reader` | start | 10 s, or the grace period if that is longer |
| at least one | `reader` entered | start | none |
| none any more | the last `reader` left | wait | the grace period |
| of no account | `close`, or `on_disconnect: "continue"` | start | none |
"""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import anyio

from swarmstream.clock import Clock, Timer
from swarmstream.journal.base import Cursor

_FIRST_READER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Reading:
    """A cursor into a run, and the account that the run keeps of its reader."""

    cursor: Cursor
    presence: Callable[[], AbstractContextManager[None]]
    """Entered for as long as the reader is connected."""


class Presence:
    """The readers of one run in this process."""

    def __init__(
        self, *, needs_reader: bool, on_abandoned: Callable[[], None], grace_seconds: float, clock: Clock
    ) -> None:
        """Without `needs_reader`, the run goes on whether or not it is read."""
        self._needs_reader = needs_reader
        self._on_abandoned = on_abandoned
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._readers = 0
        self._timer: Timer | None = None
        self._unread: anyio.Event | None = None
        """There once all readers have left; set when one comes."""

    @contextmanager
    def reader(self) -> Generator[None]:
        """Count a reader for the length of the block."""
        self._readers += 1
        if self._unread is not None:
            self._unread.set()
            self._unread = None
        self._stop_timer()
        try:
            yield
        finally:
            self._readers -= 1
            if self._readers == 0 and self._needs_reader:
                self._unread = anyio.Event()
                self._abandon_in(self._grace_seconds)

    def expect_reader(self) -> None:
        """Abandon the run unless the client that posted it begins to read in time."""
        if self._readers == 0 and self._needs_reader:
            self._abandon_in(max(self._grace_seconds, _FIRST_READER_SECONDS))

    async def while_unread(self) -> None:
        """Wait while all who read the run have left."""
        if self._unread is not None:
            await self._unread.wait()

    def close(self) -> None:
        """Stop counting: the run is over."""
        self._stop_timer()
        self._needs_reader, self._on_abandoned = False, _nothing

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abandon_in(self, seconds: float) -> None:
        self._timer = self._clock.call_later(seconds, self._on_abandoned)


def _nothing() -> None:
    pass
