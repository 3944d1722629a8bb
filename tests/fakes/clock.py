"""A clock that stands still until a test moves it."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

_STEPS = 20
"""How often the event loop goes round between two timers: more than any chain of tasks here is long."""


class DrivenTimer:
    """A call that a `DrivenClock` owes."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def fire(self) -> None:
        if not self.is_cancelled:
            self._call()


class DrivenClock:
    """Time passes by `advance` only. What is due at once is called at once, as by any clock."""

    def __init__(self, *, now: float = 1000.0, unix: float = 1_800_000_000.0) -> None:
        self._now = now
        self.offset = unix - now
        """Between the two scales; a test sets the wall clock by changing it."""
        self._timers: list[tuple[float, int, DrivenTimer]] = []
        self._numbers = count()
        self._changed = anyio.Event()

    def now(self) -> float:
        return self._now

    def unix(self) -> float:
        return self._now + self.offset

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> DrivenTimer:
        timer = DrivenTimer(lambda: callback(*args))
        if seconds <= 0:
            asyncio.get_running_loop().call_soon(timer.fire)
        else:
            heapq.heappush(self._timers, (self._now + seconds, next(self._numbers), timer))
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
        return timer

    @property
    def pending(self) -> list[float]:
        """In how many seconds calls are due, soonest first."""
        return sorted(due - self._now for due, _, timer in self._timers if not timer.is_cancelled)

    async def advance(self, seconds: float) -> None:
        """Let so much time pass: what falls due meanwhile is called in order, and what that sets going goes on."""
        end = self._now + seconds
        await _settle()
        while self._timers and self._timers[0][0] <= end + 1e-9:
            due, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, due)
            if not timer.is_cancelled:
                timer.fire()
                await _settle()
        self._now = max(self._now, end)

    def stall(self, seconds: float) -> None:
        """Let so much time pass in which the event loop comes to nothing: what falls due is called later."""
        self._now += seconds

    async def waiting(self, seconds: float, up_to: float | None = None) -> None:
        """Return once something waits for just so long from now, or for something between this and `up_to`."""
        most = seconds if up_to is None else up_to
        with anyio.fail_after(60):
            while not any(seconds - 1e-6 <= due <= most + 1e-6 for due in self.pending):
                await self._changed.wait()


async def _settle() -> None:
    for _ in range(_STEPS):
        await checkpoint()
