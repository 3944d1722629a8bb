"""How runs go on whose process ended before they did: one after the other, beside everything else.

A process may die of a payload while it compiles it: it takes all memory, say. So an attempt to take a run up is written
down before, and cleared once the run goes on; what has been tried in vain is tried last. But a process may also be
killed just then by chance, so that a short attempt proves little: it counts 1, one that has taken `_LONG_SECONDS`
counts 10, and a run at 20 is given up. Two processes die of a payload at most where that takes time, twenty where it
does not. Whatever else goes wrong with a run ends that run and no other.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence

from anyio import CancelScope, to_thread

from swarmstream.clock import Clock, sleep
from swarmstream.errors import AppError, InternalError, RunError, StorageUnavailable
from swarmstream.journal.base import Entry, InterruptedRun, Journal, RunRecord, description_of
from swarmstream.runs.job import Job
from swarmstream.runs.run import Run
from swarmstream.swarm.plan import Plan

logger = logging.getLogger(__name__)

_MAX_ATTEMPTS = 20
_LONG_SECONDS = 0.1
_LONG_ATTEMPT = 10
_AGAIN_SECONDS = 1.0


class Recovery:
    """Takes up the runs that another process has left."""

    def __init__(
        self,
        journal: Journal,
        job_of: Callable[[RunRecord], Job],
        begin: Callable[[Run], None],
        *,
        grace_seconds: float = 0,
        clock: Clock,
    ) -> None:
        """`job_of` makes a job of what was posted, or raises an `AppError`; it is called in a thread. `begin` is given
        what goes on."""
        self._journal = journal
        self._job_of = job_of
        self._begin = begin
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._left: deque[InterruptedRun] = deque()
        self._patience = CancelScope()
        self._is_stopping = False

    def stop(self) -> None:
        """Take up no more: what is left is the next process's."""
        self._is_stopping = True
        self._patience.cancel()

    async def run(self) -> None:
        """Take up all of them, once the journal can be written."""
        with self._patience:
            self._left.extend(await self._journal.unfinished())
        while self._left and not self._is_stopping:
            found = self._left[0]
            try:
                await self._take_up(found)
            except StorageUnavailable:
                self._left.rotate(-1)  # others may fare better
                with CancelScope() as self._patience:
                    if not self._is_stopping:
                        await sleep(self._clock, _AGAIN_SECONDS)
                continue
            except Exception:
                logger.exception("run %s: a bug of ours keeps it from going on", found.record.job_id)
            self._left.popleft()

    async def _take_up(self, found: InterruptedRun) -> None:
        record, entries = await found.load()
        run = Run(_lost_job(record), grace_seconds=self._grace_seconds, clock=self._clock)
        reason = await self._prepare(run, found, record, entries)
        run.take_over(found, entries)
        if reason is None:
            self._begin(run)
            return
        level = logging.WARNING if isinstance(reason, InternalError) else logging.INFO
        logger.log(level, "run %s: %s", record.job_id, reason.detail)
        if run.summary.described is None:  # nothing of it could be read, and answers need something to say
            run.append(description_of(record))
        await run.finish(reason, succeeded=False)

    async def _prepare(
        self, run: Run, found: InterruptedRun, record: RunRecord, entries: Sequence[Entry]
    ) -> RunError | None:
        """Make the run know what it has done and what is left; why it cannot go on, if it cannot."""
        try:
            run.remember(entries)
            if found.fault is not None:
                logger.error("run %s was in progress and cannot go on: %s", record.job_id, found.fault)
                return InternalError("what was stored of the run is damaged")
            if reason := run.reason_to_end():
                return reason
            if found.attempts >= _MAX_ATTEMPTS:
                return InternalError("the run cannot go on: the server has ended again and again as it took it up")
            long = self._clock.call_later(_LONG_SECONDS, found.count_attempt, _LONG_ATTEMPT - 1)
            try:
                run.job = await to_thread.run_sync(self._job_of, record)
            finally:
                long.cancel()
        except AppError as error:
            return InternalError(f"the run cannot go on: {error.detail}")
        except Exception:
            logger.exception("run %s: a bug of ours keeps it from going on", record.job_id)
            return InternalError("the run cannot go on: something went wrong in this server")
        return None


def _lost_job(record: RunRecord) -> Job:
    """The job of a run before its payload is compiled."""
    return Job(kind=record.kind, plan=Plan((), ()), owner=record.owner, on_disconnect=record.on_disconnect)
