"""Work that a payload can make long, done where it holds nobody up."""

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

ResultT = TypeVar("ResultT")

_SMALL_BYTES = 16 * 1024
_COSTLY = (b"response_format", b"\\u00")
"""Its regular expressions become programs a thousand times their size; and what may be that name, escaped."""

_thread: RunVar[CapacityLimiter] = RunVar("aside")


async def run_aside(body: bytes, work: Callable[[], ResultT]) -> ResultT:
    """What comes of work on a payload: of a small one at once, of any other in a thread.

    One thread does it for all: it is the interpreter's lock that they would share, and the event loop waits for that
    behind each of them. Tools of callers have threads of their own.
    """
    if len(body) <= _SMALL_BYTES and not any(words in body for words in _COSTLY):
        return work()
    limiter = _thread.get(None) or CapacityLimiter(1)
    _thread.set(limiter)
    return await to_thread.run_sync(work, limiter=limiter)
