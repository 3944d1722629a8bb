"""The heartbeat of a stream: bytes that fill a silence, so that neither end takes the connection for dead."""

from swarmstream.clock import Clock
from swarmstream.journal.base import Cursor


class Heartbeat:
    """Wakes a waiting reader when nothing was sent for a while: one timer, not one a frame. Use it as a context
    manager: leaving it stops the timer."""

    def __init__(self, cursor: Cursor, seconds: float, clock: Clock) -> None:
        self._cursor = cursor
        self._seconds = seconds
        self._clock = clock
        self._now = clock.now
        self._last_sent = clock.now()

    def __enter__(self) -> "Heartbeat":
        self._timer = self._clock.call_later(self._seconds, self._look)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def sending(self) -> None:
        """Begin the silence anew: something is being sent."""
        self._last_sent = self._now()

    def is_due(self) -> bool:
        """Tell whether the silence has lasted for so many seconds."""
        return self._now() - self._last_sent >= self._seconds

    def _look(self) -> None:
        left = self._last_sent + self._seconds - self._now()
        if left <= 0:
            self._cursor.wake()
            left = self._seconds
        self._timer = self._clock.call_later(left, self._look)
