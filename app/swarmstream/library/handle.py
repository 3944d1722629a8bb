"""A run that goes on in the caller's event loop."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import replace
from typing import Any, Generic, TypeVar

from swarmstream.engine.stages import PlanRunner
from swarmstream.engine.turn import TurnRunner
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
from swarmstream.wire.object_encoder import ObjectEncoder

ResultT = TypeVar("ResultT")


class RunHandle(Generic[ResultT]):
    """A run: await it for its result, read its events as often as you like, cancel it.

    It begins when the handle is made, which takes a running event loop, and belongs to that loop.
    """

    def __init__(
        self,
        job: Job,
        result: Callable[[Summary], ResultT],
        env: Environment,
        *,
        on_end: Callable[[Summary], None] = lambda _: None,
        timeout: float | None = None,
    ) -> None:
        """Begin the run. `timeout` is in seconds, of the whole run; `result` makes the result of a run that succeeded.

        `on_end` is called once, however the run ends, before anybody has its result.

        Raises:
            InvalidRequest: the timeout is not a positive number.
            RuntimeError: no event loop is running.
        """
        if timeout is not None and not timeout > 0:
            raise InvalidRequest("timeout must be greater than 0", location=("timeout",))
        loop = asyncio.get_running_loop()
        self._job = replace(job, on_disconnect="continue", timeout_seconds=timeout or job.timeout_seconds)
        self._result = result
        self._on_end = on_end
        self._is_cancelled = False
        self._env = env
        self._journal = MemoryJournal(retain_seconds=math.inf, retain_bytes=0, clock=env.clock)
        self._begun: asyncio.Future[Run] = loop.create_future()
        self._task = loop.create_task(self._run(), name=f"run of {job.name or job.swarm_type or 'an agent'}")

    def __await__(self) -> Generator[Any, None, ResultT]:
        """Wait for the result. Giving up waiting does not cancel the run.

        Raises:
            RunFailure: the run did not succeed; its events are in its stream by then.
        """
        return self._outcome().__await__()

    async def stream_events(
        self, *, after: int = 0, include_output: bool = True
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the run's events, `{"id", "event", "data"}` as on the wire (docs/wire.md, section 4), up to `end`.

        They begin with the first one, or with the one behind `after`. Any number of readers may read at any time. A run
        that fails raises nothing here.
        """
        reader = self.reader(after=after, include_output=include_output)
        while frames := await reader.read():
            for frame in frames:
                yield frame

    def reader(self, *, after: int = 0, include_output: bool = False) -> "FrameReader":
        """Return a reader of the run's events, in batches of those that came together."""
        return FrameReader(self._begun, self._journal, ObjectEncoder(include_output=include_output, after=after))

    def cancel(self) -> None:
        """End the run, whose last events follow. A run that has ended stays as it is."""
        self._is_cancelled = True
        if self._begun.done() and not self._begun.cancelled():
            self._begun.result().cancel_requested()

    async def closed(self) -> None:
        """Wait until nothing of the run is left: no task, no connection."""
        await asyncio.wait((self._task,))

    async def summary(self) -> Summary:
        """Wait for the run's end, however it ends, and return its summary."""
        return await asyncio.shield(self._task)

    async def _outcome(self) -> ResultT:
        summary = await self.summary()
        check_end(summary)
        return self._result(summary)

    async def _run(self) -> Summary:
        """Carry the run out, with connections of its own."""
        env = self._env
        backends = ModelBackends(env.environ, env.clock)
        mcp = McpHub(env.tools.hosts, clock=env.clock)
        engine = PlanRunner(TurnRunner(backends, env.limits.timeouts, mcp, env.clock))
        try:
            async with Supervisor(self._journal, engine, env.limits, env.clock) as supervisor:
                run = await supervisor.start(self._job)
                self._begun.set_result(run)
                if self._is_cancelled:  # before it had begun: it ends like any other, with its events
                    run.cancel_requested()
                await supervisor.drain(math.inf)
        finally:
            self._begun.cancel()  # without effect on a run that has begun
            await mcp.close()
            await backends.close()
        self._on_end(run.summary)
        return run.summary


class FrameReader:
    """A place in a run's events, which are read as frames."""

    def __init__(self, begun: asyncio.Future[Run], journal: Journal, encoder: ObjectEncoder) -> None:
        self._begun = begun
        self._journal = journal
        self._encoder = encoder
        self._cursor: Cursor | None = None
        self._has_ended = False

    async def read(self) -> list[dict[str, Any]]:
        """Wait for frames and return those that are new: one or more, or none behind `end`."""
        if self._cursor is None:
            run = await asyncio.shield(self._begun)
            self._cursor = await self._journal.open_cursor(run.job_id)
        while not self._has_ended:
            frames = list(self._encoder.encode(entries := await self._cursor.read()))
            self._has_ended = bool(entries) and isinstance(entries[-1][1], RunEnded)
            if frames:
                return frames
        return []
