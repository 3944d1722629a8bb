"""The threads that tools run in: so many at once, shared among the owners of the runs that call them."""

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
"""Tools that run in threads at once; the next one waits, within its time limit."""


class ToolThreads:
    """The threads of one event loop's tools."""

    def __init__(self, total: int = MAX_THREADS) -> None:
        self._places = Places(total)
        self._unlimited = CapacityLimiter(math.inf)

    async def run(self, work: Callable[[], Any]) -> Any:
        """What a thread makes of it. The thread has its place until it is really done, also when nobody waits for it
        any more."""
        loop, places, owner = get_running_loop(), self._places, current_owner.get()
        await places.take(owner)
        begun = threading.Lock()
        """Taken by whoever is first: the thread that begins, or the caller who gives it up before."""

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
    """Those of this event loop: ours alone, so that tools that hang do not take the threads that others need."""
    try:
        return _threads.get()
    except LookupError:
        threads = ToolThreads()
        _threads.set(threads)
        return threads
