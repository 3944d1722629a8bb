"""The runs that go on in this process, and the phases in which the process stops.

    OPEN ──drain()──> DRAINING ──its time is over──> INTERRUPTING ──> no run is left

| phase | runs that are admitted | runs that go on |
|---|---|---|
| `OPEN` | begin | go on |
| `DRAINING` | none any more, but admissions under way are finished | have time to end by themselves |
| `INTERRUPTING` | none; one that was under way is interrupted as it begins | are interrupted, or handed over |

A process is drained when no run goes on, none is being admitted, and none will be. An admission spans waits, for the
journal; without the count of those under way, a run could begin after the process was taken for drained, and would be
lost with it. Phases only move on. `drain` may be called again while it goes on, to hurry.
"""

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import IntEnum

import anyio

from swarmstream.clock import Clock, time_limit
from swarmstream.errors import RunInterrupted, Unavailable
from swarmstream.runs.engine import Engine
from swarmstream.runs.limits import RunLimits
from swarmstream.runs.run import Run
from swarmstream.settings import ENV_PREFIX
from swarmstream.shares import Owner, Shares, current_owner

logger = logging.getLogger(__name__)

_RETRY_AFTER_FULL_SECONDS = 5.0
_RETRY_AFTER_DRAINING_SECONDS = 1.0


class Phase(IntEnum):
    """The phases in which the process stops, in their order."""

    OPEN = 0
    DRAINING = 1
    INTERRUPTING = 2


class LiveRuns:
    """Runs in progress, each in a task of its own."""

    def __init__(
        self, tasks: asyncio.TaskGroup, engine: Engine, limits: RunLimits, *, hands_over: bool, clock: Clock
    ) -> None:
        """With `hands_over`, runs that may be resumed are left to the next process when this one stops."""
        # asyncio's group, not anyio's: done callbacks are called also for a task that ends before its first step.
        self._tasks = tasks
        self._engine = engine
        self._limits = limits
        self._hands_over = hands_over
        self._clock = clock
        self._runs: dict[str, Run] = {}
        self._admissions = 0
        self._drained = anyio.Event()
        self.phase = Phase.OPEN
        self.shares = Shares(limits.max_runs)
        """The places among `max_runs`: taken before a run begins, given back at its end."""

    def presence(self, job_id: str) -> Callable[[], AbstractContextManager[None]]:
        """Return the context that a reader of this run enters for as long as it is connected."""
        run = self._runs.get(job_id)
        return run.presence.reader if run is not None else nullcontext

    async def flush(self, job_id: str) -> None:
        """Return once all that has happened in this run is committed.

        Raises:
            StorageUnavailable: it cannot be committed at present.
        """
        if (run := self._runs.get(job_id)) is not None:
            await run.recorder.flush()

    @contextmanager
    def admission(self, owner: str) -> Generator[None]:
        """Take a place among the runs, for one of this owner that begins in the block; a block that fails gives it
        back. The process is not drained before the block ends.

        Raises:
            Unavailable: the server is full or about to stop.
        """
        if self.phase is not Phase.OPEN:
            raise Unavailable("the server is about to stop", retry_after_seconds=_RETRY_AFTER_DRAINING_SECONDS)
        if not self.shares.take(Owner(owner, of=self._limits.keys)):
            kept = " but for what is kept for other keys" if self.shares.left > 0 else ""
            raise Unavailable(
                f"the server is full{kept}: {ENV_PREFIX}MAX_RUNS is {self._limits.max_runs}",
                retry_after_seconds=_RETRY_AFTER_FULL_SECONDS,
            )
        self._admissions += 1
        try:
            yield
        except BaseException:
            self.shares.give_back(owner)
            raise
        finally:
            self._admissions -= 1
            self._check_drained()

    def begin(self, run: Run) -> None:
        """Carry out a run that has its place among the shares."""
        if self.phase is Phase.INTERRUPTING:
            self._interrupt(run)
        self._runs[run.job_id] = run
        task = self._tasks.create_task(self._carry_out(run), name=f"run {run.job_id}")
        task.add_done_callback(lambda _: self._forget(run))  # also where the event loop ends before its first step

    async def drain(self, seconds: float) -> None:
        """Give the runs so many seconds to end, then interrupt them. Returns when none is left; none begins later."""
        self.phase = max(self.phase, Phase.DRAINING)
        self._check_drained()
        with time_limit(self._clock, seconds):
            await self._drained.wait()
        self.phase = Phase.INTERRUPTING
        for run in list(self._runs.values()):
            self._interrupt(run)
        await self._drained.wait()

    def _interrupt(self, run: Run) -> None:
        if self._hands_over and run.record.on_disconnect == "continue":
            run.hand_over()
        else:
            run.stop(RunInterrupted("the server stopped"))

    def _check_drained(self) -> None:
        if self.phase > Phase.OPEN and not self._runs and not self._admissions:
            self._drained.set()

    def _forget(self, run: Run) -> None:
        if self._runs.pop(run.job_id, None) is not None:
            self.shares.give_back(run.job.owner)
            run.calls.close()
        self._check_drained()

    async def _carry_out(self, run: Run) -> None:
        job = run.job
        current_owner.set(Owner(job.owner, of=self._limits.keys))
        trace = f", traceparent {job.traceparent}" if job.traceparent else ""
        kind, turns = job.swarm_type or "agent", f"{job.plan.turns} turn{'' if job.plan.turns == 1 else 's'}"
        logger.info("run %s started: %s, %s%s", run.job_id, kind, turns, trace)
        try:
            await run.run(self._engine, self._limits.run_seconds)
        except asyncio.CancelledError:
            raise
        except BaseException:
            logger.exception("run %s: a bug of ours, after its end", run.job_id)
        finally:
            ended = run.summary.ended
            logger.info("run %s ended: %s", run.job_id, ended.status if ended else "without an end, so far")
