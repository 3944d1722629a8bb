"""The regular work on a data directory: it forgets runs, gives space back, and looks whether the files are there.

All of it is done by the writer's thread, in steps so small that commits do not wait long. Runs go for their age once a
minute, and for their bytes as soon as their sum passes the limit; the sum is counted here as runs end, and set right
by each sweep.

A clock that jumped ahead would expire every run at once. So a start at which even the run that ended last is too old
expires none of those that it finds: whether the clock is wrong, or the server was not used for so long, is for the
operator to say. Runs that end from then on expire as ever.
"""

import asyncio
import logging
import math
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from swarmstream.clock import Clock, Timer
from swarmstream.journal.base import IdempotencyKey
from swarmstream.journal.checksums import Damaged
from swarmstream.journal.idempotency import CLAIM_SECONDS
from swarmstream.journal.sqlite.retention import Expired
from swarmstream.journal.sqlite.store import Store
from swarmstream.journal.sqlite.writer import Task
from swarmstream.settings import ENV_PREFIX

logger = logging.getLogger(__name__)

_SWEEP_SECONDS = 60.0
_LOOK_SECONDS = 4.0
_RUNS_A_STEP = 200
_BYTES_A_STEP = 8 * 1024 * 1024
_PAGES_A_STEP = 256
_DAY_SECONDS = 86_400.0
"""A clock that is wrong by less than this makes no question of the runs of a server that keeps them for less."""
_EVER = -math.inf


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """How long, and how many, finished runs are kept."""

    seconds: float
    bytes: int
    expires_all: bool = False
    """Whether also a start may expire every run that there is."""


@dataclass(slots=True)
class _Step:
    """What a step of a sweep did."""

    expired: Sequence[Expired] = ()
    finished_bytes: int = 0
    is_more_to_give_back: bool = False


class Upkeep:
    """Of the directory that a writer writes."""

    def __init__(
        self,
        folder: Path,
        limits: RetentionLimits,
        clock: Clock,
        *,
        put: Callable[[Task], None],
        is_healthy: Callable[[], bool],
        forget: Callable[[str, IdempotencyKey | None], None],
    ) -> None:
        """`put` hands a task to the writer; `forget` is told of each run that is not in the file any more."""
        self._folder = folder
        self._limits = limits
        self._clock = clock
        self._put = put
        self._is_healthy = is_healthy
        self._forget = forget
        self._timers: list[Timer] = []
        self._finished_bytes = 0
        self._bytes_meanwhile = 0
        """Of runs that have ended since a sweep was asked for: it may have counted them or not."""
        self._spared_until: float | None = None
        """Runs that ended up to then are not expired for their age."""
        self._is_sweeping = False
        self._damaged: set[str] = set()
        """Runs that could not be deleted."""

    def begin(self, finished_bytes: int, last_end: float | None) -> None:
        """Take up the work on a file with so many bytes of finished runs, of which the last ended then (Unix time)."""
        self._finished_bytes = finished_bytes
        if last_end is not None and not self._limits.expires_all and self._is_far_too_old(last_end):
            self._spared_until = last_end
            logger.warning(
                "by this machine's clock (%s) every finished run in %s is too old (%sRETAIN_SECONDS): none of them is "
                "deleted for its age. If the clock is right, start with --expire",
                datetime.fromtimestamp(self._clock.unix(), UTC).isoformat(timespec="seconds"),
                self._folder,
                ENV_PREFIX,
            )
        self._timers = []
        self._every(_SWEEP_SECONDS, self._sweep, at_once=True)
        self._every(_LOOK_SECONDS, self._look, at_once=False)

    def ended(self, size: int) -> None:
        """A run has ended and takes so many bytes."""
        self._finished_bytes += size
        self._bytes_meanwhile += size
        if self._finished_bytes > self._limits.bytes:
            self._sweep_some()

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _every(self, seconds: float, work: Callable[[], None], *, at_once: bool) -> None:
        place = len(self._timers)

        def again() -> None:
            work()
            self._timers[place] = self._clock.call_later(seconds, again)

        self._timers.append(self._clock.call_later(0 if at_once else seconds, again))

    def _look(self) -> None:
        """Look whether the files are where they were; the writer tells if they are not."""
        if self._is_healthy():
            self._put(Task(lambda store: store.check_presence(), is_look=True))

    def _sweep(self) -> None:
        now = self._clock.unix()

        def tidy(store: Store) -> None:
            store.drop_claims(now - CLAIM_SECONDS)
            store.space.truncate_soon()

        if self._is_healthy():
            self._put(Task(tidy))
            self._sweep_some()

    def _sweep_some(self) -> None:
        if self._is_sweeping or not self._is_healthy():
            return
        self._is_sweeping = True
        self._bytes_meanwhile = 0
        now = self._clock.unix()
        if self._spared_until is not None and not self._is_far_too_old(self._spared_until):
            self._spared_until = None  # the clock has been set right
        after = _EVER if self._spared_until is None else self._spared_until
        before = now - self._limits.seconds
        step = _Step()

        def sweep(store: Store) -> None:
            step.expired = self._deleted(store, after, before)
            step.finished_bytes, _ = store.retention.finished()
            step.is_more_to_give_back = store.space.give_back_soon(_PAGES_A_STEP)

        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        written.add_done_callback(lambda _: self._swept(step, written))
        self._put(Task(sweep, [written]))

    def _deleted(self, store: Store, after: float, before: float) -> list[Expired]:
        """Delete some of what has expired; what was."""
        expired = store.retention.expired(
            after=after,
            before=before,
            max_bytes=self._limits.bytes,
            most_runs=_RUNS_A_STEP,
            most_bytes=_BYTES_A_STEP,
            but_not=self._damaged,
        )
        deleted: list[Expired] = []
        for run in expired:
            try:
                store.delete_run(run.job_id)
            except sqlite3.DatabaseError:
                self._damaged.add(run.job_id)  # whatever it is, the next sweep goes without
                raise
            except Damaged as damage:
                self._damaged.add(run.job_id)
                logger.error("run %s has expired and cannot be deleted: %s", run.job_id, damage)  # noqa: TRY400
            else:
                deleted.append(run)
        return deleted

    def _swept(self, step: _Step, written: asyncio.Future[None]) -> None:
        self._is_sweeping = False
        if written.cancelled() or written.exception() is not None:
            return  # the writer has told why
        for run in step.expired:
            self._forget(run.job_id, run.claim)
        self._finished_bytes = step.finished_bytes + self._bytes_meanwhile
        is_too_much = self._bytes_meanwhile > 0 and self._finished_bytes > self._limits.bytes
        if step.expired or step.is_more_to_give_back or is_too_much:
            self._sweep_some()

    def _is_far_too_old(self, ended_at: float) -> bool:
        return self._clock.unix() - ended_at > max(self._limits.seconds, _DAY_SECONDS)
