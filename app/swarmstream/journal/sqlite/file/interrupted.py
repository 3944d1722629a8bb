"""The runs without an end that a process finds in the directory that it takes."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from swarmstream.events import MAX_EVENT_ID
from swarmstream.journal.checksums import Damaged
from swarmstream.journal.codec import PackedEvent, split
from swarmstream.journal.records import RunRecord
from swarmstream.journal.sqlite.file.batches import BatchTable
from swarmstream.journal.sqlite.file.connections import Connections
from swarmstream.journal.sqlite.file.runs import RunTable
from swarmstream.journal.sqlite.file.stored_run import LEAST_JUMP, StoredRun, intact_length

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class StoredInterruptedRun:
    """A run without an end, as it was found."""

    no: int
    record: RunRecord
    """Without its body, which can be large."""
    attempts: int
    next_event_id: int
    """The number of the first event that this process adds."""
    packed: list[PackedEvent] = field(default_factory=list[PackedEvent])
    """The events that were written; where there is a fault, those before it."""
    fault: str | None = None
    """The reason that the run cannot be resumed, where its storage is damaged."""


class InterruptedRuns:
    """Runs in state `running`, seen by the process that takes the directory over."""

    def __init__(self, connections: Connections, runs: RunTable, batches: BatchTable) -> None:
        self._main = connections.main
        self._committed = connections.committed
        self._runs = runs
        self._batches = batches

    def claim(self, unix_seconds: float) -> list[StoredInterruptedRun]:
        """Return them with their events, those with the fewest attempts first, and reserve numbers for what follows.

        From now on their events are numbered above all numbers that are known of them, and above the microseconds
        since 1970, which no forgotten life of the run can have reached.
        """
        rows = self._committed.execute(
            "SELECT no, attempts, next_event_id, first_batch FROM runs WHERE state = 'running' ORDER BY attempts, no"
        ).fetchall()
        runs: dict[int, StoredInterruptedRun] = {}
        first_batches: dict[int, int] = {}
        for no, attempts, next_event_id, first_batch in rows:
            if (run := self._read(no)) is not None:
                record = replace(run.record, body=b"")
                runs[no] = StoredInterruptedRun(no, record, attempts, next_event_id, fault=run.fault)
                first_batches[no] = first_batch
        doubts = self._read_batches(runs, first_batches)
        for no, run in runs.items():
            _keep_intact(run, doubts[no])
            run.next_event_id = _reserve_number(run, unix_seconds)
            self._main.execute("UPDATE runs SET next_event_id = ? WHERE no = ?", (run.next_event_id, no))
        return list(runs.values())

    def count_attempt(self, no: int, times: int) -> None:
        """Add to the attempts at resuming a run."""
        self._main.execute("UPDATE runs SET attempts = attempts + ? WHERE no = ?", (times, no))

    def clear_attempts(self, no: int) -> None:
        """Set the attempts of a resumed run to zero."""
        self._main.execute("UPDATE runs SET attempts = 0 WHERE no = ?", (no,))

    def _read(self, no: int) -> StoredRun | None:
        """Return a run; one of which not even the id can be read is logged."""
        try:
            return self._runs.read(no)
        except Damaged as damage:
            logger.error("of run number %d not even the id can be read: %s", no, damage)  # noqa: TRY400
            return None

    def _read_batches(
        self, runs: Mapping[int, StoredInterruptedRun], first_batches: Mapping[int, int]
    ) -> dict[int, dict[int, str]]:
        """Add to the runs the events that the batches hold of them.

        Returns, by run, after how many of its events some may be missing, and why.
        """
        doubts: dict[int, dict[int, str]] = {no: {} for no in runs}
        for batch in self._batches.numbers_from(min(first_batches.values(), default=None)):
            try:
                for packed in split(self._batches.content(batch)):
                    # Earlier batches may hold another run that had a number before it was deleted.
                    if batch >= first_batches.get(packed.run, batch + 1):
                        runs[packed.run].packed.append(packed)
            except Damaged as damage:
                for no, first in first_batches.items():
                    if first <= batch:
                        doubts[no].setdefault(len(runs[no].packed), str(damage))
        return doubts


def _reserve_number(run: StoredInterruptedRun, unix_seconds: float) -> int:
    """Return a number above any that a reader of the run can have seen."""
    last = max(run.next_event_id, run.packed[-1].number if run.packed else 0)
    by_clock = int(unix_seconds * 1_000_000)
    return max(last + LEAST_JUMP, by_clock if by_clock < MAX_EVENT_ID // 2 else 0)


def _keep_intact(run: StoredInterruptedRun, doubts: Mapping[int, str]) -> None:
    """Keep the events before the first that is missing, and set a fault if those are not all."""
    numbers = [packed.number for packed in run.packed]
    intact = intact_length(numbers, first=1)
    fault = run.fault or ("some of its events are missing" if intact < len(numbers) else None)
    for place, reason in doubts.items():
        # Where the numbers go on behind a batch that cannot be read, it held nothing of this run.
        goes_on = place < len(numbers) and numbers[place] == (numbers[place - 1] if place else 0) + 1
        if not goes_on and place <= intact:
            intact, fault = place, run.fault or reason
    run.fault = fault
    del run.packed[intact:]
