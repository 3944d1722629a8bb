"""The upkeep of a data directory: expiry of finished runs, return of free space, presence of the files.

All of it is done by the writing thread, in steps so small that commits do not wait long. Once a minute runs are deleted
for their age, and as soon as the sum of their bytes passes the limit for their size; the sum is counted here as runs
end, and set right by each sweep.

A clock that jumped ahead would expire every run at once. So a start at which even the run that ended last is too old
expires none of those that it finds: the operator decides whether the clock is wrong or the server was not used for so
long. Runs that end from then on expire as ever.
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
from swarmstream.journal.checksums import Damaged
from swarmstream.journal.idempotency import IDEMPOTENCY_KEY_SECONDS
from swarmstream.journal.records import IdempotencyKey
from swarmstream.journal.sqlite.file.retention import Expired
from swarmstream.journal.sqlite.file.store import Store
from swarmstream.journal.sqlite.write_task import WriteTask
from swarmstream.journal.sqlite.writer import Writer
from swarmstream.settings import ENV_PREFIX

logger = logging.getLogger(__name__)

_SWEEP_SECONDS = 60.0
_CHECK_SECONDS = 4.0
_RUNS_A_STEP = 200
_BYTES_A_STEP = 8 * 1024 * 1024
_PAGES_A_STEP = 256
_DAY_SECONDS = 86_400.0
"""The least age at which runs are spared, for a server that keeps them for less than this."""
_EVER = -math.inf


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """The limits of age and size for finished runs."""

    seconds: float
    bytes: int
    expires_all: bool = False
    """True where a start, too, may expire every run that there is."""


@dataclass(slots=True)
class _Step:
    """The outcome of a step of a sweep."""

    expired: Sequence[Expired] = ()
    finished_bytes: int = 0
    has_free_space: bool = False


class Upkeep:
    """The regular work on the directory of a writer."""

    def __init__(
        self,
        folder: Path,
        limits: RetentionLimits,
        clock: Clock,
        writer: Writer,
        on_deleted: Callable[[str, IdempotencyKey | None], None],
    ) -> None:
        """`on_deleted` is called with each run that is in the file no more."""
        self._folder = folder
        self._limits = limits
        self._clock = clock
        self._writer = writer
        self._on_deleted = on_deleted
        self._timers: list[Timer] = []
        self._finished_bytes = 0
        self._bytes_meanwhile = 0
        """The bytes of runs that have ended since a sweep was asked for, which may have counted them or not."""
        self._spared_until: float | None = None
        """The Unix time of the last end that was spared: runs that ended up to then do not expire for their age."""
        self._is_sweeping = False
        self._damaged: set[str] = set()
        """Runs that could not be deleted."""

    def begin(self, finished_bytes: int, last_end: float | None) -> None:
        """Begin the work on a file with so many bytes of finished runs, the last of which ended then (Unix time)."""
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
        self._every(_CHECK_SECONDS, self._check_presence, at_once=False)

    def add(self, size: int) -> None:
        """Count the bytes of a run that has ended, and sweep if they are too many."""
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

    def _check_presence(self) -> None:
        """Check that the files are where they were; the writer logs it if they are not."""
        if self._writer.is_healthy:
            self._writer.put(WriteTask(lambda store: store.check_presence(), is_check=True))

    def _sweep(self) -> None:
        now = self._clock.unix()

        def tidy(store: Store) -> None:
            store.idempotency_keys.drop(now - IDEMPOTENCY_KEY_SECONDS)
            store.space.truncate_soon()

        if self._writer.is_healthy:
            self._writer.put(WriteTask(tidy))
            self._sweep_some()

    def _sweep_some(self) -> None:
        if self._is_sweeping or not self._writer.is_healthy:
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
            step.expired = self._delete_expired(store, after, before)
            step.finished_bytes, _ = store.retention.totals()
            step.has_free_space = store.space.give_back_soon(_PAGES_A_STEP)

        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        written.add_done_callback(lambda _: self._swept(step, written))
        self._writer.put(WriteTask(sweep, [written]))

    def _delete_expired(self, store: Store, after: float, before: float) -> list[Expired]:
        """Delete some runs that have expired and ended between these times, and return them."""
        expired = store.retention.expired(
            after=after,
            before=before,
            max_bytes=self._limits.bytes,
            most_runs=_RUNS_A_STEP,
            most_bytes=_BYTES_A_STEP,
            excluded=self._damaged,
        )
        deleted: list[Expired] = []
        for run in expired:
            try:
                store.finished.delete(run.job_id)
            except sqlite3.DatabaseError:
                self._damaged.add(run.job_id)  # whatever the reason, the next sweep leaves it out
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
            return  # the writer has logged the reason
        for run in step.expired:
            self._on_deleted(run.job_id, run.idempotency_key)
        self._finished_bytes = step.finished_bytes + self._bytes_meanwhile
        is_too_much = self._bytes_meanwhile > 0 and self._finished_bytes > self._limits.bytes
        if step.expired or step.has_free_space or is_too_much:
            self._sweep_some()

    def _is_far_too_old(self, ended_at: float) -> bool:
        return self._clock.unix() - ended_at > max(self._limits.seconds, _DAY_SECONDS)
