"""A run that another process has left in a data directory, claimed by this one."""

from collections.abc import Sequence

from swarmstream.errors import StorageUnavailable
from swarmstream.journal.base import Log, RunCallbacks
from swarmstream.journal.checksums import Damaged
from swarmstream.journal.records import Entry, RunRecord
from swarmstream.journal.sqlite.file.interrupted import StoredInterruptedRun
from swarmstream.journal.sqlite.live import LiveRun
from swarmstream.journal.sqlite.live_runs import LiveRuns
from swarmstream.journal.sqlite.log import SqliteLog
from swarmstream.journal.sqlite.reader import FileReader
from swarmstream.journal.sqlite.writer import RETRY_SECONDS, Writer


class SqliteInterruptedRun:
    """An `InterruptedRun`, with the packed events that were found of it."""

    def __init__(
        self, found: StoredInterruptedRun, live: LiveRun, runs: LiveRuns, reader: FileReader, writer: Writer
    ) -> None:
        self.record = found.record
        self.attempts = found.attempts
        self.fault = found.fault
        self._found = found
        self._live = live
        self._runs = runs
        self._reader = reader
        self._writer = writer
        self._entries: Sequence[Entry] = ()

    async def load(self) -> tuple[RunRecord, Sequence[Entry]]:
        no = self._found.no
        entries: list[Entry] = []
        try:
            if self.fault is None:
                self.record = await self._reader.read(lambda store: store.runs.record(no))
                await self._writer.write(lambda store: store.interrupted.count_attempt(no, 1))
            entries += (packed.decode() for packed in self._found.packed)
        except Damaged as damage:
            self.fault = str(damage)
        self._entries = entries
        return self.record, entries

    def count_attempt(self, times: int) -> None:
        no = self._found.no
        self._runs.group.add_soon(lambda store: store.interrupted.count_attempt(no, times))

    def resume(self, callbacks: RunCallbacks) -> Log:
        if not self._writer.is_healthy:
            raise StorageUnavailable("the run cannot go on at present", retry_after_seconds=RETRY_SECONDS)
        found = self._found
        self._live.resume(self.record, self._entries, found.next_event_id, callbacks)
        found.packed, self._entries = [], ()
        self._runs.group.add_soon(lambda store: store.interrupted.clear_attempts(found.no))
        return SqliteLog(self._runs, self._live)
