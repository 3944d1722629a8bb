"""The `runs` table: a row for each run, from its submission on."""

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from swarmstream.journal.checksums import Damaged
from swarmstream.journal.records import RunRecord, RunState
from swarmstream.journal.sqlite.file.connections import Connections
from swarmstream.journal.sqlite.file.damage import as_damage
from swarmstream.journal.sqlite.file.stored_run import (
    Columns,
    StoredRun,
    salvage_row,
    unpack_record,
    unpack_row,
)

logger = logging.getLogger(__name__)

_NO_LIMIT = 1 << 62
_COLUMNS = "SELECT no, job_id, owner, state, created_at, first_event_id, last_event_id, ended_at FROM runs WHERE no = ?"
_ROW = (
    "SELECT no, job_id, owner, state, created_at, first_event_id, last_event_id, ended_at, record, outline"
    " FROM runs WHERE no = ?"
)


@dataclass(frozen=True, slots=True)
class EndedRow:
    """The columns that are written when a run ends."""

    no: int
    state: RunState
    ended_at: float
    """Unix time, in seconds."""
    first_event_id: int
    last_event_id: int
    size: int
    """The bytes of its record, its outline and its segments."""
    record: bytes | bytearray
    outline: bytes
    last_batch: int


class RunTable:
    """Runs by their numbers, which ascend, and by their ids."""

    def __init__(self, connections: Connections) -> None:
        self._main = connections.main
        self._committed = connections.committed

    def last_number(self) -> int:
        """Return the highest number of a run."""
        [last] = self._main.execute("SELECT coalesce(max(no), 0) FROM runs").fetchone()
        return last

    def add(self, no: int, record: RunRecord, stored: bytes | bytearray, *, epoch: int, first_batch: int) -> None:
        """Write the row of a run that begins; where that has been done, nothing is changed."""
        key = record.idempotency_key
        self._main.execute(
            "INSERT INTO runs (no, job_id, owner, state, epoch, created_at, first_batch, first_event_id, last_event_id,"
            " bytes, claim_key, claim_body, record)"
            " VALUES (?, ?, ?, 'running', ?, ?, ?, 1, 0, ?, ?, ?, ?) ON CONFLICT (no) DO NOTHING",
            (
                no,
                record.job_id,
                record.owner,
                epoch,
                record.created_at.timestamp(),
                first_batch,
                len(record.body),
                key.key if key else None,
                key.body if key else None,
                stored,
            ),
        )

    def end(self, row: EndedRow) -> None:
        """Write the end of a run in progress; where that has been done, nothing is changed."""
        self._main.execute(
            "UPDATE runs SET state = ?, ended_at = ?, first_event_id = ?, last_event_id = ?, bytes = ?, record = ?,"
            " outline = ?, last_batch = ? WHERE no = ? AND state = 'running'",
            (
                row.state,
                row.ended_at,
                row.first_event_id,
                row.last_event_id,
                row.size,
                row.record,
                row.outline,
                row.last_batch,
                row.no,
            ),
        )

    def find(self, job_id: str, *, owner: str | None = None) -> StoredRun | None:
        """Return the run of this id; with an `owner`, if it is theirs.

        Raises:
            Damaged: nothing of its row can be read.
        """
        row = self._committed.execute(
            "SELECT no FROM runs WHERE job_id = ? AND owner = coalesce(?, owner)", (job_id, owner)
        ).fetchone()
        return self.read(row[0]) if row else None

    def read(self, no: int) -> StoredRun:
        """Return the run of this number, with a fault if not all of its row can be read.

        Raises:
            Damaged: not even its id can be read.
        """
        try:
            row = self._committed.execute(_ROW, (no,)).fetchone()
            if row is not None:
                *columns, record, outline = row
                return unpack_row(Columns(*columns), record, outline)
            fault = "an index leads to a row that is not there"
        except sqlite3.DatabaseError as error:
            fault = str(as_damage(error))
        except Damaged as damage:
            fault = str(damage)
        return salvage_row(self._columns(no), fault)

    def record(self, no: int) -> RunRecord:
        """Return the record of an existing run.

        Raises:
            Damaged: it cannot be read.
        """
        [record] = self._committed.execute("SELECT record FROM runs WHERE no = ?", (no,)).fetchone()
        return unpack_record(no, record)

    def number(self, job_id: str, *, owner: str) -> int | None:
        """Return the number of an owner's run."""
        row = self._committed.execute("SELECT no FROM runs WHERE job_id = ? AND owner = ?", (job_id, owner)).fetchone()
        return row[0] if row else None

    def page(self, owner: str, *, state: RunState | None, limit: int, before: int | None) -> tuple[Sequence[str], bool]:
        """Return the ids of an owner's runs, newest first, of numbers below `before`; then whether there are more."""
        before = before if before is not None else _NO_LIMIT
        if state is None:
            found = self._committed.execute(
                "SELECT job_id FROM runs WHERE owner = ? AND no < ? ORDER BY no DESC LIMIT ?",
                (owner, before, limit + 1),
            )
        else:
            found = self._committed.execute(
                "SELECT job_id FROM runs WHERE owner = ? AND state = ? AND no < ? ORDER BY no DESC LIMIT ?",
                (owner, state, before, limit + 1),
            )
        rows = found.fetchall()
        return [job_id for (job_id,) in rows[:limit]], len(rows) > limit

    def _columns(self, no: int) -> Columns:
        """Return the columns that stand before the blobs, and can be read where those cannot.

        Raises:
            Damaged: neither can they.
        """
        try:
            row = self._committed.execute(_COLUMNS, (no,)).fetchone()
        except sqlite3.DatabaseError as error:
            raise as_damage(error) from error
        if row is None:
            raise Damaged("there is no such row")
        return Columns(*row)
