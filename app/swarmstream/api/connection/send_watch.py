"""The time limit on a client that does not take what it is sent."""

import asyncio
from collections.abc import Callable

from swarmstream.clock import Clock, Timer


class SendWatch:
    """A watch over the bytes that wait to be sent on one connection.

    While it is on, the client has to take at least one byte in every `seconds`; `on_stalled` is called otherwise. It
    ends by itself when nothing waits any more.
    """

    __slots__ = ("_clock", "_on_stalled", "_seconds", "_timer", "_transport", "_unsent")

    def __init__(
        self, transport: asyncio.Transport, clock: Clock, seconds: float, on_stalled: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._seconds = seconds
        self._on_stalled = on_stalled
        self._timer: Timer | None = None
        self._unsent = 0

    def start(self) -> None:
        """Begin to watch, or begin anew: the whole time counts from now."""
        self.stop()
        self._unsent = self._transport.get_write_buffer_size()
        self._timer = self._clock.call_later(self._seconds, self._check)

    def stop(self) -> None:
        """End the watch, if it is on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        unsent = self._transport.get_write_buffer_size()
        if unsent >= self._unsent:
            self._on_stalled()
        elif unsent:
            self.start()
