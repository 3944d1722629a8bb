"""The runs of a data directory as its file has them, read for their readers."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from swarmstream.errors import NotFound, StorageUnavailable
from swarmstream.journal.checksums import Damaged
from swarmstream.journal.event_log import EventLog
from swarmstream.journal.records import Entry, RunStatus
from swarmstream.journal.sqlite.file.store import Store
from swarmstream.journal.sqlite.file.stored_run import StoredRun
from swarmstream.journal.sqlite.reader import FileReader
from swarmstream.journal.summary import Summary
from swarmstream.places import Places
from swarmstream.shares import current_owner

logger = logging.getLogger(__name__)

_READS = 8
"""Reads that are in threads at once, one of them in the file: however many one owner asks for, others come soon."""
_CACHED_LOGS = 16
"""Finished runs that are kept in memory for their next reader."""

ResultT = TypeVar("ResultT")


class StoredRuns:
    """Runs read from the file, in turn among owners; the logs of finished ones are cached."""

    def __init__(self, reader: FileReader) -> None:
        self._reader = reader
        self._places = Places(_READS)
        self._logs: OrderedDict[str, EventLog] = OrderedDict()
        """The least recently read one first."""

    async def read(self, read: Callable[[Store], ResultT], *, job_id: str = "") -> ResultT:
        """Return what `read` returns, called in a thread; `job_id` names the run that is read, for the log.

        Raises:
            StorageUnavailable: the file cannot be read.
        """
        owner = current_owner.get()
        await self._places.take(owner)
        try:
            return await self._reader.read(read)
        except Damaged as damage:
            raise unreadable(job_id, str(damage)) from damage
        finally:
            self._places.give_back(owner)

    async def find(self, job_id: str, *, owner: str | None = None) -> StoredRun:
        """Return the run of this id; with an `owner`, if it is theirs.

        Raises:
            NotFound: there is no such run.
            StorageUnavailable: the file cannot be read.
        """
        stored = await self.read(lambda store: store.runs.find(job_id, owner=owner), job_id=job_id)
        if stored is None:
            raise no_such_run()
        return stored

    def cached_log(self, job_id: str) -> EventLog | None:
        """Return the log of a finished run that was read lately."""
        if (log := self._logs.get(job_id)) is not None:
            self._logs.move_to_end(job_id)
        return log

    async def read_log(self, job_id: str) -> tuple[StoredRun, EventLog]:
        """Return a run with its log, which is empty for a run in progress, and cached for a finished one.

        Raises:
            NotFound: there is no such run.
            StorageUnavailable: the file cannot be read.
        """

        def read(store: Store) -> tuple[StoredRun, list[Entry]]:
            run = store.runs.find(job_id)
            if run is None:
                raise no_such_run()
            return run, store.segments.entries(run) if run.state != "running" else []

        run, entries = await self.read(read, job_id=job_id)
        log = EventLog(run.record)
        if run.state != "running":
            log.restore(entries, next_number=run.last_event_id + 1)
            self._logs[job_id] = log
            while len(self._logs) > _CACHED_LOGS:
                self._logs.popitem(last=False)
        return run, log

    def forget(self, job_id: str) -> None:
        """Drop a run that is in the file no more from the cache."""
        self._logs.pop(job_id, None)


def status_of_row(run: StoredRun) -> RunStatus:
    """Return the state of a run that this process does not carry out; a fault is logged."""
    if run.fault is not None:
        logger.error("run %s cannot be read: %s", run.record.job_id, run.fault)
    summary = Summary()
    for _, event in run.outline:
        summary.observe(event)
    return RunStatus(
        run.record,
        run.state,
        summary,
        run.last_event_id,
        run.first_event_id,
        ended_at=run.ended_at,
        is_waiting=run.state == "running",
        fault=run.fault,
    )


def unreadable(job_id: str, reason: str) -> StorageUnavailable:
    """Return the error for a run whose storage is damaged, which is logged."""
    logger.error("run %s cannot be read: %s", job_id, reason)
    return StorageUnavailable("what is stored of this run is damaged and cannot be read")


def no_such_run() -> NotFound:
    """Return the error for an unknown run."""
    return NotFound("there is no such run")
