"""The supervisor: which runs are admitted, which are taken up again, and the doors by which others reach them.

A run belongs to the supervisor and not to the request that posted it: a request only reads it, and may leave.
"""

import asyncio
from collections.abc import Callable

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.engine.prompt_room import PromptRoom
from swarmstream.engine.run_calls import RunCalls
from swarmstream.errors import StorageUnavailable
from swarmstream.journal.base import AlreadySubmitted, Cursor, Journal
from swarmstream.journal.records import RunRecord
from swarmstream.runs.description import describe_run, new_record
from swarmstream.runs.engine import Engine
from swarmstream.runs.job import Job
from swarmstream.runs.keyed_runs import KeyedRuns
from swarmstream.runs.limits import RunLimits
from swarmstream.runs.live_runs import LiveRuns, Phase
from swarmstream.runs.owned_runs import OwnedRuns
from swarmstream.runs.recovery import Recovery
from swarmstream.runs.run import Run

_RETRY_AFTER_SECONDS = 5.0


class Supervisor:
    """Runs, from their admission to their end. Use it as an async context manager: leaving it ends what still runs."""

    def __init__(
        self,
        journal: Journal,
        engine: Engine,
        limits: RunLimits,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._journal = journal
        self._limits = limits
        self._clock = clock
        self._prompt_room = PromptRoom(limits.max_prompt_bytes)
        self._recovery: Recovery | None = None
        self._tasks = asyncio.TaskGroup()
        self._live = LiveRuns(self._tasks, engine, limits, hands_over=journal.is_durable, clock=clock)
        self.keyed_runs = KeyedRuns(journal, self._live.flush)

    async def __aenter__(self) -> "Supervisor":
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drain(0)
        await self._tasks.__aexit__(None, None, None)

    @property
    def is_ready(self) -> bool:
        """True while new runs are welcome."""
        return self._live.phase is Phase.OPEN and self._journal.is_healthy

    def runs_of(self, owner: str) -> OwnedRuns:
        """Return the door to the runs of one owner."""
        return OwnedRuns(owner, self._journal, self._live.presence, self._clock)

    def opening_cursor(self) -> Cursor | None:
        """Return a cursor without events that lets its reader go once the journal is open; None if it is open."""
        return None if self._journal.is_open else self._journal.opening_cursor()

    async def start(self, job: Job) -> Run:
        """Admit a job and set it going. Its first two events are committed when this returns.

        Raises:
            LimitExceeded: its prompts are larger than they may be.
            Unavailable: the server is full or about to stop.
            StorageUnavailable: nothing can be committed at present.
            AlreadySubmitted, IdempotencyMismatch: the job's idempotency key has a run.
        """
        # First: a run that was admitted once is found again also where there is no room for another.
        if job.idempotency_key is not None and (job_id := await self.keyed_runs.find(job.idempotency_key)) is not None:
            raise AlreadySubmitted(job_id)
        if not self._journal.is_healthy:
            raise StorageUnavailable(
                "the server cannot write anything down at present", retry_after_seconds=_RETRY_AFTER_SECONDS
            )
        with self._live.admission(job.owner):
            calls = RunCalls(self._limits.max_calls, self._prompt_room, job.owner, job.prompt_bytes)
            try:
                record = new_record(job, self._clock)
                run = Run(
                    job,
                    record,
                    grace_seconds=self._limits.disconnect_grace_seconds,
                    clock=self._clock,
                    calls=calls,
                )
                await run.begin(self._journal, describe_run(record, job, calls.max_calls))
                self._live.begin(run)
            except BaseException:
                calls.close()
                raise
        await run.confirm_begun()  # meanwhile its first turn begins
        run.presence.expect_reader()
        return run

    def recover(self, compile_job: Callable[[RunRecord], Job]) -> asyncio.Task[None]:
        """Begin to resume the runs whose process ended before they did, beside what else goes on, however many there
        are. `compile_job` makes a run's job from its payload, in a thread, or raises an `AppError`. The task returned
        is done when none is left."""
        grace_seconds = self._limits.disconnect_grace_seconds
        self._recovery = Recovery(
            self._journal, compile_job, self._begin_again, grace_seconds=grace_seconds, clock=self._clock
        )
        return self._tasks.create_task(self._recovery.run(), name="recovery")

    def _begin_again(self, run: Run) -> None:
        """Set a run going that another process has left, also where there is no room."""
        self._live.shares.take_anyway(run.job.owner)
        run.calls = RunCalls(self._limits.max_calls, self._prompt_room, run.job.owner)
        self._live.begin(run)

    async def drain(self, seconds: float) -> None:
        """Admit nothing more, give what runs so many seconds to end, then interrupt it. Returns when no run is left."""
        if self._recovery is not None:
            self._recovery.stop()
        await self._live.drain(seconds)
