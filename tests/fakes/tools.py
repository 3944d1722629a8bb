"""Tools that do as tests want, and count their calls."""

import asyncio
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated

import anyio
from anyio import from_thread

from swarmstream.tools.functions import ToolContext, tool

performed: Counter[str] = Counter()
"""How often each tool was begun, by what the test called it."""
inside: Counter[str] = Counter()
"""How many calls are under way."""
marks: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)


@contextmanager
def recorded(what: str) -> Generator[None]:
    performed[what] += 1
    inside[what] += 1
    try:
        yield
    finally:
        inside[what] -= 1


def add(a: int, b: int) -> int:
    """Add two integers and return the result."""
    performed["add"] += 1
    return a + b


async def meet(mine: str, theirs: str) -> str:
    """Say that I am here, and wait for another one."""
    marks[mine].set()
    await marks[theirs].wait()
    return f"{mine} met {theirs}"


_barrier = threading.Barrier(2)


def meet_in_threads() -> str:
    """Wait for another call."""
    _barrier.wait(5)
    return "in the event loop" if threading.current_thread() is threading.main_thread() else "in a thread"


async def where() -> str:
    """Tell where this runs."""
    return "in the event loop" if threading.current_thread() is threading.main_thread() else "in a thread"


def fail(message: str) -> str:
    """Fail."""
    performed[message] += 1
    raise ValueError(message)


async def leave(message: str) -> str:
    """Try to stop the server."""
    performed[message] += 1
    sys.exit(3)


def leave_in_a_thread(message: str) -> str:
    """Try to stop the server."""
    performed[message] += 1
    sys.exit(3)


def much(kilobytes: int) -> str:
    """Say much."""
    return "x" * 1024 * kilobytes


@tool(timeout_seconds=45)
async def slow() -> str:
    """Take too long."""
    with recorded("slow"):
        await anyio.sleep_forever()
    return "never"


async def forever(what: str) -> str:
    """Take forever."""
    with recorded(what):
        await anyio.sleep_forever()
    return "never"


def forever_in_a_thread(what: str) -> str:
    """Take forever, but look whether anybody waits."""
    with recorded(what):
        while True:
            from_thread.check_cancelled()
            threading.Event().wait(0.005)


async def report(context: ToolContext, rows: Annotated[int, "How many."]) -> str:
    """Read rows and say how far that is."""
    for row in range(1, rows + 1):
        await context.report_progress(row, rows)
    await context.write_event_to_stream("rows", {"count": rows, "by": context.agent})
    return f"{rows} rows"


def report_from_a_thread(context: ToolContext) -> str:
    """Write from a thread."""
    from_thread.run(context.write_event_to_stream, "thread", [1, "ü"])
    return "written"


late: list[str] = []


async def write_later(context: ToolContext) -> str:
    """Go on writing when it is over."""

    async def write() -> None:
        await marks["the call is over"].wait()
        try:
            await context.write_event_to_stream("late")
        except RuntimeError as error:
            late.append(str(error))
        marks["late"].set()

    marks["writer"].set()
    _writers.append(asyncio.ensure_future(write()))
    return "done"


_writers: list[asyncio.Future[None]] = []

TOOLS = {
    "tools": tuple(
        f"{__name__}:{name}"
        for name in (
            *("add", "meet", "meet_in_threads", "where", "fail", "leave", "leave_in_a_thread", "much", "slow"),
            *("forever", "forever_in_a_thread", "report", "report_from_a_thread", "write_later"),
        )
    )
}


async def none_under_way(what: str) -> None:
    await under_way(what, 0)


async def under_way(what: str, count: int = 1) -> None:
    """Wait until so many calls are under way."""
    with anyio.fail_after(30):
        while inside[what] != count:  # noqa: ASYNC110  # a thread tells by nothing else how far it is
            await anyio.sleep(0.005)
