"""A run in an event loop of its own, in a thread of its own: for synchronous callers, with or without a running loop.

`in_thread` opens a block in which the run goes on. Leaving the block cancels the run and waits until its tasks, its
connections and its thread are gone. A generator may hold the block open (`Runnable.run_stream` does), and be left
behind in the middle. What happens then depends on who closes it, and in which thread:

| closed by | in the thread of | the run |
|---|---|---|
| `close()`, an exception, its last reference | the caller | is cancelled and waited for |
| the garbage collector | any but the run's own | is cancelled and waited for |
| the garbage collector | the run's own (one of its tools) | is cancelled, and closed by the next `in_thread` |
| the interpreter's exit | the main one | is cancelled and waited for |

The third row is there because a thread cannot wait for its own end. The last one takes `atexit`: closed any later, the
block would wait for an event loop whose thread Python has stopped.
"""

import atexit
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Protocol

from anyio.from_thread import BlockingPortal, start_blocking_portal

from swarmstream.journal.summary import Summary
from swarmstream.library.events import Frame


class Reader(Protocol):
    """A place in a run's frames."""

    async def read(self) -> list[Frame]: ...


class Handle(Protocol):
    """A run in the thread's event loop."""

    def reader(self) -> Reader: ...

    async def summary(self) -> Summary: ...

    def cancel(self) -> None: ...

    async def closed(self) -> None: ...


class ThreadedRun:
    """A run whose event loop is in another thread; every method waits in the caller's."""

    def __init__(self, portal: BlockingPortal, handle: Handle) -> None:
        self._portal = portal
        self._handle = handle

    def frames(self) -> Generator[Frame, None, None]:
        """Yield the run's frames as they come, up to `end`."""
        reader = self._portal.call(self._handle.reader)
        while frames := self._portal.call(reader.read):
            yield from frames

    def summary(self) -> Summary:
        """Wait for the run's end and return its summary."""
        return self._portal.call(self._handle.summary)


_open: set[ExitStack] = set()
"""Each closes one run whose block is open."""
_unclosed: list[ExitStack] = []
"""Each closes one run that is cancelled, and that its own thread could not close."""


@atexit.register
def _close_open_runs() -> None:
    for stack in list(_open):
        stack.close()


@contextmanager
def in_thread(start: Callable[[], Handle]) -> Generator[ThreadedRun]:
    """Start a run in a thread of its own, for the length of the block."""

    async def begin() -> Handle:
        return start()  # a handle may be awaitable: called directly, it would be awaited to its end

    while _unclosed:
        _unclosed.pop().close()
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        handle = portal.call(begin)
        run_thread = portal.call(get_ident)
        stack.callback(portal.call, handle.closed)
        stack.callback(portal.call, handle.cancel)
        _open.add(stack)
        try:
            yield ThreadedRun(portal, handle)
        finally:
            _open.discard(stack)
            if get_ident() == run_thread:
                handle.cancel()
                _unclosed.append(stack.pop_all())
