"""The runs of a data directory that are in progress here, and the course of their events to the writer."""

import logging
from collections.abc import Iterable
from contextlib import suppress

from swarmstream.clock import Clock
from swarmstream.events import CustomEvent, ReasoningDelta, RunEnded, TextDelta, ToolEnded, ToolStarted
from swarmstream.journal.base import RunCallbacks
from swarmstream.journal.checksums import Damaged
from swarmstream.journal.event_log import EventLog
from swarmstream.journal.idempotency import IdempotencyIndex
from swarmstream.journal.records import Entry, RunRecord
from swarmstream.journal.sqlite.file.finished import Ending
from swarmstream.journal.sqlite.file.interrupted import StoredInterruptedRun
from swarmstream.journal.sqlite.file.store import Store
from swarmstream.journal.sqlite.group_commit import GroupCommit
from swarmstream.journal.sqlite.live import LiveRun
from swarmstream.journal.sqlite.upkeep import Upkeep
from swarmstream.journal.sqlite.write_task import WriteTask
from swarmstream.journal.sqlite.writer import Writer

logger = logging.getLogger(__name__)

_NOT_IN_OUTLINE = (TextDelta, ReasoningDelta, ToolStarted, ToolEnded, CustomEvent)
"""The events that answers are not made of."""


class LiveRuns:
    """Live runs by their ids: those in progress, those that wait to be resumed, those whose end is being written."""

    def __init__(
        self, writer: Writer, group: GroupCommit, upkeep: Upkeep, idempotency: IdempotencyIndex, clock: Clock
    ) -> None:
        self.group = group
        self._writer = writer
        self._upkeep = upkeep
        self._idempotency = idempotency
        self._clock = clock
        self._runs: dict[str, LiveRun] = {}
        self._next_no = 1
        self._epoch = 0

    def get(self, job_id: str) -> LiveRun | None:
        return self._runs.get(job_id)

    def begin(self, record: RunRecord, callbacks: RunCallbacks) -> LiveRun:
        """Begin a run. It is written with its first events, whose commit waits for it."""
        live = self._runs[record.job_id] = LiveRun(self._next_no, EventLog(record, callbacks))
        self._next_no += 1
        epoch, first_batch = self._epoch, self.group.next_batch

        def write(store: Store) -> None:
            if live.is_discarded:
                store.finished.delete(record.job_id)  # it may have been written although that seemed to fail
            else:
                store.begin_run(live.no, record, epoch=epoch, first_batch=first_batch)

        self.group.add(write, outlives_host=record.idempotency_key is not None)
        return live

    def expect(self, no: int, record: RunRecord) -> LiveRun:
        """Return a run that readers wait for until this process, which has not opened the file yet, resumes it."""
        live = self._runs[record.job_id] = LiveRun.waiting(no, record)
        return live

    def take_over(self, epoch: int, last_no: int, interrupted: Iterable[StoredInterruptedRun]) -> list[LiveRun]:
        """Return the interrupted runs, waiting to be resumed. Runs that were expected and are not among them have
        ended in another process: their readers come again."""
        self._epoch = epoch
        self._next_no = last_no + 1
        expected, self._runs = self._runs, {}
        for run in interrupted:
            job_id = run.record.job_id
            live = expected.pop(job_id, None) or LiveRun.waiting(run.no, run.record)
            live.no = run.no
            live.log.preview(_outline(run))
            self._runs[job_id] = live
        for live in expected.values():
            live.log.hand_over()
        return list(self._runs.values())

    async def end(self, live: LiveRun, event: RunEnded) -> int:
        """Write the end of a run and show it; returns its number. From then on open cursors read on, and later readers
        read the file.

        Raises:
            StorageUnavailable: it is not written yet, and tried again until it is.
        """
        log = live.log
        number = log.next_number
        entries = [*log.entries, (number, event)]
        if self.group.has_writes:
            self.group.hand_in()
        self.group.drop(live)
        ending = Ending(
            no=live.no,
            record=log.record,
            state=event.status,
            ended_at=self._clock.unix(),
            entries=entries,
            outline=[entry for entry in entries if not isinstance(entry[1], _NOT_IN_OUTLINE)],
            next_batch=self.group.next_batch,
        )
        live.release()
        live.is_ending = True
        size = 0

        def write(store: Store) -> None:
            nonlocal size
            if not live.is_discarded:
                size = store.finished.end(ending)

        def show() -> None:
            self._runs.pop(log.record.job_id, None)
            self._upkeep.add(size)
            log.append_end(event)

        await self._writer.write(write, is_retried=True, outlives_host=self.group.outlives_host, done=show)
        return number

    def discard(self, live: LiveRun) -> None:
        """Forget a run of which nothing was shown."""
        record = live.log.record
        live.is_discarded = True
        live.release()
        live.log.hand_over()  # a repeated request may wait for its first event
        self._runs.pop(record.job_id, None)
        self.group.drop(live)
        self._idempotency.drop(record.idempotency_key, record.job_id)
        # The writer may have written it since, for it tries again by itself.
        self._writer.put(WriteTask(lambda store: store.finished.delete(record.job_id), is_retried=True))

    def close_all(self) -> None:
        """Report to every run that is carried out that its events can no longer be written."""
        for live in list(self._runs.values()):
            if live.is_carried_out:
                live.close()

    def log_unwritten(self) -> None:
        """Log the runs whose end could not be written."""
        for live in self._runs.values():
            if live.is_ending:
                logger.error(
                    "the end of run %s could not be written: the next start takes it up", live.log.record.job_id
                )


def _outline(run: StoredInterruptedRun) -> list[Entry]:
    """Return the events that answers are made of, as far as they can be read."""
    entries: list[Entry] = []
    with suppress(Damaged):
        entries += (packed.decode() for packed in run.packed if not packed.is_of(_NOT_IN_OUTLINE))
    return entries
