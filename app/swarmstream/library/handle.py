"""A run that goes on in the caller's event loop."""

import asyncio
import math
import os
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

from swarmstream.errors import InvalidRequest
from swarmstream.events import RunEnded
from swarmstream.journal.base import Cursor, Journal
from swarmstream.journal.memory import MemoryJournal
from swarmstream.journal.summary import Summary
from swarmstream.library.environment import Environment
from swarmstream.library.outcomes import check_end
from swarmstream.llm.providers.backends import ModelBackends
from swarmstream.runs.job import Job
from swarmstream.runs.run import Run
from swarmstream.runs.supervisor import Supervisor
from swarmstream.tools.mcp.hub import McpHub
from swarmstream.wire.event_data import FrameMaker

ResultT = TypeVar("ResultT")


class RunHandle(Generic[ResultT]):
    """A run: await it for its result, read its events as often as you like, cancel it.

    It begins when the handle is made, which takes a running event loop, and belongs to that loop.
    """

    def __init__(
        self,
        job: Job,
        result: Callable[[Summary], ResultT],
        *,
        on_end: Callable[[Summary], None] = lambda _: None,
        timeout: float | None = None,
        surroundings: Environment,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """`timeout` is in seconds, of the whole run; `result` makes its result of what it came to. `on_end` is called
        once, before anybody has that.

        Raises:
            InvalidRequest: the timeout is none.
            RuntimeError: no event loop is running.
        """
        if timeout is not None and not timeout > 0:
            raise InvalidRequest("timeout must be greater than 0", location=("timeout",))
        loop = asyncio.get_running_loop()
        self._job = replace(job, on_disconnect="continue", timeout_seconds=timeout or job.timeout_seconds)
        self._result = result
        self._on_end = on_end
        self._is_cancelled = False
        self._surroundings = surroundings
        self._environ = environ
        self._journal = MemoryJournal(retain_seconds=math.inf, retain_bytes=0, clock=surroundings.clock)
        self._begun: asyncio.Future[Run] = loop.create_future()
        self._live = loop.create_task(self._run(), name=f"run of {job.name or job.swarm_type or 'an agent'}")

    def __await__(self) -> Generator[Any, None, ResultT]:
        """The result. Giving up waiting does not cancel the run.

        Raises:
            RunFailure: the run did not succeed; its events are in its stream by then.
        """
        return self._outcome().__await__()

    async def stream_events(
        self, *, after: int = 0, include_output: bool = True
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The run's events, `{"id", "event", "data"}` as on the wire (docs/wire.md, section 4): from the first one, or
        from the one behind `after`, to `end`. Any number of readers, at any time. It raises nothing for a run that
        fails."""
        reader = self.reader(after=after, include_output=include_output)
        while frames := await reader.read():
            for frame in frames:
                yield frame

    def reader(self, *, after: int = 0, include_output: bool = False) -> "FrameReader":
        """As `stream_events`, for whoever wants what has come at once at once."""
        return FrameReader(self._begun, self._journal, FrameMaker(include_output=include_output, after=after))

    def cancel(self) -> None:
        """End the run; its last events say so. One that has ended stays as it is."""
        self._is_cancelled = True
        if self._begun.done() and not self._begun.cancelled():
            self._begun.result().cancel_requested()

    async def closed(self) -> None:
        """Wait until nothing of the run is left: no task, no connection."""
        await asyncio.wait((self._live,))

    async def summary(self) -> Summary:
        """What the run came to, once it has ended, however it did."""
        return await asyncio.shield(self._live)

    async def _outcome(self) -> ResultT:
        summary = await self.summary()
        check_end(summary)
        return self._result(summary)

    async def _run(self) -> Summary:
        """Carry the run out, with connections that are its own."""
        its = self._surroundings
        lanes = ModelBackends(self._environ, its.clock)
        mcp = McpHub(its.tools.hosts, clock=its.clock)
        try:
            async with Supervisor(self._journal, lanes, its.limits, mcp, its.clock) as runs:
                run = await runs.start(self._job)
                self._begun.set_result(run)
                if self._is_cancelled:  # before it had begun: it ends like any other, with its events
                    run.cancel_requested()
                await runs.drain(math.inf)
        finally:
            self._begun.cancel()  # where it has not begun, nor will it
            await mcp.close()
            await lanes.close()
        self._on_end(run.summary)
        return run.summary


class FrameReader:
    """A place in a run's events, which are read as frames."""

    def __init__(self, begun: asyncio.Future[Run], journal: Journal, maker: FrameMaker) -> None:
        self._begun = begun
        self._journal = journal
        self._maker = maker
        self._tail: Cursor | None = None
        self._has_ended = False

    async def read(self) -> list[dict[str, Any]]:
        """The frames that have come since; waits for one. Empty behind `end`."""
        if self._tail is None:
            run = await asyncio.shield(self._begun)
            self._tail = await self._journal.open_cursor(run.job_id)
        while not self._has_ended:
            frames = list(self._maker.frames(entries := await self._tail.read()))
            self._has_ended = bool(entries) and isinstance(entries[-1][1], RunEnded)
            if frames:
                return frames
        return []
