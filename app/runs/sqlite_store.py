"""The tables of a data directory: runs, the batches that live runs are written in, the segments of finished ones.

Everything here is synchronous and belongs to one thread at a time. Theory of operation:

- `runs` has a row for each run: what was posted (`record`), how it stands, and once it has ended its `outline`, all its
  events but for deltas and tools, which lists and answers are made from. `first_batch` and `last_batch` bound where
  its events may be while it is live.
- `batches` has what gathered of all live runs within 20 ms, in one row: a token costs a fraction of a write. When a run
  ends, its events are written once more, into `segments`, and the batches go that no run in progress needs.
- `owners` sums up the bytes of each owner's finished runs. Triggers keep it, so that it is right whoever changes a row.
- `meta.epoch` counts the processes that have had the directory. One whose epoch is not the last any more writes
  nothing: its lock was lost, and another process has its runs.
- Every blob is checked (see `checksums`). Batches are keyed by their number; a run's segments are chained, each keyed
  by the one before; gaps in the numbers of a run's events are found by the numbers. A row that cannot be read is a
  `StoredRun` with a fault and stands in nobody's way.
- When a run ends, its record is written again without secrets and images (see `blanking`).
- Schema: `PRAGMA user_version` counts the migrations that have been made.

What the PRAGMAs of the writing connection keep:

- `journal_mode = WAL`: readers see the last commit while the writer writes. The WAL is folded into the file by a
  checkpoint about every 4 MB.
- `synchronous = NORMAL`: the file is synced at checkpoints only. A process that is killed loses nothing that was
  committed; a host that loses its power may lose what came after the last checkpoint.
- `secure_delete`: what is deleted is overwritten with zeros. The bytes are gone from the file after the next checkpoint
  and from the WAL once that is truncated: at once after a `DELETE`, else within a minute.
- `journal_size_limit`: a WAL that has grown is cut to this at the next checkpoint that begins it anew.
- `auto_vacuum = INCREMENTAL`: pages that are free can be given back to the disk in small steps. Files of older releases
  get it by `vacuum`.
- `cell_size_check`: pages are looked at when they are read, so that a damaged one is an error and no wrong answer.
"""

import logging
import sqlite3
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from app.runs.blanking import blanked
from app.runs.checksums import Damaged, checked, content_of, head_of
from app.runs.data_directory import FILE, Presence, prepare, warn_of_other_readers
from app.runs.journal import Claim, Entry, RunRecord, RunState
from app.runs.packing import Noted, pack, unpack, without
from app.runs.sqlite_errors import as_damage
from app.runs.sqlite_retention import Retention
from app.runs.sqlite_space import BUSY_SECONDS, Space
from app.runs.stored_run import (
    Columns,
    StoredRun,
    entries_of,
    fragment_of,
    record_of,
    run_of,
    stored_outline,
    stored_record,
    whole_part,
)

logger = logging.getLogger(__name__)

_ENTRIES_A_SEGMENT = 4096
_WAL_BYTES = 16 * 1024 * 1024
_NO_LIMIT = 1 << 62
_COLUMNS_OF_A_RUN = "SELECT no, job_id, owner, state, created_at, first_event_id, last_event_id FROM runs WHERE no = ?"
_RUN = (
    "SELECT no, job_id, owner, state, created_at, first_event_id, last_event_id, record, outline FROM runs WHERE no = ?"
)

_MIGRATIONS = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('epoch', 0);
    CREATE TABLE runs (
        no INTEGER PRIMARY KEY,
        job_id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        state TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        created_at REAL NOT NULL,
        ended_at REAL,
        first_batch INTEGER NOT NULL,
        first_event_id INTEGER NOT NULL,
        last_event_id INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        claim_key TEXT UNIQUE,
        claim_body TEXT,
        record BLOB NOT NULL,
        outline BLOB
    );
    CREATE INDEX runs_of_an_owner ON runs (owner, no);
    CREATE INDEX runs_of_an_owner_by_state ON runs (owner, state, no);
    CREATE INDEX runs_by_end ON runs (ended_at, no, bytes) WHERE ended_at IS NOT NULL;
    CREATE INDEX runs_in_progress ON runs (first_batch) WHERE state = 'running';
    CREATE TABLE batches (id INTEGER PRIMARY KEY, events BLOB NOT NULL);
    CREATE TABLE segments (
        run INTEGER NOT NULL,
        first INTEGER NOT NULL,
        events BLOB NOT NULL,
        PRIMARY KEY (run, first)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE runs ADD COLUMN last_batch INTEGER;
    CREATE INDEX finished_runs_of_an_owner ON runs (owner, ended_at, no) WHERE ended_at IS NOT NULL;
    CREATE TABLE owners (owner TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO owners SELECT owner, sum(bytes) FROM runs WHERE ended_at IS NOT NULL GROUP BY owner;
    CREATE TRIGGER a_finished_run_counts AFTER INSERT ON runs WHEN NEW.ended_at IS NOT NULL BEGIN
        INSERT INTO owners VALUES (NEW.owner, NEW.bytes) ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER a_run_that_ends_counts AFTER UPDATE OF ended_at, bytes ON runs BEGIN
        UPDATE owners SET bytes = bytes - OLD.bytes WHERE owner = OLD.owner AND OLD.ended_at IS NOT NULL;
        INSERT INTO owners SELECT NEW.owner, NEW.bytes WHERE NEW.ended_at IS NOT NULL
            ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER a_deleted_run_counts_no_more AFTER DELETE ON runs WHEN OLD.ended_at IS NOT NULL BEGIN
        UPDATE owners SET bytes = bytes - OLD.bytes WHERE owner = OLD.owner;
        DELETE FROM owners WHERE owner = OLD.owner AND bytes <= 0;
    END;
    """,
)


@dataclass(frozen=True, slots=True)
class Ending:
    """What is written when a run ends."""

    no: int
    record: RunRecord
    """As it was posted: it is written again without what only a run in progress needs."""
    state: RunState
    ended_at: float
    """Unix time, in seconds."""
    entries: Sequence[Entry]
    outline: Sequence[Entry]
    next_batch: int
    """No batch that has been written has this number or a higher one."""


class Store:
    """One connection to the file."""

    def __init__(self, folder: Path, *, writes: bool) -> None:
        """Open it; a writer makes the folder and the tables, and logs it where others can read them.

        Raises:
            OSError, sqlite3.Error: that cannot be done.
        """
        if writes:
            prepare(folder)
        self._connection = _connected(folder, "rw" if writes else "ro")
        try:
            if writes:
                self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before there is a table, or never
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = NORMAL")
                self._connection.execute("PRAGMA secure_delete = ON")
                self._connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
                self._migrate()
                self._presence = Presence(folder)
                warn_of_other_readers(folder)
            self._committed = _connected(folder, "ro") if writes else self._connection
            """For what may be damaged: a transaction that comes upon damage can write nothing any more."""
        except BaseException:
            self._connection.close()
            raise
        self.space = Space(self._connection)
        self.retention = Retention(self._connection)

    def close(self) -> None:
        self._committed.close()
        self._connection.close()

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All or nothing of what the block does."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _migrate(self) -> None:
        [version] = self._connection.execute("PRAGMA user_version").fetchone()
        if version > len(_MIGRATIONS):
            raise sqlite3.DatabaseError(f"this data directory is of a newer release (schema {version})")
        for number, migration in enumerate(_MIGRATIONS[version:], start=version + 1):
            self._connection.executescript(f"BEGIN IMMEDIATE; {migration}; PRAGMA user_version = {number}; COMMIT;")

    # Written by the process that serves.

    def next_epoch(self) -> int:
        """The number of a new owner of the directory."""
        [epoch] = self._connection.execute(
            "UPDATE meta SET value = value + 1 WHERE name = 'epoch' RETURNING value"
        ).fetchone()
        return epoch

    def check_epoch(self, epoch: int) -> None:
        """Refuse to write for an owner that is not the owner any more.

        Raises:
            sqlite3.OperationalError: there is a later one.
        """
        [present] = self._connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
        if present != epoch:
            raise sqlite3.OperationalError("another process has taken the data directory over")

    def last_numbers(self) -> tuple[int, int]:
        """The highest number of a run and of a batch."""
        [run] = self._connection.execute("SELECT coalesce(max(no), 0) FROM runs").fetchone()
        [batch] = self._connection.execute("SELECT coalesce(max(id), 0) FROM batches").fetchone()
        [wanted] = self._connection.execute(
            "SELECT coalesce(max(first_batch), 0) FROM runs WHERE state = 'running'"
        ).fetchone()
        return run, max(batch, wanted)

    def check_presence(self) -> None:
        """Look whether the file is still where it was opened.

        Raises:
            OSError: it is not.
        """
        self._presence.check()

    def probe(self) -> None:
        """Write something that changes nothing, where it will be found."""
        self.check_presence()
        self._connection.execute("UPDATE meta SET value = value WHERE name = 'epoch'")

    def add_run(self, no: int, record: RunRecord, *, epoch: int, first_batch: int) -> None:
        """Begin a run; where that has been done, nothing is changed."""
        claim = record.claim
        if claim is not None:  # an older run may have it still, which is too old to count
            self._connection.execute(
                "UPDATE runs SET claim_key = NULL, claim_body = NULL WHERE claim_key = ? AND no <> ?", (claim.key, no)
            )
        self._connection.execute(
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
                claim.key if claim else None,
                claim.body if claim else None,
                stored_record(no, record),
            ),
        )

    def add_batch_alone(self, batch: int, events: Iterable[Noted], epoch: int) -> bool:
        """As `add_batch`, as a transaction of its own, if the epoch is this one: each statement lets go of the
        interpreter twice, and most transactions are one batch and nothing else."""
        inserted = self._connection.execute(
            "INSERT OR REPLACE INTO batches SELECT ?, ? FROM meta WHERE name = 'epoch' AND value = ?",
            (batch, _stored_batch(batch, events), epoch),
        )
        return inserted.rowcount == 1

    def add_batch(self, batch: int, events: Iterable[Noted]) -> None:
        self._connection.execute("INSERT OR REPLACE INTO batches VALUES (?, ?)", (batch, _stored_batch(batch, events)))

    def end_run(self, ending: Ending) -> int:
        """Write a run's end; returns the bytes that the run takes from now on."""
        outline = stored_outline(ending.no, ending.outline)
        record = stored_record(ending.no, replace(ending.record, body=blanked(ending.record.body)))
        size = self._write_segments(ending.no, ending.entries) + len(outline) + len(record)
        self._connection.execute(
            "UPDATE runs SET state = ?, ended_at = ?, first_event_id = ?, last_event_id = ?, bytes = ?, record = ?,"
            " outline = ?, last_batch = ? WHERE no = ? AND state = 'running'",
            (
                ending.state,
                ending.ended_at,
                ending.entries[0][0],
                ending.entries[-1][0],
                size,
                record,
                outline,
                ending.next_batch - 1,
                ending.no,
            ),
        )
        self._connection.execute(
            "DELETE FROM batches WHERE id < coalesce((SELECT min(first_batch) FROM runs WHERE state = 'running'), ?)",
            (ending.next_batch,),
        )
        self.space.holds_deleted = True
        return size

    def _write_segments(self, no: int, entries: Sequence[Entry]) -> int:
        """How many bytes they are."""
        size, before = 0, b""
        for start in range(0, len(entries), _ENTRIES_A_SEGMENT):
            part = entries[start : start + _ENTRIES_A_SEGMENT]
            first = part[0][0]
            stored = checked(pack((no, number, event) for number, event in part), _segment_key(no, first, before))
            size, before = size + len(stored), head_of(stored)
            self._connection.execute("INSERT OR REPLACE INTO segments VALUES (?, ?, ?)", (no, first, stored))
        return size

    def trim_run(self, no: int, entries: Sequence[Entry]) -> None:
        """Leave only these entries of a finished run."""
        self._connection.execute("DELETE FROM segments WHERE run = ?", (no,))
        size = self._write_segments(no, entries)
        self._connection.execute(
            "UPDATE runs SET first_event_id = ?, bytes = ? + length(outline) + length(record) WHERE no = ?",
            (entries[0][0], size, no),
        )

    def delete_run(self, job_id: str) -> None:
        """Delete a finished run, also from the batches that runs in progress still need.

        Raises:
            Damaged: its row cannot be followed to its end, and all of it is left as it is.
        """
        try:
            row = self._committed.execute(
                "SELECT no, first_batch, last_batch FROM runs WHERE job_id = ?", (job_id,)
            ).fetchone()
        except sqlite3.DatabaseError as error:
            raise as_damage(error) from error
        if row is None:
            return
        no, first_batch, last_batch = row
        try:
            self._committed.execute("SELECT record, outline FROM runs WHERE no = ?", (no,)).fetchone()
            for _ in self._committed.execute("SELECT events FROM segments WHERE run = ?", (no,)):
                pass
        except sqlite3.DatabaseError as error:
            raise as_damage(error) from error
        self.space.holds_deleted = True
        self._delete_from_batches(no, first_batch, last_batch)
        self._connection.execute("DELETE FROM segments WHERE run = ?", (no,))
        self._connection.execute("DELETE FROM runs WHERE no = ?", (no,))

    def _delete_from_batches(self, no: int, first: int, last: int | None) -> None:
        """`last` is not known of runs that ended under an older release."""
        within = (first, last if last is not None else _NO_LIMIT)
        numbers = self._connection.execute("SELECT id FROM batches WHERE id BETWEEN ? AND ?", within).fetchall()
        for (batch,) in numbers:
            try:
                self._batch(batch)  # so that damage is met outside of the transaction
                [stored] = self._connection.execute("SELECT events FROM batches WHERE id = ?", (batch,)).fetchone()
                left = without(content_of(stored, _batch_key(batch)), no)
            except Damaged as damage:
                logger.warning("batch %d may hold events of a run that was deleted: %s", batch, damage)
                continue
            if left is not None:
                stored = checked(left, _batch_key(batch))
                self._connection.execute("UPDATE batches SET events = ? WHERE id = ?", (stored, batch))

    def drop_claims(self, created_before: float) -> None:
        """Forget which requests the older runs had."""
        self._connection.execute(
            "UPDATE runs SET claim_key = NULL, claim_body = NULL WHERE claim_key IS NOT NULL AND created_at < ?",
            (created_before,),
        )

    def blank_old_runs(self) -> None:
        """Take secrets and images out of the records of runs that ended under a release that left them in."""
        rows = self._connection.execute(
            "SELECT no FROM runs WHERE ended_at IS NOT NULL AND substr(record, 1, 1) <> x'c1'"
        ).fetchall()
        for (no,) in rows:
            [stored] = self._committed.execute("SELECT record FROM runs WHERE no = ?", (no,)).fetchone()
            try:
                record = record_of(no, stored)
            except Damaged as damage:
                logger.warning("run number %d is left as it is: %s", no, damage)
                continue
            blank = stored_record(no, replace(record, body=blanked(record.body)))
            self._connection.execute(
                "UPDATE runs SET record = ?, bytes = bytes - ? + ? WHERE no = ?",
                (blank, len(record.body), len(blank), no),
            )

    # Read by anybody.

    def run(self, job_id: str) -> StoredRun | None:
        """The run of this id.

        Raises:
            Damaged: nothing of its row can be read.
        """
        row = self._committed.execute("SELECT no FROM runs WHERE job_id = ?", (job_id,)).fetchone()
        return self._run(row[0]) if row else None

    def events(self, run: StoredRun) -> list[Entry]:
        """Of a finished run.

        Raises:
            Damaged: they are not all there as they were written.
        """
        if run.fault is not None:
            raise Damaged(run.fault)
        entries: list[Entry] = []
        before = b""
        try:
            rows = self._committed.execute("SELECT first, events FROM segments WHERE run = ? ORDER BY first", (run.no,))
            for first, stored in rows:
                entries += entries_of(content_of(stored, _segment_key(run.no, first, before)))
                before = head_of(stored)
        except sqlite3.DatabaseError as error:
            raise as_damage(error) from error
        ends = (entries[0][0], entries[-1][0]) if entries else (0, 0)
        is_whole = whole_part(entries, first=run.first_event_id) == len(entries)
        if not is_whole or ends != (run.first_event_id, run.last_event_id):
            raise Damaged("some of its events are missing")
        return entries

    def page(
        self, owner: str, *, state: RunState | None, limit: int, before: int | None
    ) -> tuple[list[StoredRun], bool]:
        """An owner's runs, newest first, of numbers below `before`; and whether there are more."""
        before = before if before is not None else _NO_LIMIT
        if state is None:
            rows = self._committed.execute(
                "SELECT no FROM runs WHERE owner = ? AND no < ? ORDER BY no DESC LIMIT ?", (owner, before, limit + 1)
            )
        else:
            rows = self._committed.execute(
                "SELECT no FROM runs WHERE owner = ? AND state = ? AND no < ? ORDER BY no DESC LIMIT ?",
                (owner, state, before, limit + 1),
            )
        numbers = rows.fetchall()
        runs = [run for (no,) in numbers[:limit] if (run := self._run_or_none(no)) is not None]
        return runs, len(numbers) > limit

    def claims(self) -> list[tuple[Claim, str]]:
        """All that are held, with their runs."""
        rows = self._committed.execute("SELECT claim_key, claim_body, job_id FROM runs WHERE claim_key IS NOT NULL")
        return [(Claim(key, body), job_id) for key, body, job_id in rows]

    def in_progress(self) -> list[tuple[StoredRun, list[Entry]]]:
        """The runs without an end, with what was written of them; of one with a fault, what came before it."""
        rows = self._committed.execute("SELECT no, first_batch FROM runs WHERE state = 'running' ORDER BY no")
        first_batches: dict[int, int] = dict(rows.fetchall())
        entries: dict[int, list[Entry]] = {no: [] for no in first_batches}
        doubts: dict[int, dict[int, str]] = {no: {} for no in first_batches}
        """By run: behind how many of its entries some may be missing, and why."""
        numbers = self._committed.execute(
            "SELECT id FROM batches WHERE id >= ? ORDER BY id", (min(first_batches.values(), default=None),)
        ).fetchall()
        for (batch,) in numbers:
            # Earlier batches may hold another run that had a number before it was deleted.
            runs = [no for no, first in first_batches.items() if first <= batch]
            try:
                for no, number, event in unpack(self._batch(batch), runs):
                    entries[no].append((number, event))
            except Damaged as damage:
                for no in runs:
                    doubts[no].setdefault(len(entries[no]), str(damage))
        runs = [(self._run_or_none(no), entries[no], doubts[no]) for no in first_batches]
        return [_undoubted(run, its, why) for run, its, why in runs if run is not None]

    def _batch(self, batch: int) -> bytes | memoryview:
        try:
            [stored] = self._committed.execute("SELECT events FROM batches WHERE id = ?", (batch,)).fetchone()
        except sqlite3.DatabaseError as error:
            raise as_damage(error) from error
        return content_of(stored, _batch_key(batch))

    def _run(self, no: int) -> StoredRun:
        """The run of this number, or what is left of it.

        Raises:
            Damaged: not even its id can be read.
        """
        try:
            row = self._committed.execute(_RUN, (no,)).fetchone()
            if row is not None:
                *columns, record, outline = row
                return run_of(Columns(*columns), record, outline)
            fault = "an index leads to a row that is not there"
        except sqlite3.DatabaseError as error:
            fault = str(as_damage(error))
        except Damaged as damage:
            fault = str(damage)
        return fragment_of(self._columns(no), fault)

    def _run_or_none(self, no: int) -> StoredRun | None:
        """As `_run`; one of which nothing can be read is logged."""
        try:
            return self._run(no)
        except Damaged as damage:
            logger.error("of run number %d not even the id can be read: %s", no, damage)  # noqa: TRY400
            return None

    def _columns(self, no: int) -> Columns:
        """They stand before the blobs, and can be read where those cannot.

        Raises:
            Damaged: neither can they.
        """
        try:
            row = self._committed.execute(_COLUMNS_OF_A_RUN, (no,)).fetchone()
        except sqlite3.DatabaseError as error:
            raise as_damage(error) from error
        if row is None:
            raise Damaged("there is no such row")
        return Columns(*row)


def _undoubted(run: StoredRun, entries: list[Entry], doubts: Mapping[int, str]) -> tuple[StoredRun, list[Entry]]:
    """The run with the entries of which none is missing, and with a fault if those are not all."""
    whole = whole_part(entries, first=1)
    fault = run.fault or ("some of its events are missing" if whole < len(entries) else None)
    for place, why in doubts.items():
        # Where the numbers go on behind a batch that cannot be read, it held nothing of this run.
        goes_on = place < len(entries) and entries[place][0] == (entries[place - 1][0] if place else 0) + 1
        if not goes_on and place <= whole:
            whole, fault = place, run.fault or why
    return replace(run, fault=fault), entries[:whole]


def _connected(folder: Path, mode: str) -> sqlite3.Connection:
    uri = f"{(folder / FILE).absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _batch_key(batch: int) -> bytes:
    return b"batch %d" % batch


def _segment_key(no: int, first: int, before: bytes) -> bytes:
    return b"segment %d %d %b" % (no, first, before)


def _stored_batch(batch: int, events: Iterable[Noted]) -> bytes:
    return checked(pack(events), _batch_key(batch))
