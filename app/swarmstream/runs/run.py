"""A run, from its first event to the one way in which it leaves this process.

A run is carried out by one task, `Run.run`. Whatever happens to it meanwhile only sets its state and cancels the scope
around the plan; the task then leaves by the one way that the state says. So a run has exactly one `RunEnded`, after
exactly one `UsageTotalled`, or it has none and another process goes on with it.

    submit ──> RUNNING ──> the plan is carried out, fails, or runs out of time ──> its end
                  ├─ stop(reason) ─────> STOPPED ──────────────────────────────> its end, with the reason
                  ├─ hand_over() ──────> HANDED_OVER ──> no end; its readers are let go
                  └─ cannot be written ─> DISCARDED ───> no trace; its request is refused

Only `RUNNING` is left by `stop` and `hand_over`, so that the first reason counts, and a run that was handed over is not
cancelled afterwards. `DISCARDED` wins over all: the log is gone.

| what happens | state | `error` event | `end.status` |
|---|---|---|---|
| all turns were taken | `RUNNING` | | `success` |
| a turn failed, and `on_error` is `"fail"` | `RUNNING` | the turn's own | `failed` |
| the run's time is over | `RUNNING` | `timed_out` | `timed_out` |
| the server has a bug | `RUNNING` | `internal` | `failed` |
| a client cancels it, or the last reader left for good | `STOPPED` | `cancelled` | `cancelled` |
| its budget is spent | `STOPPED` | `budget_exceeded` | `budget_exceeded` |
| it has made all its model calls | `STOPPED` | `limit_exceeded` | `failed` |
| the journal fails | `STOPPED` | `storage_unavailable` | `failed` |
| the server stops, and the run may not be resumed | `STOPPED` | `interrupted` | `interrupted` |
| the server stops, and the run may be resumed | `HANDED_OVER` | | no end: the next process resumes it |
| its first two events cannot be written | `DISCARDED` | | no run: the client got 503 |
| the process dies | | | no end: the next process resumes it, or ends it (`recovery.py`) |

Without the states a run that is cancelled while the server stops would end twice, or be resumed after its client saw
it cancelled. The end is written inside a shield: no cancellation from outside keeps a run from its end.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from enum import Enum, auto
from functools import partial

from anyio import CancelScope

from swarmstream.clock import SYSTEM_CLOCK, Clock, time_limit
from swarmstream.engine.budget import Budget
from swarmstream.engine.replay import RecoveredTurns
from swarmstream.engine.run_calls import RunCalls
from swarmstream.engine.run_context import RunContext
from swarmstream.errors import (
    BudgetExceeded,
    InternalError,
    RunCancelled,
    RunError,
    RunInterrupted,
    RunTimedOut,
    StorageUnavailable,
)
from swarmstream.events import RunDescribed, RunStarted, Usage
from swarmstream.journal.base import InterruptedRun, Journal
from swarmstream.journal.records import Entry, RunRecord
from swarmstream.runs.end import write_end
from swarmstream.runs.engine import Engine
from swarmstream.runs.job import Job
from swarmstream.runs.presence import Presence
from swarmstream.runs.recorder import RunRecorder

logger = logging.getLogger(__name__)


class _State(Enum):
    """The way in which a run is going to leave, as the module's table has it."""

    RUNNING = auto()
    STOPPED = auto()
    HANDED_OVER = auto()
    DISCARDED = auto()


class Run:
    """A run in this process. `recorder` writes its events, `presence` counts its readers."""

    def __init__(
        self,
        job: Job,
        record: RunRecord,
        *,
        grace_seconds: float = 0,
        clock: Clock = SYSTEM_CLOCK,
        calls: RunCalls | None = None,
    ) -> None:
        self.job = job
        self.record = record
        self.job_id = record.job_id
        self.calls = calls or RunCalls(owner=record.owner)
        self._clock = clock
        self._scope = CancelScope()
        self._state = _State.RUNNING
        self._reason: RunError | None = None
        """Set once stopped."""
        self.recovered = RecoveredTurns()
        """The turns that another process took or began."""
        needs_reader = record.on_disconnect == "cancel"
        self.recorder = RunRecorder(clock, may_be_resumed=not needs_reader, on_storage_failure=self.stop)
        self.summary = self.recorder.summary
        """The fold of its events so far."""
        self.presence = Presence(
            needs_reader=needs_reader,
            on_abandoned=partial(self.stop, RunCancelled("the client went away")),
            grace_seconds=grace_seconds,
            clock=clock,
        )

    # How it begins.

    async def begin(self, journal: Journal, description: RunDescribed) -> None:
        """Enter the run in the journal, with its first two events, of which the description is one."""
        recorder = self.recorder
        recorder.open(await journal.submit(self.record, self))
        recorder.append(description)
        recorder.append(RunStarted(recorder.now_ms()))

    async def confirm_begun(self) -> None:
        """Return once the first two events are committed: a client that knows of the run finds it after any crash.

        Raises:
            StorageUnavailable: they cannot be written; the run is discarded.
        """
        try:
            await self.recorder.flush()
        except StorageUnavailable:
            self._state = _State.DISCARDED
            self._scope.cancel()
            self.recorder.discard()
            raise
        except BaseException:
            self.stop(InternalError("the run could not be started"))
            raise

    def resume(self, interrupted: InterruptedRun, entries: Sequence[Entry]) -> None:
        """Go on writing behind these entries, where another process left off."""
        log = interrupted.resume(self)
        self.recorder.open(log, elapsed_ms=entries[-1][1].t_ms if entries else 0)

    # What leads it to its end.

    def stop(self, reason: RunError) -> None:
        """End the run for this reason, unless it is ending already or was handed over."""
        if self._state is _State.RUNNING:
            self._state, self._reason = _State.STOPPED, reason
            self._scope.cancel()

    def hand_over(self) -> None:
        """Leave the run to the next process: nothing more of it is recorded, and its readers go without an end."""
        if self._state is _State.RUNNING:
            self._state = _State.HANDED_OVER
            self._scope.cancel()
            self.recorder.close()

    def cancel_requested(self) -> None:
        """Cancel the run, because somebody asked for it."""
        self.stop(RunCancelled("the run was cancelled"))

    def storage_failed(self) -> None:
        """End the run, because the journal can no longer write its events."""
        self.stop(StorageUnavailable("what happens in the run can no longer be written down"))

    # Its course.

    async def run(self, engine: Engine, max_seconds: float) -> None:
        """Carry the plan out, and leave by the way that the state says, whatever came of it."""
        seconds = min(max_seconds, self.job.timeout_seconds or max_seconds)
        # Unless we learn otherwise: only a cancellation from outside leaves it at this.
        reason: RunError | None = RunInterrupted("the server stopped")
        succeeded: bool | None = None
        try:
            succeeded = await self._carry_out(engine, seconds)
            if succeeded is None or isinstance(self._reason, BudgetExceeded):
                # The budget may have cut the last answer of all: nothing was left to be cancelled.
                reason = self._reason or RunTimedOut(f"the run took longer than {seconds:g} s")
            else:
                reason = None
        except asyncio.CancelledError:
            raise
        except BaseException:  # of whatever kind: the other runs go on
            logger.exception("run %s: a bug of ours ended it", self.job_id)
            reason = InternalError("something went wrong in this server")
        finally:
            with CancelScope(shield=True):
                self.presence.close()
                if self._state is _State.HANDED_OVER:
                    await self.recorder.hand_over()
                elif self._state is not _State.DISCARDED:
                    await write_end(self.recorder, reason, succeeded=bool(succeeded), timeout_seconds=seconds)

    async def _carry_out(self, engine: Engine, seconds: float) -> bool | None:
        """Return whether all turns were taken; None if something stopped them, or their time was over."""
        job = self.job
        self.calls.resume(self.recovered.model_calls, on_limit=self.stop)
        context = RunContext(self.recorder, _budget(job, self.summary.total(0).total, self.stop), self.calls)
        elapsed_seconds = self.recorder.now_ms() / 1000  # in other processes
        with self._scope, time_limit(self._clock, seconds - elapsed_seconds):
            return await engine.carry_out(
                job.plan,
                context,
                on_error=job.on_error,
                before_turn=self.presence.while_unread,
                recovered=self.recovered,
            )
        return None


def _budget(job: Job, spent: Usage, on_exhausted: Callable[[BudgetExceeded], None]) -> Budget | None:
    if job.max_total_tokens is None and job.max_cost_usd is None:
        return None
    return Budget(
        max_total_tokens=job.max_total_tokens,
        max_cost_usd=job.max_cost_usd,
        spent=spent,
        on_exhausted=on_exhausted,
    )
