"""The threads of tools: a bounded number at once, shared fairly among the owners of runs.

A thread that hangs cannot be stopped. So it keeps its place until it really ends, and these threads are apart from all
others: tools that hang take each other's places only.
"""

import math
import threading
from asyncio import get_running_loop
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from swarmstream.places import Places
from swarmstream.shares import current_owner

MAX_THREADS: Final = 40
"""Running at once; the next tool waits, within its time limit."""


class ToolThreads:
    """The threads of one event loop's tools."""

    def __init__(self, total: int = MAX_THREADS) -> None:
        self._places = Places(total)
        self._unlimited = CapacityLimiter(math.inf)

    async def run(self, work: Callable[[], Any]) -> Any:
        """Return the result of `work`, run in a thread that keeps its place to its end even if the call is given up."""
        loop, places, owner = get_running_loop(), self._places, current_owner.get()
        await places.take(owner)
        begun = threading.Lock()
        """Taken by the first: the thread that begins, or the call that is given up before."""

        def in_thread() -> Any:
            if not begun.acquire(blocking=False):
                return None
            try:
                return work()
            finally:
                with suppress(RuntimeError):  # the event loop is gone, and these places with it
                    loop.call_soon_threadsafe(places.give_back, owner)

        try:
            return await to_thread.run_sync(in_thread, abandon_on_cancel=True, limiter=self._unlimited)
        finally:
            if begun.acquire(blocking=False):
                places.give_back(owner)


_threads: RunVar[ToolThreads] = RunVar("tool_threads")


def tool_threads() -> ToolThreads:
    """Return the threads of this event loop."""
    try:
        return _threads.get()
    except LookupError:
        threads = ToolThreads()
        _threads.set(threads)
        return threads
