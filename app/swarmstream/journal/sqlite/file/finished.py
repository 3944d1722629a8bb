"""The end of a run in the file, and all that may happen to a finished one: trimming, deletion."""

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

from swarmstream.journal.blanking import blank
from swarmstream.journal.checksums import Damaged
from swarmstream.journal.records import Entry, RunRecord, RunState
from swarmstream.journal.sqlite.file.batches import BatchTable
from swarmstream.journal.sqlite.file.connections import Connections
from swarmstream.journal.sqlite.file.damage import as_damage
from swarmstream.journal.sqlite.file.runs import EndedRow, RunTable
from swarmstream.journal.sqlite.file.segments import SegmentTable
from swarmstream.journal.sqlite.file.space import Space
from swarmstream.journal.sqlite.file.stored_run import pack_outline, pack_record, unpack_record

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """The facts of a run's end."""

    no: int
    record: RunRecord
    """As it was posted: it is written again without what only a run in progress needs."""
    state: RunState
    ended_at: float
    """Unix time, in seconds."""
    entries: Sequence[Entry]
    outline: Sequence[Entry]
    """The entries that answers are made of."""
    next_batch: int
    """No batch that has been written has this number or a higher one."""


class FinishedRuns:
    """Runs that have ended: their rows, with the segments of their events."""

    def __init__(
        self, connections: Connections, runs: RunTable, batches: BatchTable, segments: SegmentTable, space: Space
    ) -> None:
        self._main = connections.main
        self._committed = connections.committed
        self._runs = runs
        self._batches = batches
        self._segments = segments
        self._space = space

    def end(self, ending: Ending) -> int:
        """Write a run's end, and return the bytes that the run takes from now on."""
        outline = pack_outline(ending.no, ending.outline)
        record = pack_record(ending.no, replace(ending.record, body=blank(ending.record.body)))
        size = self._segments.write(ending.no, ending.entries) + len(outline) + len(record)
        self._runs.end(
            EndedRow(
                ending.no,
                ending.state,
                ending.ended_at,
                first_event_id=ending.entries[0][0],
                last_event_id=ending.entries[-1][0],
                size=size,
                record=record,
                outline=outline,
                last_batch=ending.next_batch - 1,
            )
        )
        self._batches.delete_unneeded(ending.next_batch)
        self._space.holds_deleted = True
        return size

    def trim(self, no: int, entries: Sequence[Entry]) -> None:
        """Leave only these entries of a finished run."""
        self._segments.delete(no)
        size = self._segments.write(no, entries)
        self._main.execute(
            "UPDATE runs SET first_event_id = ?, bytes = ? + length(outline) + length(record) WHERE no = ?",
            (entries[0][0], size, no),
        )

    def delete(self, job_id: str) -> None:
        """Delete a run, also from the batches that runs in progress still need; does nothing where there is none.

        Raises:
            Damaged: its row cannot be followed to its end, and all of it is left as it is.
        """
        try:
            row = self._committed.execute(
                "SELECT no, first_batch, last_batch FROM runs WHERE job_id = ?", (job_id,)
            ).fetchone()
            if row is None:
                return
            no, first_batch, last_batch = row
            self._committed.execute("SELECT record, outline FROM runs WHERE no = ?", (no,)).fetchone()
            self._segments.check(no)
        except sqlite3.DatabaseError as error:
            raise as_damage(error) from error
        self._space.holds_deleted = True
        self._batches.delete_run(no, first_batch, last_batch)
        self._segments.delete(no)
        self._main.execute("DELETE FROM runs WHERE no = ?", (no,))

    def blank_old(self) -> None:
        """Blank the records of runs that ended under a release that left secrets and images in them."""
        rows = self._main.execute(
            "SELECT no FROM runs WHERE ended_at IS NOT NULL AND substr(record, 1, 1) <> x'c1'"
        ).fetchall()
        for (no,) in rows:
            [stored] = self._committed.execute("SELECT record FROM runs WHERE no = ?", (no,)).fetchone()
            try:
                record = unpack_record(no, stored)
            except Damaged as damage:
                logger.warning("run number %d is left as it is: %s", no, damage)
                continue
            blanked = pack_record(no, replace(record, body=blank(record.body)))
            self._main.execute(
                "UPDATE runs SET record = ?, bytes = bytes - ? + ? WHERE no = ?",
                (blanked, len(record.body), len(blanked), no),
            )
