"""The owner of runs: it starts them, ends them, and decides what happens when their readers leave.

A run lives here and not in the answer to its request. Whatever happens to it, its journal ends with exactly one
`RunEnded`, after a `UsageTotalled`.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import anyio

from app.engine.clocks import TurnClocks
from app.engine.turn import Speaker
from app.errors import (
    AppError,
    InternalError,
    RunInterrupted,
    StorageUnavailable,
    Unavailable,
)
from app.llm.base import ChatModel
from app.runs.job import Job
from app.runs.journal import Journal, RunRecord
from app.runs.run import Run
from app.runs.stored_run import description_of
from app.swarm.plan import Plan
from app.tools.mcp import McpHub

logger = logging.getLogger(__name__)

_RETRY_AFTER_FULL_SECONDS = 5.0
_RETRY_AFTER_DRAINING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What the operator grants runs, in seconds where it is a time."""

    max_runs: int = 1000
    run_seconds: float = 3600.0
    disconnect_grace_seconds: float = 10.0
    clocks: TurnClocks = field(default_factory=TurnClocks)


class Supervisor:
    """Runs, from their admission to their end. Use it as an async context manager: leaving it ends what still runs."""

    def __init__(
        self, journal: Journal, models: Mapping[str, ChatModel], limits: RunLimits, mcp: McpHub | None = None
    ) -> None:
        self.journal = journal
        self._speaker = Speaker(models, limits.clocks, mcp)
        self._limits = limits
        self._live: dict[str, Run] = {}
        self._admitting = 0
        self._draining = False
        self._interrupting = False
        self._drained = anyio.Event()
        self._tasks: asyncio.TaskGroup

    async def __aenter__(self) -> "Supervisor":
        self._tasks = await asyncio.TaskGroup().__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drain(0)
        await self._tasks.__aexit__(None, None, None)

    @property
    def ready(self) -> bool:
        """Whether new runs are welcome."""
        return not self._draining and self.journal.healthy

    async def start(self, job: Job) -> Run:
        """Admit a job and set it going. Its first two events are in the journal when this returns.

        Raises:
            Unavailable: the server is full or about to stop.
            StorageUnavailable: nothing can be written down at present.
            AlreadyClaimed, IdempotencyMismatch: the job's claim has a run.
        """
        if not self.journal.healthy:
            raise StorageUnavailable(
                "the server cannot write anything down at present", retry_after_seconds=_RETRY_AFTER_FULL_SECONDS
            )
        if self._draining:
            raise Unavailable("the server is about to stop", retry_after_seconds=_RETRY_AFTER_DRAINING_SECONDS)
        if len(self._live) + self._admitting >= self._limits.max_runs:
            raise Unavailable("the server is full", retry_after_seconds=_RETRY_AFTER_FULL_SECONDS)
        self._admitting += 1
        try:
            run = Run(job, grace_seconds=self._limits.disconnect_grace_seconds)
            await run.begin(self.journal)
            self._live[run.job_id] = run
        finally:
            self._admitting -= 1
            self._look_whether_drained()
        run.expect_reader()
        if self._interrupting:
            self._interrupt(run)
        self._begin(run)
        return run

    async def recover(self, job_of: Callable[[RunRecord], Job]) -> None:
        """Take up the runs whose process ended before they did: those that go on without a client go on, the others
        are told to have been interrupted. `job_of` makes a job of what was posted, or raises an `AppError`."""
        for found in await self.journal.unfinished():
            record = found.record
            if found.fault is not None:
                run = Run(_lost_job(record), grace_seconds=0)
                run.resume(found)
                if run.summary.described is None:
                    run.record(description_of(record))
                await run.finish(InternalError("what was stored of the run is damaged"), succeeded=False)
                continue
            try:
                job = job_of(record)
            except AppError as error:
                run = Run(_lost_job(record), grace_seconds=0)
                run.resume(found)
                logger.warning("run %s cannot go on: %s", record.job_id, error)
                await run.finish(InternalError(f"the run cannot go on: {error.detail}"), succeeded=False)
                continue
            run = Run(job, grace_seconds=self._limits.disconnect_grace_seconds)
            run.resume(found)
            if reason := run.unfinished_business():
                await run.finish(reason, succeeded=False)
                continue
            self._live[run.job_id] = run
            self._begin(run)

    def _begin(self, run: Run) -> None:
        task = self._tasks.create_task(self._own(run), name=f"run {run.job_id}")
        task.add_done_callback(lambda _: self._forget(run))  # also where the event loop ends before its first step

    def live(self, job_id: str) -> Run | None:
        """The run, while it goes on in this process."""
        return self._live.get(job_id)

    async def drain(self, seconds: float) -> None:
        """Admit nothing more, give what runs `seconds` to finish, then interrupt it. Returns when all have ended."""
        self._draining = True
        with anyio.move_on_after(seconds):
            await self._no_more_runs()
        self._interrupting = True
        for run in list(self._live.values()):
            self._interrupt(run)
        await self._no_more_runs()

    def _interrupt(self, run: Run) -> None:
        """A run that outlives its client, too, goes on when the server is back, if the journal survives that."""
        if self.journal.survives and run.job.on_disconnect == "continue":
            run.suspend()
        else:
            run.stop(RunInterrupted("the server stopped"))

    async def _no_more_runs(self) -> None:
        self._look_whether_drained()
        await self._drained.wait()

    def _look_whether_drained(self) -> None:
        """No run goes on, and none will come."""
        if self._draining and not self._live and not self._admitting:
            self._drained.set()

    def _forget(self, run: Run) -> None:
        self._live.pop(run.job_id, None)
        self._look_whether_drained()

    async def _own(self, run: Run) -> None:
        job = run.job
        trace = f", traceparent {job.traceparent}" if job.traceparent else ""
        logger.info("run %s started: %s, %d turns%s", run.job_id, job.swarm_type or "agent", job.plan.turns, trace)
        try:
            await run.live(self._speaker, self._limits.run_seconds)
        except asyncio.CancelledError:
            raise
        except BaseException:
            logger.exception("run %s: a bug of ours, after its end", run.job_id)
        finally:
            ended = run.summary.ended
            logger.info("run %s ended: %s", run.job_id, ended.status if ended else "without an end")


def _lost_job(record: RunRecord) -> Job:
    """Of a run that cannot be run any more."""
    return Job(kind=record.kind, plan=Plan((), ()), owner=record.owner, on_disconnect="continue")
