"""A journal on SQLite: live runs are read from memory and written behind, finished ones are read from the file.

Theory of operation.

    Log.append ─▶ EventLog ─▶ cursors                     (in memory, at once)
          │          ▲ show
          ▼          │
      GroupCommit ─▶ Writer ─▶ WritingThread ─▶ Store     (behind: 20 ms, or the end of the loop's round)
                                                  ▲
      StoredRuns ─▶ FileReader ───────────────────┘       (finished runs, lists)

One process serves a data directory. What has gathered within 20 ms, of all runs, is one batch in one transaction
(`group_commit`). When a run ends, its events are written once more, together, and its batches go (`file.store`).

| an event is | shown to readers | lost if the process is killed |
|---|---|---|
| appended | at once | if it came in the last 20 ms |
| appended hidden | once it is written | if it was not shown |
| committed | once it is written, and then `commit` returns | if it was not shown |

What was shown stays true although the last 20 ms can be lost:

- Each opening raises the directory's epoch, and every transaction checks it: a process that lost its lock writes
  nothing more. Without this two processes would write the same run.
- A run in progress is claimed by the same transaction: the number of its next event is written, at least a million more
  than any number known of it, and at least the microseconds since 1970. So no number is used by two lives of a run: not
  if the first life showed events that it could not write, and not if the directory was put back to an earlier state.
  Without the jump a reader that comes back with its last number would miss events that others were given under it.
- Until it is resumed, its log is empty and hidden, and its readers wait. Without hiding they would read the stored
  events, and miss none, but a run that cannot be resumed would seem to go on.

Where writing fails, live runs are closed (`EventLog.close`): their readers are let go, the runs stop. All that was
appended is kept and tried again each second; once it is written it is shown.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

import anyio
from anyio import to_thread

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.errors import StillRunning, StorageUnavailable
from swarmstream.journal.base import Cursor, InterruptedRun, Log, RunCallbacks
from swarmstream.journal.checksums import Damaged
from swarmstream.journal.event_log import EventLog
from swarmstream.journal.idempotency import IdempotencyIndex
from swarmstream.journal.records import IdempotencyKey, Page, RunRecord, RunState, RunStatus
from swarmstream.journal.sqlite.file.store import Store
from swarmstream.journal.sqlite.group_commit import GroupCommit
from swarmstream.journal.sqlite.interrupted_run import SqliteInterruptedRun
from swarmstream.journal.sqlite.live_runs import LiveRuns
from swarmstream.journal.sqlite.log import SqliteLog
from swarmstream.journal.sqlite.opening_cursor import OpeningCursor
from swarmstream.journal.sqlite.reader import FileReader
from swarmstream.journal.sqlite.stored_runs import StoredRuns, no_such_run, status_of_row, unreadable
from swarmstream.journal.sqlite.takeover import DirectoryLock, Takeover, take_over
from swarmstream.journal.sqlite.upkeep import RetentionLimits, Upkeep
from swarmstream.journal.sqlite.writer import RETRY_SECONDS, Writer

logger = logging.getLogger(__name__)

Durability: TypeAlias = Literal["process", "host"]
"""What the ends of runs, idempotency keys and the claims of a new process outlive once they are committed."""


class SqliteJournal:
    """The runs of a data directory, whose lock is taken when the journal is made.

    Raises:
        DirectoryInUse: another process has it.
    """

    is_durable = True

    def __init__(
        self,
        folder: Path,
        *,
        retain_seconds: float,
        retain_bytes: int,
        durability: Durability = "process",
        expires_all: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = DirectoryLock(folder)
        try:
            self._lock.take()
        except OSError as error:
            logger.warning("the data directory cannot be used: %s", error)
        self._idempotency = IdempotencyIndex(clock)
        self._reader = FileReader(folder)
        self._stored = StoredRuns(self._reader)
        self._writer = Writer(folder, clock, on_failure=lambda: self._live.close_all())
        self._group = GroupCommit(self._writer, clock, outlives_host=durability == "host")
        limits = RetentionLimits(retain_seconds, retain_bytes, expires_all)
        self._upkeep = Upkeep(folder, limits, clock, self._writer, self._forget)
        self._live = LiveRuns(self._writer, self._group, self._upkeep, self._idempotency, clock)
        self._opened = anyio.Event()
        self._interrupted: Sequence[InterruptedRun] = ()

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()

    @property
    def is_healthy(self) -> bool:
        return self.is_open and self._writer.is_healthy

    async def open(self) -> None:
        if self._writer.has_started:
            return
        self._writer.start()
        found: list[Takeover] = []

        def begin(store: Store) -> None:
            found[:] = [take_over(store, self._lock, self._clock.unix())]

        try:
            await self._writer.write(begin, is_retried=True, outlives_host=True, done=lambda: self._begin(*found))
        except StorageUnavailable:
            logger.warning("the data directory %s cannot be written: no run can begin", self._folder)

    async def close(self) -> None:
        self._upkeep.stop()
        self._group.hand_in()
        # The reader first: the connection that closes last folds the WAL in, and must be able to.
        await to_thread.run_sync(self._reader.close)
        await self._writer.stop()
        self._live.log_unwritten()
        self._lock.release()

    def check_idempotency_key(self, idempotency_key: IdempotencyKey | None) -> None:
        self._idempotency.check(idempotency_key)

    async def submit(self, record: RunRecord, callbacks: RunCallbacks) -> Log:
        if not self.is_healthy:
            raise StorageUnavailable(
                "the server cannot write anything down at present", retry_after_seconds=RETRY_SECONDS
            )
        self._idempotency.add(record.idempotency_key, record.job_id)
        return SqliteLog(self._live, self._live.begin(record, callbacks))

    async def claim_interrupted(self) -> Sequence[InterruptedRun]:
        await self._opened.wait()
        found, self._interrupted = self._interrupted, ()
        return found

    async def open_cursor(self, job_id: str, *, after: int = 0) -> Cursor:
        return (await self._log(job_id)).open_cursor(after)

    def opening_cursor(self) -> Cursor:
        return OpeningCursor(self._opened)

    async def status(self, job_id: str, *, owner: str | None = None) -> RunStatus:
        live = self._live.get(job_id)
        if live is not None and owner in (None, live.log.record.owner):
            return live.status()
        stored = await self._stored.find(job_id, owner=owner)
        live = self._live.get(job_id)
        return status_of_row(stored) if live is None else live.status()

    async def list(
        self, owner: str, *, state: RunState | None = None, limit: int = 20, after: str | None = None
    ) -> Page:
        def read(store: Store) -> tuple[Sequence[str], bool]:
            before = None
            if after is not None and (before := store.runs.number(after, owner=owner)) is None:
                raise no_such_run()
            return store.runs.page(owner, state=state, limit=limit, before=before)

        if self._group.has_writes and self.is_healthy:
            await self._group.flush()  # so that a run that has just begun is found here
        return Page(*await self._stored.read(read))

    async def cancel(self, job_id: str) -> None:
        if (live := self._live.get(job_id)) is not None:
            live.log.callbacks.cancel_requested()
        else:
            await self.status(job_id)

    async def delete(self, job_id: str) -> None:
        status = await self.status(job_id)
        if status.state == "running":
            raise StillRunning("the run goes on; cancel it first")
        damages: list[Damaged] = []

        def delete(store: Store) -> None:
            try:
                store.finished.delete(job_id)
            except Damaged as damage:
                damages.append(damage)
            store.space.truncate_soon()

        await self._writer.write(delete)
        if damages:
            raise unreadable(job_id, str(damages[0]))
        self._forget(job_id, status.record.idempotency_key)

    async def trim(self, job_id: str, before: int) -> None:
        log = await self._log(job_id)
        log.trim(before)
        stored = await self._stored.find(job_id)
        if stored.state != "running":
            entries = list(log.entries)
            await self._writer.write(lambda store: store.finished.trim(stored.no, entries))

    async def admit_token(self, job_id: str, digest: bytes) -> None:
        if self._group.has_writes:
            self._group.hand_in()  # the run's row is written first
        is_known: list[bool] = []
        await self._writer.write(lambda store: is_known.append(store.stream_tokens.add(job_id, digest)))
        if not any(is_known):
            raise no_such_run()

    async def has_admitted_token(self, job_id: str, digest: bytes) -> bool:
        return await self._stored.read(lambda store: store.stream_tokens.has(job_id, digest))

    def _begin(self, found: Takeover) -> None:
        """Begin to serve the directory that was taken over."""
        self._writer.set_epoch(found.epoch)
        self._group.next_batch = max(self._group.next_batch, found.last_batch + 1)
        waiting = self._live.take_over(found.epoch, found.last_run, found.interrupted)
        self._interrupted = [
            SqliteInterruptedRun(run, live, self._live, self._reader, self._writer)
            for run, live in zip(found.interrupted, waiting, strict=True)
        ]
        for idempotency_key, job_id in found.idempotency_keys:
            self._idempotency.add(idempotency_key, job_id)
        self._upkeep.begin(found.finished_bytes, found.last_end)
        self._opened.set()

    async def _log(self, job_id: str) -> EventLog:
        if (live := self._live.get(job_id)) is not None:
            return live.log
        if (cached := self._stored.cached_log(job_id)) is not None:
            return cached
        run, log = await self._stored.read_log(job_id)
        if (live := self._live.get(job_id)) is not None:
            return live.log
        if run.state != "running":
            return log
        if self.is_open:
            raise no_such_run()  # it was discarded
        return self._live.expect(run.no, replace(run.record, body=b"")).log

    def _forget(self, job_id: str, idempotency_key: IdempotencyKey | None) -> None:
        """Forget a run that is in the file no more."""
        self._stored.forget(job_id)
        self._idempotency.drop(idempotency_key, job_id)
