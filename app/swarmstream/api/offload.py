"""Work on a payload that may take long, in a thread, where it delays no other request."""

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

ResultT = TypeVar("ResultT")

_SMALL_BYTES = 16 * 1024
_COSTLY = (b"response_format", b"\\u00")
"""The field whose regular expressions become programs a thousand times their size, and an escape that may hide it."""

_thread: RunVar[CapacityLimiter] = RunVar("offload")


async def run_aside(body: bytes, work: Callable[[], ResultT]) -> ResultT:
    """Return the result of work on this payload: done at once if the payload is small, else in a thread.

    One thread does it for all requests: more of them would share the interpreter's lock, and the event loop would wait
    for that behind each of them. Clients' tools have threads of their own.
    """
    if len(body) <= _SMALL_BYTES and not any(name in body for name in _COSTLY):
        return work()
    limiter = _thread.get(None) or CapacityLimiter(1)
    _thread.set(limiter)
    return await to_thread.run_sync(work, limiter=limiter)
