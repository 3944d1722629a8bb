"""The clock that is passed to everything that waits, so that tests can drive it.

No other module of the package reads the time from `time`, `asyncio` or `anyio`, or sets a timer there.
"""

import asyncio
import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVarTuple, Unpack

from anyio import CancelScope

ArgumentTs = TypeVarTuple("ArgumentTs")


class Timer(Protocol):
    """A call that is due at a later time."""

    def cancel(self) -> None:
        """Call it off; does nothing once the call was made."""
        ...


class Clock(Protocol):
    """The time, and calls at a later time, in one event loop."""

    def now(self) -> float:
        """Return seconds on a scale that never goes back; only differences have a meaning."""
        ...

    def unix(self) -> float:
        """Return seconds since 1970. Operators and time servers may set this back."""
        ...

    def call_later(self, seconds: float, callback: Callable[[Unpack[ArgumentTs]], object], *args: *ArgumentTs) -> Timer:
        """Call back in this event loop once so many seconds are over."""
        ...


class SystemClock:
    """The machine's clock and the running event loop's timers."""

    # The functions themselves, for speed: each token reads the time.
    now = staticmethod(time.monotonic)
    unix = staticmethod(time.time)

    def call_later(self, seconds: float, callback: Callable[[Unpack[ArgumentTs]], object], *args: *ArgumentTs) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback, *args)


SYSTEM_CLOCK: Final = SystemClock()


def utc(clock: Clock) -> datetime:
    """Return the date and time, in UTC."""
    return datetime.fromtimestamp(clock.unix(), UTC)


async def sleep(clock: Clock, seconds: float) -> None:
    """Return once so many seconds are over."""
    over = asyncio.get_running_loop().create_future()
    timer = clock.call_later(seconds, _resolve, over)
    try:
        await over
    finally:
        timer.cancel()


@contextmanager
def time_limit(clock: Clock, seconds: float) -> Generator[CancelScope]:
    """Cancel what the block awaits once so many seconds are over, and leave the block with `cancelled_caught` set.

    `math.inf` means no limit.
    """
    with CancelScope() as scope:
        if seconds <= 0:
            scope.cancel()
        timer = clock.call_later(seconds, scope.cancel) if 0 < seconds < math.inf else None
        try:
            yield scope
        finally:
            if timer is not None:
                timer.cancel()


def _resolve(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
