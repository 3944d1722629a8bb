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
  committed; a host that loses its power may lose what came after the last checkpoint. `FULL` for the transactions that
  are to outlive the host.
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
from dataclasses import dataclass, field, replace
from pathlib import Path

from swarmstream.events import MAX_EVENT_ID
from swarmstream.journal.base import MAX_ADMITTED, Entry, IdempotencyKey, RunRecord, RunState
from swarmstream.journal.blanking import blanked
from swarmstream.journal.checksums import HEAD_BYTES, Damaged, checked, content_of, head_of
from swarmstream.journal.codec import Noted, Packed, pack, split, without
from swarmstream.journal.sqlite.data_directory import FILE, Presence, prepare, warn_of_other_readers
from swarmstream.journal.sqlite.errors import as_damage
from swarmstream.journal.sqlite.retention import Retention
from swarmstream.journal.sqlite.space import BUSY_SECONDS, Space
from swarmstream.journal.sqlite.stored_run import (
    LEAST_JUMP,
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
_NUMBERS_SKIPPED = LEAST_JUMP
"""Between the last event known of a run and the first after its recovery: more than readers can have seen that was
not written."""
_COLUMNS_OF_A_RUN = (
    "SELECT no, job_id, owner, state, created_at, first_event_id, last_event_id, ended_at FROM runs WHERE no = ?"
)
_RUN = (
    "SELECT no, job_id, owner, state, created_at, first_event_id, last_event_id, ended_at, record, outline"
    " FROM runs WHERE no = ?"
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
    ALTER TABLE runs ADD COLUMN next_event_id INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE stream_tokens (run INTEGER NOT NULL, digest BLOB NOT NULL, UNIQUE (run, digest));
    CREATE TRIGGER stream_tokens_go_with_their_run AFTER DELETE ON runs BEGIN
        DELETE FROM stream_tokens WHERE run = old.no;
    END;
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


@dataclass(slots=True)
class StoredInterruptedRun:
    """A run without an end, as it is found by the next process."""

    no: int
    record: RunRecord
    """But for its body, which can be large."""
    attempts: int
    next_event_id: int
    """Of the first event that this process adds."""
    packed: list[Packed] = field(default_factory=list[Packed])
    """What was written of it; where there is a fault, what came before it."""
    fault: str | None = None
    """Why it cannot go on, where what is stored of it is damaged."""


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
    def transaction(self, *, outlives_host: bool = False) -> Generator[None]:
        """All or nothing of what the block does; with `outlives_host` it is on the disk, and all before it, when the
        block is over, else with the system."""
        if outlives_host:
            self._connection.execute("PRAGMA synchronous = FULL")
        try:
            with self._transaction():
                yield
        finally:
            if outlives_host:
                self._connection.execute("PRAGMA synchronous = NORMAL")

    @contextmanager
    def _transaction(self) -> Generator[None]:
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

    def admit_token(self, job_id: str, digest: bytes) -> bool:
        """Remember a stream token that has connected, and forget the oldest of too many; False without such a run."""
        row = self._connection.execute("SELECT no FROM runs WHERE job_id = ?", (job_id,)).fetchone()
        if row is None:
            return False
        self._connection.execute("INSERT OR IGNORE INTO stream_tokens VALUES (?, ?)", (row[0], digest))
        self._connection.execute(
            "DELETE FROM stream_tokens WHERE rowid IN"
            " (SELECT rowid FROM stream_tokens WHERE run = ? ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
            (row[0], MAX_ADMITTED),
        )
        return True

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

    def run(self, job_id: str, *, owner: str | None = None) -> StoredRun | None:
        """The run of this id; with an `owner`, if it is theirs.

        Raises:
            Damaged: nothing of its row can be read.
        """
        row = self._committed.execute(
            "SELECT no FROM runs WHERE job_id = ? AND owner = coalesce(?, owner)", (job_id, owner)
        ).fetchone()
        return self._run(row[0]) if row else None

    def number(self, job_id: str, *, owner: str) -> int | None:
        """The number of an owner's run."""
        row = self._committed.execute("SELECT no FROM runs WHERE job_id = ? AND owner = ?", (job_id, owner)).fetchone()
        return row[0] if row else None

    def events(self, run: StoredRun, *, after: int = 0) -> list[Entry]:
        """Return the events of a finished run that are numbered above `after`, and some before them: all of a segment.

        Raises:
            Damaged: they are not all there as they were written.
        """
        if run.fault is not None:
            raise Damaged(run.fault)
        entries: list[Entry] = []
        try:
            begin, before = self._segment_of(run.no, after + 1)
            rows = self._committed.execute(
                "SELECT first, events FROM segments WHERE run = ? AND first >= ? ORDER BY first", (run.no, begin)
            )
            for first, stored in rows:
                entries += entries_of(content_of(stored, _segment_key(run.no, first, before)))
                before = head_of(stored)
        except sqlite3.DatabaseError as error:
            raise as_damage(error) from error
        ends = (entries[0][0], entries[-1][0]) if entries else (0, 0)
        begin = max(begin, run.first_event_id)
        is_whole = whole_part([number for number, _ in entries], first=begin) == len(entries)
        if not is_whole or ends != (begin, run.last_event_id):
            raise Damaged("some of its events are missing")
        return entries

    def _segment_of(self, no: int, number: int) -> tuple[int, bytes]:
        """Return the first number in the segment that holds this one, or is before it, and the head of the segment
        before: 0 and nothing for a run's first segment."""
        [begin] = self._committed.execute(
            "SELECT max(first) FROM segments WHERE run = ? AND first <= ?", (no, number)
        ).fetchone()
        before = self._committed.execute(
            "SELECT substr(events, 1, ?) FROM segments WHERE run = ? AND first < ? ORDER BY first DESC LIMIT 1",
            (HEAD_BYTES, no, begin),
        ).fetchone()
        return (begin, head_of(before[0])) if before else (0, b"")

    def page(self, owner: str, *, state: RunState | None, limit: int, before: int | None) -> tuple[list[str], bool]:
        """The ids of an owner's runs, newest first, of numbers below `before`; and whether there are more."""
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

    def has_admitted(self, job_id: str, digest: bytes) -> bool:
        """Tell whether this stream token of a run has connected."""
        found = self._committed.execute(
            "SELECT 1 FROM stream_tokens WHERE digest = ? AND run = (SELECT no FROM runs WHERE job_id = ?)",
            (digest, job_id),
        )
        return found.fetchone() is not None

    def claims(self) -> list[tuple[IdempotencyKey, str]]:
        """All that are held, with their runs."""
        rows = self._committed.execute("SELECT claim_key, claim_body, job_id FROM runs WHERE claim_key IS NOT NULL")
        return [(IdempotencyKey(key, body), job_id) for key, body, job_id in rows]

    # Done by a process that takes the directory over.

    def claim_unfinished(self, unix_seconds: float) -> list[StoredInterruptedRun]:
        """The runs without an end, with what was written of them; those that nobody has failed to take up come first.

        From now on their events are numbered above all numbers that are known of them, and above the microseconds
        since 1970, which no life that is forgotten can have reached.
        """
        rows = self._committed.execute(
            "SELECT no, attempts, next_event_id, first_batch FROM runs WHERE state = 'running' ORDER BY attempts, no"
        ).fetchall()
        runs: dict[int, StoredInterruptedRun] = {}
        first_batches: dict[int, int] = {}
        for no, attempts, next_event_id, first_batch in rows:
            if (run := self._run_or_none(no)) is not None:
                record = replace(run.record, body=b"")
                runs[no] = StoredInterruptedRun(no, record, attempts, next_event_id, fault=run.fault)
                first_batches[no] = first_batch
        doubts = self._read_batches(runs, first_batches)
        for no, run in runs.items():
            _leave_undoubted(run, doubts[no])
            last = max(run.next_event_id, run.packed[-1].number if run.packed else 0)
            by_clock = int(unix_seconds * 1_000_000)
            run.next_event_id = max(last + _NUMBERS_SKIPPED, by_clock if by_clock < MAX_EVENT_ID // 2 else 0)
            self._connection.execute("UPDATE runs SET next_event_id = ? WHERE no = ?", (run.next_event_id, no))
        return list(runs.values())

    def _read_batches(
        self, runs: Mapping[int, StoredInterruptedRun], first_batches: Mapping[int, int]
    ) -> dict[int, dict[int, str]]:
        """Give the runs what the batches have of them; by run, behind how many of its events some may be missing, and
        why."""
        doubts: dict[int, dict[int, str]] = {no: {} for no in runs}
        numbers = self._committed.execute(
            "SELECT id FROM batches WHERE id >= ? ORDER BY id", (min(first_batches.values(), default=None),)
        ).fetchall()
        for (batch,) in numbers:
            try:
                for packed in split(self._batch(batch)):
                    # Earlier batches may hold another run that had a number before it was deleted.
                    if batch >= first_batches.get(packed.run, batch + 1):
                        runs[packed.run].packed.append(packed)
            except Damaged as damage:
                for no, first in first_batches.items():
                    if first <= batch:
                        doubts[no].setdefault(len(runs[no].packed), str(damage))
        return doubts

    def count_attempt(self, no: int, times: int) -> None:
        """A process is about to take the run up, or still at it."""
        self._connection.execute("UPDATE runs SET attempts = attempts + ? WHERE no = ?", (times, no))

    def clear_attempts(self, no: int) -> None:
        """The run goes on."""
        self._connection.execute("UPDATE runs SET attempts = 0 WHERE no = ?", (no,))

    def record(self, no: int) -> RunRecord:
        """Of a run that is there.

        Raises:
            Damaged: it cannot be read.
        """
        [record] = self._committed.execute("SELECT record FROM runs WHERE no = ?", (no,)).fetchone()
        return record_of(no, record)

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


def _leave_undoubted(run: StoredInterruptedRun, doubts: Mapping[int, str]) -> None:
    """Leave the run the events of which none is missing, and a fault if those are not all."""
    numbers = [packed.number for packed in run.packed]
    whole = whole_part(numbers, first=1)
    fault = run.fault or ("some of its events are missing" if whole < len(numbers) else None)
    for place, why in doubts.items():
        # Where the numbers go on behind a batch that cannot be read, it held nothing of this run.
        goes_on = place < len(numbers) and numbers[place] == (numbers[place - 1] if place else 0) + 1
        if not goes_on and place <= whole:
            whole, fault = place, run.fault or why
    run.fault = fault
    del run.packed[whole:]


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
