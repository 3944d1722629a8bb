"""The owner of runs: it starts them, ends them, and decides what happens when their readers leave.

A run lives here and not in the answer to its request. Whatever happens to it, its journal ends with exactly one
`RunEnded`, after a `UsageTotalled`.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext

import anyio

from swarmstream.clock import SYSTEM_CLOCK, Clock, time_limit
from swarmstream.engine.prompt_room import PromptRoom
from swarmstream.engine.run_calls import RunCalls
from swarmstream.engine.turn import TurnRunner
from swarmstream.errors import (
    NotFound,
    RunInterrupted,
    StorageUnavailable,
    Unavailable,
)
from swarmstream.journal.base import AlreadyClaimed, IdempotencyKey, Journal, RunRecord
from swarmstream.llm.base import ChatModel
from swarmstream.runs.job import Job
from swarmstream.runs.limits import RunLimits
from swarmstream.runs.presence import Reading
from swarmstream.runs.recovery import Recovery
from swarmstream.runs.run import Run
from swarmstream.settings import ENV_PREFIX
from swarmstream.shares import Owner, Shares, current_owner
from swarmstream.tools.mcp.hub import McpHub

logger = logging.getLogger(__name__)

_RETRY_AFTER_FULL_SECONDS = 5.0
_RETRY_AFTER_DRAINING_SECONDS = 1.0


class Supervisor:
    """Runs, from their admission to their end. Use it as an async context manager: leaving it ends what still runs."""

    def __init__(
        self,
        journal: Journal,
        models: Mapping[str, ChatModel],
        limits: RunLimits,
        mcp: McpHub | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.journal = journal
        self._clock = clock
        self._recovery: Recovery | None = None
        self._speaker = TurnRunner(models, limits.timeouts, mcp, clock)
        self._limits = limits
        self._room = PromptRoom(limits.max_prompt_bytes)
        self._live: dict[str, Run] = {}
        self._shares = Shares(limits.max_runs)
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
            LimitExceeded: its prompts are larger than they may be.
            Unavailable: the server is full or about to stop.
            StorageUnavailable: nothing can be written down at present.
            AlreadyClaimed, IdempotencyMismatch: the job's claim has a run.
        """
        await self._look_up(job.claim)  # first: it is admitted already
        if not self.journal.healthy:
            raise StorageUnavailable(
                "the server cannot write anything down at present", retry_after_seconds=_RETRY_AFTER_FULL_SECONDS
            )
        if self._draining:
            raise Unavailable("the server is about to stop", retry_after_seconds=_RETRY_AFTER_DRAINING_SECONDS)
        if not self._shares.take(Owner(job.owner, of=self._limits.keys)):
            kept = " but for what is kept for other keys" if self._shares.left > 0 else ""
            raise Unavailable(
                f"the server is full{kept}: {ENV_PREFIX}MAX_RUNS is {self._limits.max_runs}",
                retry_after_seconds=_RETRY_AFTER_FULL_SECONDS,
            )
        calls: RunCalls | None = None
        self._admitting += 1
        try:
            calls = RunCalls(self._limits.max_calls, self._room, job.owner, job.prompt_bytes)
            run = Run(job, grace_seconds=self._limits.disconnect_grace_seconds, clock=self._clock, calls=calls)
            await run.begin(self.journal)
            self._begin(run)
        except BaseException:
            self._shares.give_back(job.owner)
            if calls is not None:
                calls.close()
            raise
        finally:
            self._admitting -= 1
            self._look_whether_drained()
        await run.kept()  # meanwhile its first turn begins
        run.presence.expect_reader()
        return run

    async def claimed(self, claim: IdempotencyKey) -> str:
        """The id of the run that has this claim.

        Raises:
            IdempotencyMismatch: it came with another body.
            NotFound: there is no such run, or no longer.
            StorageUnavailable: which runs there are is not known yet.
        """
        if (known := await self.run_of(claim)) is not None:
            return known
        if not self.journal.is_open:
            raise StorageUnavailable(
                "the server cannot read at present what is stored", retry_after_seconds=_RETRY_AFTER_FULL_SECONDS
            )
        raise NotFound("there is no run of this Idempotency-Key, or no longer: without a cursor, one is begun")

    async def run_of(self, claim: IdempotencyKey) -> str | None:
        """The id of the run that has this claim, as far as is known by now.

        Raises:
            IdempotencyMismatch: it came with another body.
        """
        try:
            await self._look_up(claim)
        except AlreadyClaimed as claimed:
            return claimed.job_id
        return None

    async def _look_up(self, claim: IdempotencyKey | None) -> None:
        """As the journal's, but what it finds is as safe as it is going to be."""
        try:
            self.journal.look_up(claim)
        except AlreadyClaimed as claimed:
            if (known := self._live.get(claimed.job_id)) is not None:
                await known.safe()
            raise

    def recover(self, job_of: Callable[[RunRecord], Job]) -> asyncio.Task[None]:
        """Begin to take up the runs whose process ended before they did, beside what else goes on. They are admitted
        however many there are. `job_of` makes a job of what was posted, in a thread, or raises an `AppError`. The task
        is done when all of them are taken up."""
        grace = self._limits.disconnect_grace_seconds
        self._recovery = Recovery(self.journal, job_of, self._begin_again, grace_seconds=grace, clock=self._clock)
        return self._tasks.create_task(self._recovery.run(), name="recovery")

    def _begin_again(self, run: Run) -> None:
        """Set a run going that another process has left, however many there are."""
        self._shares.take_anyway(run.job.owner)
        run.calls = RunCalls(self._limits.max_calls, self._room, run.job.owner)
        self._begin(run)

    def _begin(self, run: Run) -> None:
        if self._interrupting:
            self._interrupt(run)
        self._live[run.job_id] = run
        task = self._tasks.create_task(self._own(run), name=f"run {run.job_id}")
        task.add_done_callback(lambda _: self._forget(run))  # also where the event loop ends before its first step

    async def read(self, job_id: str) -> Reading:
        """A run from its first event on, for somebody who may read it.

        Raises:
            NotFound: there is no such run, or no longer.
        """
        tail = await self.journal.tail(job_id)
        run = self._live.get(job_id)
        return Reading(tail, run.presence.reader if run else nullcontext)

    async def drain(self, seconds: float) -> None:
        """Admit nothing more, give what runs `seconds` to finish, then interrupt it. Returns when all have ended."""
        self._draining = True
        if self._recovery is not None:
            self._recovery.stop()
        with time_limit(self._clock, seconds):
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
        if self._live.pop(run.job_id, None) is not None:
            self._shares.give_back(run.job.owner)
            run.calls.close()
        self._look_whether_drained()

    async def _own(self, run: Run) -> None:
        job = run.job
        current_owner.set(Owner(job.owner, of=self._limits.keys))
        trace = f", traceparent {job.traceparent}" if job.traceparent else ""
        kind, turns = job.swarm_type or "agent", f"{job.plan.turns} turn{'' if job.plan.turns == 1 else 's'}"
        logger.info("run %s started: %s, %s%s", run.job_id, kind, turns, trace)
        try:
            await run.live(self._speaker, self._limits.run_seconds)
        except asyncio.CancelledError:
            raise
        except BaseException:
            logger.exception("run %s: a bug of ours, after its end", run.job_id)
        finally:
            ended = run.summary.ended
            logger.info("run %s ended: %s", run.job_id, ended.status if ended else "without an end, so far")
