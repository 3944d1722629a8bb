"""The owner of runs: it starts them, ends them, and decides what happens when their readers leave.

A run lives here and not in the answer to its request. Whatever happens to it, its journal ends with exactly one
`RunEnded`, after a `UsageTotalled`.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio
from anyio import CancelScope

from app.engine.budget import Budget
from app.engine.clocks import TurnClocks
from app.engine.execute import Execution
from app.engine.past import Past, past_of
from app.engine.turn import Speaker, as_failure
from app.errors import (
    AppError,
    BudgetExceeded,
    InternalError,
    RunCancelled,
    RunError,
    RunInterrupted,
    RunTimedOut,
    StorageUnavailable,
    Unavailable,
    error_of,
)
from app.events import (
    EndStatus,
    Event,
    ReasoningDelta,
    RunDescribed,
    RunEnded,
    RunFailed,
    RunStarted,
    TextDelta,
)
from app.llm.base import ChatModel
from app.runs.job import Job
from app.runs.journal import Journal, Log, RunRecord, Unfinished
from app.runs.summary import Summary
from app.swarm.plan import Plan
from app.tools.mcp import McpHub

logger = logging.getLogger(__name__)

_FIRST_READER_SECONDS = 10.0
_RETRY_AFTER_FULL_SECONDS = 5.0
_RETRY_AFTER_DRAINING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What the operator grants runs, in seconds where it is a time."""

    max_runs: int = 1000
    run_seconds: float = 3600.0
    disconnect_grace_seconds: float = 10.0
    clocks: TurnClocks = field(default_factory=TurnClocks)


class Run:
    """A run that is going on in this process, and the recorder of its events."""

    _log: Log

    def __init__(self, job: Job, *, grace_seconds: float) -> None:
        self._record = _record(job)
        self.job_id = self._record.job_id
        self.job = job
        self.summary = Summary()
        self._began = time.monotonic()
        self._scope = CancelScope()
        self._stopped_by: RunError | None = None
        self._is_suspended = False
        self._past = Past()
        self._grace_seconds = grace_seconds
        self._readers = 0
        self._leaving: asyncio.TimerHandle | None = None
        self._unread: anyio.Event | None = None
        """There while nobody reads; set when somebody does."""

    # The engine's recorder.

    def now_ms(self) -> int:
        return int((time.monotonic() - self._began) * 1000)

    def say(self, delta: TextDelta | ReasoningDelta) -> None:
        if not self._is_suspended:
            self._log.append(delta)  # the summary learns nothing of it

    def record(self, event: Event) -> None:
        if not self._is_suspended:
            self._log.append(event)
            self.summary.observe(event)

    async def commit(self, event: Event) -> None:
        if self._is_suspended:
            return
        if self.job.on_disconnect == "cancel" and not isinstance(event, RunEnded):
            self.record(event)  # no other process goes on with this run: it is enough that it is written soon
            return
        self.summary.observe(event)
        try:
            await self._log.commit(event)
        except StorageUnavailable as error:
            self.stop(error)

    # Its end.

    def stop(self, reason: RunError) -> None:
        """End the run; the first reason counts. One that is suspended goes on in the next process whatever comes."""
        if self._stopped_by is None and not self._is_suspended:
            self._stopped_by = reason
            self._scope.cancel()

    def cancel(self) -> None:
        """Somebody asked for it through the journal."""
        self.stop(RunCancelled("the run was cancelled"))

    def suspend(self) -> None:
        """Stop, and go on in the next process: nothing more of it is written, its readers go without an end."""
        if self._stopped_by is None:
            self._is_suspended = True
            self._scope.cancel()

    def _budget(self) -> Budget | None:
        job = self.job
        if job.max_total_tokens is None and job.max_cost_usd is None:
            return None
        return Budget(
            max_total_tokens=job.max_total_tokens,
            max_cost_usd=job.max_cost_usd,
            spent=self.summary.total(0).total,
            on_exhausted=self.stop,
        )

    def unfinished_business(self) -> RunError | None:
        """Why a run that was resumed must end at once; None if it goes on."""
        if self.summary.stopped is not None:
            failure = self.summary.stopped.failure
            error = error_of(failure.code, failure.message)
            return error if isinstance(error, RunError) else InternalError(failure.message)
        if any(turn.status == "cancelled" for turn in self.summary.answers):
            return RunCancelled("the run was cancelled")
        if self.job.on_disconnect == "cancel" and self.summary.usage is None:  # else it had come to its end
            return RunInterrupted("the server stopped")
        return None

    def _fail_storage(self) -> None:
        self.stop(StorageUnavailable("what happens in the run can no longer be written down"))

    # Its readers.

    @contextmanager
    def reader(self) -> Generator[None]:
        """Within this block somebody reads the run. When the last one leaves, `on_disconnect` decides."""
        self._readers += 1
        if self._unread is not None:
            self._unread.set()
            self._unread = None
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        try:
            yield
        finally:
            self._readers -= 1
            if self._readers == 0 and self.job.on_disconnect == "cancel" and self.summary.ended is None:
                self._abandon()

    def _abandon(self) -> None:
        """Nobody pays for what nobody reads: no new turn starts, and after the grace period the run is cancelled."""
        self._unread = anyio.Event()
        self._leave_in(self._grace_seconds)

    def expect_reader(self) -> None:
        """Whoever posted the run reads it, if nothing comes between; nobody else will."""
        if self.job.on_disconnect == "cancel":
            self._leave_in(max(self._grace_seconds, _FIRST_READER_SECONDS))

    def _leave_in(self, seconds: float) -> None:
        reason = RunCancelled("the client went away")
        self._leaving = asyncio.get_running_loop().call_later(seconds, self.stop, reason)

    async def _while_unread(self) -> None:
        if self._unread is not None:
            await self._unread.wait()

    # Its course.

    async def begin(self, journal: Journal) -> None:
        """Write the first two events."""
        self._log = await journal.submit(self._record, on_cancel=self.cancel, on_failure=self._fail_storage)
        try:
            self.record(_description(self._record, self.job))
            started = RunStarted(self.now_ms())
            if self.job.on_disconnect == "continue":
                await self.commit(started)  # whoever is told of it may leave, and find it whatever happens
            else:
                self.record(started)
        except BaseException:
            with CancelScope(shield=True):
                reason = InternalError("the run could not be started")
                await self.finish(reason, succeeded=False, timeout_seconds=0)
            raise

    def resume(self, unfinished: Unfinished) -> None:
        """Take up where another process left off."""
        self._record, self.job_id = unfinished.record, unfinished.record.job_id
        self._log = unfinished.go_on(self.cancel, self._fail_storage)
        for _, event in unfinished.entries:
            self.summary.observe(event)
        self._past = past_of(unfinished.entries)
        if unfinished.entries:
            self._began -= unfinished.entries[-1][1].t_ms / 1000

    async def live(self, speaker: Speaker, run_seconds: float) -> None:
        """Carry the plan out, and write the end of the journal whatever came of it."""
        timeout = min(run_seconds, self.job.timeout_seconds or run_seconds)
        # Unless we learn otherwise: only a cancellation from outside leaves it at this.
        reason: RunError | None = RunInterrupted("the server stopped")
        succeeded: bool | None = None
        job = self.job
        execution = Execution(job.plan, speaker, self, job.on_error, self._while_unread, self._budget(), self._past)
        try:
            has_had = self.now_ms() / 1000  # before a crash, if there was one
            self._scope.deadline = anyio.current_time() + timeout - has_had
            with self._scope:
                succeeded = await execution.run()
            if succeeded is None or isinstance(self._stopped_by, BudgetExceeded):
                # The budget may have cut the last answer of all: nothing was left to be cancelled.
                reason = self._stopped_by or RunTimedOut(f"the run took longer than {timeout:g} s")
            else:
                reason = None
        except asyncio.CancelledError:
            raise
        except BaseException:  # of whatever kind: the other runs go on
            logger.exception("run %s: a bug of ours ended it", self.job_id)
            reason = InternalError("something went wrong in this server")
        finally:
            with CancelScope(shield=True):
                if self._is_suspended and self._stopped_by is None:
                    await self._log.suspend()
                else:
                    await self.finish(reason, succeeded=bool(succeeded), timeout_seconds=timeout)

    async def finish(self, reason: RunError | None, *, succeeded: bool, timeout_seconds: float = 0) -> None:
        """Write the run's last events."""
        if self._leaving is not None:
            self._leaving.cancel()
        now_ms = self.now_ms()
        if reason is not None and self.summary.stopped is None:
            self.record(
                RunFailed(
                    now_ms,
                    failure=as_failure(reason),
                    elapsed_seconds=now_ms / 1000,
                    active_agents=tuple(turn.agent for turn in self.summary.answers if turn.status == "cancelled"),
                    timeout_seconds=timeout_seconds if isinstance(reason, RunTimedOut) else None,
                )
            )
        if self.summary.usage is None:  # else a crash came between it and the end
            self.record(self.summary.total(now_ms))
        unforced: EndStatus = "success" if succeeded else "failed"
        await self.commit(
            RunEnded(
                now_ms,
                status=reason.end_status if reason else unforced,
                duration_seconds=now_ms / 1000,
                failed_agents=self.summary.failed_agents,
            )
        )


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
            logger.exception("run %s: its journal cannot be written", run.job_id)
        finally:
            self._forget(run)
            ended = run.summary.ended
            logger.info("run %s ended: %s", run.job_id, ended.status if ended else "without an end")


def _lost_job(record: RunRecord) -> Job:
    """Of a run that cannot be run any more."""
    return Job(kind=record.kind, plan=Plan((), ()), owner=record.owner, on_disconnect="continue")


def _record(job: Job) -> RunRecord:
    return RunRecord(
        job_id=f"{'swarms' if job.kind == 'swarm' else 'agent'}-{secrets.token_hex(16)}",
        owner=job.owner,
        kind=job.kind,
        created_at=datetime.now(UTC),
        include_output=job.include_output,
        coalesce_ms=job.coalesce_ms,
        request_id=job.request_id,
        traceparent=job.traceparent,
        on_disconnect=job.on_disconnect,
        body=job.body,
        claim=job.claim,
    )


def _description(record: RunRecord, job: Job) -> RunDescribed:
    return RunDescribed(
        t_ms=0,
        job_id=record.job_id,
        kind=job.kind,
        name=job.name,
        description=job.description,
        swarm_type=job.swarm_type,
        number_of_agents=job.number_of_agents,
        service_tier=job.service_tier,
        temperature=job.temperature,
        created_at=record.created_at,
        warnings=job.warnings,
        metadata=job.metadata,
    )
