"""The threads that tools run in: so many at once, shared among the owners of the runs that call them."""

import math
import threading
from asyncio import CancelledError, Future, get_running_loop
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from app.shares import Owner, Shares

MAX_THREADS: Final = 40
"""Tools that run in threads at once; the next one waits, within its time limit."""

owner_of_context: ContextVar[Owner] = ContextVar("owner", default=Owner())  # noqa: B039  # a tuple: nobody changes it
"""Whose run this task, or the one that started it, belongs to."""


class ToolThreads:
    """The places for tools in threads, and the calls that wait for one."""

    def __init__(self, total: int = MAX_THREADS) -> None:
        self._shares = Shares(total)
        self._waiting: dict[Owner, deque[Future[None]]] = {}
        self._unlimited = CapacityLimiter(math.inf)

    async def run(self, work: Callable[[], Any]) -> Any:
        """What a thread makes of it. The thread has its place until it is really done, also when nobody waits for it
        any more."""
        loop, owner = get_running_loop(), owner_of_context.get()
        await self._take(owner)
        begun = threading.Lock()
        """Taken by whoever is first: the thread that begins, or the caller who gives it up before."""

        def in_thread() -> Any:
            if not begun.acquire(blocking=False):
                return None
            try:
                return work()
            finally:
                with suppress(RuntimeError):  # the event loop is gone, and these places with it
                    loop.call_soon_threadsafe(self._give_back, owner)

        try:
            return await to_thread.run_sync(in_thread, abandon_on_cancel=True, limiter=self._unlimited)
        finally:
            if begun.acquire(blocking=False):
                self._give_back(owner)

    async def _take(self, owner: Owner) -> None:
        """Wait for a place. Nobody is overtaken: what an owner that waits cannot have, its next call cannot either."""
        if self._shares.take(owner):
            return
        granted = get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(granted)
        try:
            await granted
        except CancelledError:
            if granted.cancelled():
                self._forget(owner, granted)
            else:
                self._give_back(owner)
            raise

    def _give_back(self, owner: Owner) -> None:
        self._shares.give_back(owner.name)
        # Who holds least comes first, so that a long queue of one owner's is no wait for the others.
        for waiting in sorted(self._waiting, key=lambda waiting: self._shares.held(waiting.name)):
            if self._shares.take(waiting):
                granted = self._waiting[waiting][0]
                self._forget(waiting, granted)
                granted.set_result(None)
                break

    def _forget(self, owner: Owner, waiter: Future[None]) -> None:
        self._waiting[owner].remove(waiter)
        if not self._waiting[owner]:
            del self._waiting[owner]


_threads: RunVar[ToolThreads] = RunVar("tool_threads")


def tool_threads() -> ToolThreads:
    """Those of this event loop: ours alone, so that tools that hang do not take the threads that others need."""
    try:
        return _threads.get()
    except LookupError:
        threads = ToolThreads()
        _threads.set(threads)
        return threads
