"""One run: the recorder of its events, from its first to its one last."""

import asyncio
import logging
import secrets
from collections.abc import Sequence

from anyio import CancelScope

from swarmstream.clock import SYSTEM_CLOCK, Clock, time_limit, utc
from swarmstream.engine.budget import Budget
from swarmstream.engine.replay import RecoveredTurns, recovered_turns
from swarmstream.engine.run_calls import RunCalls
from swarmstream.engine.stages import Execution
from swarmstream.engine.turn import TurnRunner, as_failure
from swarmstream.errors import (
    BudgetExceeded,
    InternalError,
    RunCancelled,
    RunError,
    RunInterrupted,
    RunTimedOut,
    StorageUnavailable,
    error_from_code,
)
from swarmstream.events import (
    EndStatus,
    Event,
    ReasoningDelta,
    RunDescribed,
    RunEnded,
    RunFailed,
    RunStarted,
    TextDelta,
    TurnEnded,
    TurnFailed,
    UsageTotalled,
)
from swarmstream.journal.base import Entry, InterruptedRun, Journal, Log, RunRecord
from swarmstream.journal.summary import Summary
from swarmstream.runs.job import Job
from swarmstream.runs.presence import Presence

logger = logging.getLogger(__name__)

_SHOWN_WHEN_SAFE = (RunDescribed, RunStarted, TurnEnded, TurnFailed, RunFailed, UsageTotalled)
"""What readers act upon: a run that they saw begin is found again, a turn that they saw end is not taken again, a
failure that they saw stays one."""


class Run:
    """A run that is going on in this process, and the recorder of its events."""

    _log: Log

    def __init__(
        self, job: Job, *, grace_seconds: float = 0, clock: Clock = SYSTEM_CLOCK, calls: RunCalls | None = None
    ) -> None:
        self._clock = clock
        self._record = _record(job, clock)
        self.job_id = self._record.job_id
        self.job = job
        self.summary = Summary()
        self._now = clock.now
        self._began = clock.now()
        self._scope = CancelScope()
        self._stopped_by: RunError | None = None
        self._is_suspended = False
        self._is_withdrawn = False
        self._past = RecoveredTurns()
        self.calls = calls or RunCalls(owner=job.owner)
        self.presence = Presence(
            needs_reader=self._needs_reader, leave=self._leave, grace_seconds=grace_seconds, clock=clock
        )

    # The engine's recorder.

    def now_ms(self) -> int:
        return int((self._now() - self._began) * 1000)

    def append_delta(self, delta: TextDelta | ReasoningDelta) -> None:
        if not self._is_silent:
            self._log.append(delta)  # the summary learns nothing of it

    def append(self, event: Event) -> None:
        if self._is_silent:
            return
        if isinstance(event, _SHOWN_WHEN_SAFE):
            self._log.append_hidden(event)
        else:
            self._log.append(event)
        self.summary.observe(event)

    async def commit(self, event: Event) -> None:
        if self._is_silent:
            return
        if self.job.on_disconnect == "cancel" and not isinstance(event, RunEnded):
            self.append(event)  # no other process goes on with this run: it is enough that it is written soon
            return
        self.summary.observe(event)
        try:
            await self._log.commit(event)
        except StorageUnavailable as error:
            self.stop(error)

    @property
    def _is_silent(self) -> bool:
        """Whether nothing more of it is recorded here."""
        return self._is_suspended or self._is_withdrawn

    # Its end.

    def stop(self, reason: RunError) -> None:
        """End the run; the first reason counts. One that is suspended goes on in the next process whatever comes."""
        if self._stopped_by is None and not self._is_suspended:
            self._stopped_by = reason
            self._scope.cancel()

    def cancel(self) -> None:
        """Somebody asked for it through the journal."""
        self.stop(RunCancelled("the run was cancelled"))

    def _leave(self) -> None:
        self.stop(RunCancelled("the client went away"))

    def _needs_reader(self) -> bool:
        return self.job.on_disconnect == "cancel"

    def _fail_storage(self) -> None:
        self.stop(StorageUnavailable("what happens in the run can no longer be written down"))

    def suspend(self) -> None:
        """Stop, and go on in the next process: nothing more of it is written, its readers go without an end."""
        if self._stopped_by is None:
            self._is_suspended = True
            self._scope.cancel()

    def reason_to_end(self) -> RunError | None:
        """Why a run that was resumed must end at once; None if it goes on."""
        if self.summary.stopped is not None:
            failure = self.summary.stopped.failure
            error = error_from_code(failure.code, failure.message, RunError)
            return error if isinstance(error, RunError) else InternalError(failure.message)
        if any(turn.status == "cancelled" for turn in self.summary.answers):
            return RunCancelled("the run was cancelled")
        if self.job.on_disconnect == "cancel" and self.summary.usage is None:  # else it had come to its end
            return RunInterrupted("the server stopped")
        return None

    # Its course.

    async def begin(self, journal: Journal) -> None:
        """Enter the run in the journal, with its first two events."""
        self._log = await journal.submit(self._record, on_cancel=self.cancel, on_failure=self._fail_storage)
        self.append(_description(self._record, self.job, self.calls.max_calls))
        self.append(RunStarted(self.now_ms()))

    async def kept(self) -> None:
        """Return once the first two events are safe: who is told of the run finds it, whatever happens then.

        Raises:
            StorageUnavailable: they cannot be written; the run is withdrawn.
        """
        try:
            await self._log.safe()
        except StorageUnavailable as error:
            self._is_withdrawn = True
            self._log.withdraw()
            self.stop(error)
            raise
        except BaseException:
            self.stop(InternalError("the run could not be started"))
            raise

    async def safe(self) -> None:
        """Return once all that has happened so far is safe.

        Raises:
            StorageUnavailable: it cannot be made safe at present.
        """
        await self._log.safe()

    def take_over(self, found: InterruptedRun, entries: Sequence[Entry]) -> None:
        """Go on where another process left off, behind these entries."""
        self._record, self.job_id = found.record, found.record.job_id
        self._log = found.go_on(on_cancel=self.cancel, on_failure=self._fail_storage)
        if entries:
            self._began -= entries[-1][1].t_ms / 1000

    def remember(self, entries: Sequence[Entry]) -> None:
        """Learn from the entries what the other process has done."""
        for _, event in entries:
            self.summary.observe(event)
        self._past = recovered_turns(entries)

    async def live(self, speaker: TurnRunner, run_seconds: float) -> None:
        """Carry the plan out, and write the end of the journal whatever came of it."""
        timeout = min(run_seconds, self.job.timeout_seconds or run_seconds)
        # Unless we learn otherwise: only a cancellation from outside leaves it at this.
        reason: RunError | None = RunInterrupted("the server stopped")
        succeeded: bool | None = None
        job = self.job
        self.calls.resume(self._past.calls, on_limit=self.stop)
        execution = Execution(
            job.plan, speaker, self, job.on_error, self.presence.while_unread, self._budget(), self.calls, self._past
        )
        try:
            has_had = self.now_ms() / 1000  # before a crash, if there was one
            with self._scope, time_limit(self._clock, timeout - has_had):
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
                self.presence.end()
                if self._is_suspended and self._stopped_by is None:
                    await self._log.suspend()
                elif not self._is_withdrawn:
                    await self.finish(reason, succeeded=bool(succeeded), timeout_seconds=timeout)

    async def finish(self, reason: RunError | None, *, succeeded: bool, timeout_seconds: float = 0) -> None:
        """Write the run's last events."""
        self.presence.end()
        now_ms = self.now_ms()
        if reason is not None and self.summary.stopped is None:
            self.append(
                RunFailed(
                    now_ms,
                    failure=as_failure(reason),
                    elapsed_seconds=now_ms / 1000,
                    active_agents=tuple(turn.agent for turn in self.summary.answers if turn.status == "cancelled"),
                    timeout_seconds=timeout_seconds if isinstance(reason, RunTimedOut) else None,
                )
            )
        if self.summary.usage is None:  # else a crash came between it and the end
            self.append(self.summary.total(now_ms))
        unforced: EndStatus = "success" if succeeded else "failed"
        await self.commit(
            RunEnded(
                now_ms,
                status=reason.end_status if reason else unforced,
                duration_seconds=now_ms / 1000,
                failed_agents=self.summary.failed_agents,
            )
        )

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


def _record(job: Job, clock: Clock) -> RunRecord:
    return RunRecord(
        job_id=f"{'swarms' if job.kind == 'swarm' else 'agent'}-{secrets.token_hex(16)}",
        owner=job.owner,
        kind=job.kind,
        created_at=utc(clock),
        include_output=job.include_output,
        coalesce_ms=job.coalesce_ms,
        request_id=job.request_id,
        traceparent=job.traceparent,
        on_disconnect=job.on_disconnect,
        body=job.body,
        claim=job.claim,
    )


def _description(record: RunRecord, job: Job, max_calls: int) -> RunDescribed:
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
        max_calls=max_calls,
    )
