"""Who reads a run, and what becomes of it when nobody does.

Where a run's `on_disconnect` is `cancel`, nobody pays for what nobody reads: once its last reader has left, no new turn
starts, and after a grace period the run ends. A reader that comes back in time calls that off. Whoever posted the run
has to come, too, in a time of its own: a client may be gone before its answer begins.
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
    """A run as somebody is about to read it."""

    tail: Cursor
    presence: Callable[[], AbstractContextManager[None]]
    """Entered for as long as the reader is there; what a run's `on_disconnect` goes by."""


class Presence:
    """The readers of one run in this process."""

    def __init__(
        self, *, needs_reader: Callable[[], bool], leave: Callable[[], None], grace_seconds: float, clock: Clock
    ) -> None:
        """`needs_reader` tells whether the run goes on only while it is read; `leave` ends it."""
        self._needs_reader = needs_reader
        self._leave = leave
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._readers = 0
        self._leaving: Timer | None = None
        self._unread: anyio.Event | None = None
        """There while nobody reads; set when somebody does."""

    @contextmanager
    def reader(self) -> Generator[None]:
        """Within this block somebody reads the run."""
        self._readers += 1
        if self._unread is not None:
            self._unread.set()
            self._unread = None
        self._stay()
        try:
            yield
        finally:
            self._readers -= 1
            if self._readers == 0 and self._needs_reader():
                self._unread = anyio.Event()
                self._leave_in(self._grace_seconds)

    def expect_reader(self) -> None:
        """Whoever posted the run reads it, if nothing comes between; nobody else will."""
        if self._readers == 0 and self._needs_reader():
            self._leave_in(max(self._grace_seconds, _FIRST_READER_SECONDS))

    async def while_unread(self) -> None:
        """Return once somebody reads; at once, unless all who did have left."""
        if self._unread is not None:
            await self._unread.wait()

    def end(self) -> None:
        """Let go of the run: it is over, and nothing follows any more from who reads it."""
        self._stay()
        self._needs_reader, self._leave = _never, _nothing

    def _stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _leave_in(self, seconds: float) -> None:
        self._leaving = self._clock.call_later(seconds, self._leave)


def _never() -> bool:
    return False


def _nothing() -> None:
    pass
