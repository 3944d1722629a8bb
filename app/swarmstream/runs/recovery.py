"""Recovery: runs whose process ended before they did are resumed one after the other, beside everything else.

A run is resumed in three steps, and whatever goes wrong in one ends that run and no other:

    load (the attempt is counted) ──> compile its payload, in a thread ──> resume (the count is cleared)

A payload may kill the process that compiles it: by taking all memory, say. Without the count each process that is
started again would die of it. So an attempt is counted durably before, and a run whose count has reached 20 is given
up. But a process may also be killed just then by chance, so that a short attempt proves little: it counts 1, one that
has taken 0.1 s counts 10. Two processes die of a payload at most where that takes time, twenty where it does not. The
journal yields runs in the order of their attempts, so that one that kills keeps back none that does not.

Where the journal cannot be read or written, the run goes to the end of the queue and is tried again after a second.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence

from anyio import CancelScope, to_thread

from swarmstream.clock import Clock, sleep
from swarmstream.engine.replay import recovered_turns
from swarmstream.errors import (
    AppError,
    InternalError,
    RunCancelled,
    RunError,
    RunInterrupted,
    StorageUnavailable,
    error_from_code,
)
from swarmstream.journal.base import InterruptedRun, Journal
from swarmstream.journal.records import Entry, RunRecord, placeholder_description
from swarmstream.journal.summary import Summary
from swarmstream.runs.end import write_end
from swarmstream.runs.job import Job
from swarmstream.runs.run import Run
from swarmstream.swarm.plan import Plan

logger = logging.getLogger(__name__)

_MAX_ATTEMPTS = 20
_LONG_SECONDS = 0.1
_LONG_ATTEMPT = 10
_RETRY_SECONDS = 1.0


class Recovery:
    """Resumes the runs that another process has left."""

    def __init__(
        self,
        journal: Journal,
        compile_job: Callable[[RunRecord], Job],
        begin: Callable[[Run], None],
        *,
        grace_seconds: float = 0,
        clock: Clock,
    ) -> None:
        """`compile_job` makes a run's job from its payload, or raises an `AppError`; it is called in a thread. `begin`
        is called with each run that goes on."""
        self._journal = journal
        self._compile_job = compile_job
        self._begin = begin
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._queue: deque[InterruptedRun] = deque()
        self._waiting = CancelScope()
        self._is_stopping = False

    def stop(self) -> None:
        """Resume no more runs: those that are left are the next process's."""
        self._is_stopping = True
        self._waiting.cancel()

    async def run(self) -> None:
        """Resume all of them, once the journal can be written."""
        with self._waiting:
            self._queue.extend(await self._journal.claim_interrupted())
        while self._queue and not self._is_stopping:
            interrupted = self._queue[0]
            try:
                await self._resume(interrupted)
            except StorageUnavailable:
                self._queue.rotate(-1)  # others may fare better
                with CancelScope() as self._waiting:
                    if not self._is_stopping:
                        await sleep(self._clock, _RETRY_SECONDS)
                continue
            except Exception:
                logger.exception("run %s: a bug of ours keeps it from going on", interrupted.record.job_id)
            self._queue.popleft()

    async def _resume(self, interrupted: InterruptedRun) -> None:
        record, entries = await interrupted.load()
        run = Run(_job_without_plan(record), record, grace_seconds=self._grace_seconds, clock=self._clock)
        reason = await self._prepare(run, interrupted, entries)
        run.resume(interrupted, entries)
        if reason is None:
            self._begin(run)
            return
        level = logging.WARNING if isinstance(reason, InternalError) else logging.INFO
        logger.log(level, "run %s: %s", record.job_id, reason.detail)
        if run.summary.described is None:  # nothing of it could be read, and answers need a description
            run.recorder.append(placeholder_description(record))
        await write_end(run.recorder, reason, succeeded=False)

    async def _prepare(self, run: Run, interrupted: InterruptedRun, entries: Sequence[Entry]) -> RunError | None:
        """Replay the run's entries and compile its job; return why it cannot go on, or None."""
        job_id = run.job_id
        try:
            for _, event in entries:
                run.summary.observe(event)
            run.recovered = recovered_turns(entries)
            if interrupted.fault is not None:
                logger.error("run %s was in progress and cannot go on: %s", job_id, interrupted.fault)
                return InternalError("what was stored of the run is damaged")
            if reason := reason_to_end(run.record, run.summary):
                return reason
            if interrupted.attempts >= _MAX_ATTEMPTS:
                return InternalError("the run cannot go on: the server has ended again and again as it took it up")
            long = self._clock.call_later(_LONG_SECONDS, interrupted.count_attempt, _LONG_ATTEMPT - 1)
            try:
                run.job = await to_thread.run_sync(self._compile_job, run.record)
            finally:
                long.cancel()
        except AppError as error:
            return InternalError(f"the run cannot go on: {error.detail}")
        except Exception:
            logger.exception("run %s: a bug of ours keeps it from going on", job_id)
            return InternalError("the run cannot go on: something went wrong in this server")
        return None


def reason_to_end(record: RunRecord, summary: Summary) -> RunError | None:
    """Return why an interrupted run with these events must end at once; None if it may go on."""
    if summary.stopped is not None:
        failure = summary.stopped.failure
        error = error_from_code(failure.code, failure.message, RunError)
        return error if isinstance(error, RunError) else InternalError(failure.message)
    if any(turn.status == "cancelled" for turn in summary.answers):
        return RunCancelled("the run was cancelled")
    if record.on_disconnect == "cancel" and summary.usage is None:  # with a usage, only its end is missing
        return RunInterrupted("the server stopped")
    return None


def _job_without_plan(record: RunRecord) -> Job:
    """Return a job that ends a run whose payload is not compiled."""
    return Job(kind=record.kind, plan=Plan((), ()), owner=record.owner, on_disconnect=record.on_disconnect)
