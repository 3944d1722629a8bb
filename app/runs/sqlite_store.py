"""The tables of a data directory: runs, the batches that live runs are written in, the segments of finished ones.

Everything here is synchronous and belongs to one thread at a time. Schema: `PRAGMA user_version` counts the migrations
that have been made.
"""

import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from app.events import Event
from app.runs.journal import MAX_ADMITTED, MAX_EVENT_ID, Claim, Entry, RunRecord, RunState
from app.runs.packing import Noted, Packed, pack, split, unpack

FILE = "runs.sqlite3"

_BUSY_SECONDS = 5.0
_ENTRIES_A_SEGMENT = 4096
_NUMBERS_SKIPPED = 1_000_000
"""Between the last event known of a run and the first after its recovery: more than readers can have seen that was
not written."""

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
)

_decode_record = msgspec.msgpack.Decoder(RunRecord).decode
_encode_record = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A row of `runs`."""

    no: int
    record: RunRecord
    state: RunState
    first_event_id: int
    last_event_id: int
    ended_at: float | None
    """Unix time, in seconds."""
    outline: Sequence[Entry]
    """Its events but for deltas and tools; empty while it is in progress."""


@dataclass(slots=True)
class InterruptedRun:
    """A run without an end, as it is found by the next process."""

    no: int
    record: RunRecord
    """But for its body, which can be large."""
    attempts: int
    next_event_id: int
    """Of the first event that this process adds."""
    packed: list[Packed] = field(default_factory=list[Packed])
    """What was written of it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What is written when a run ends."""

    no: int
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
        """Open it; a writer makes the folder and the tables.

        Raises:
            OSError, sqlite3.Error: that cannot be done.
        """
        if writes:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / FILE
        uri = f"{path.absolute().as_uri()}?mode={'rwc' if writes else 'ro'}"
        self._connection = sqlite3.connect(
            uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        if writes:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._migrate()

    def close(self) -> None:
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

    def probe(self) -> None:
        """Write something that changes nothing."""
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
            " bytes, claim_key, claim_body, record) VALUES (?, ?, ?, 'running', ?, ?, ?, 1, 0, ?, ?, ?, ?)"
            " ON CONFLICT (no) DO NOTHING",
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
                _encode_record(record),
            ),
        )

    def add_batch_alone(self, batch: int, events: Iterable[Noted], epoch: int) -> bool:
        """As `add_batch`, as a transaction of its own, if the epoch is this one: each statement lets go of the
        interpreter twice, and most transactions are one batch and nothing else."""
        inserted = self._connection.execute(
            "INSERT OR REPLACE INTO batches SELECT ?, ? FROM meta WHERE name = 'epoch' AND value = ?",
            (batch, pack(events), epoch),
        )
        return inserted.rowcount == 1

    def add_batch(self, batch: int, events: Iterable[Noted]) -> None:
        self._connection.execute("INSERT OR REPLACE INTO batches VALUES (?, ?)", (batch, pack(events)))

    def end_run(self, ending: Ending) -> None:
        size = 0
        for start in range(0, len(ending.entries), _ENTRIES_A_SEGMENT):
            part = ending.entries[start : start + _ENTRIES_A_SEGMENT]
            packed = pack((ending.no, number, event) for number, event in part)
            size += len(packed)
            self._connection.execute(
                "INSERT OR REPLACE INTO segments VALUES (?, ?, ?)", (ending.no, part[0][0], packed)
            )
        outline = pack((ending.no, number, event) for number, event in ending.outline)
        self._connection.execute(
            "UPDATE runs SET state = ?, ended_at = ?, first_event_id = ?, last_event_id = ?, bytes = bytes + ?,"
            " outline = ? WHERE no = ? AND state = 'running'",
            (
                ending.state,
                ending.ended_at,
                ending.entries[0][0],
                ending.entries[-1][0],
                size + len(outline),
                outline,
                ending.no,
            ),
        )
        self._connection.execute(
            "DELETE FROM batches WHERE id < coalesce((SELECT min(first_batch) FROM runs WHERE state = 'running'), ?)",
            (ending.next_batch,),
        )

    def trim_run(self, no: int, entries: Sequence[Entry]) -> None:
        """Leave only these entries of a finished run."""
        self._connection.execute("DELETE FROM segments WHERE run = ?", (no,))
        packed = pack((no, number, event) for number, event in entries)
        self._connection.execute("INSERT INTO segments VALUES (?, ?, ?)", (no, entries[0][0], packed))
        self._connection.execute(
            "UPDATE runs SET first_event_id = ?, bytes = ? + length(outline) WHERE no = ?",
            (entries[0][0], len(packed), no),
        )

    def delete_run(self, job_id: str) -> None:
        self._connection.execute("DELETE FROM segments WHERE run = (SELECT no FROM runs WHERE job_id = ?)", (job_id,))
        self._connection.execute("DELETE FROM runs WHERE job_id = ?", (job_id,))

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

    def expired(self, ended_before: float, *, max_bytes: int, limit: int) -> list[StoredRun]:
        """The finished runs that are older, and the oldest of those that are too many bytes together; oldest first,
        so many at most."""
        [excess] = self._connection.execute(
            "SELECT coalesce(sum(bytes), 0) - ? FROM runs WHERE ended_at IS NOT NULL", (max_bytes,)
        ).fetchone()
        rows = self._connection.execute(
            "SELECT no, ended_at, bytes FROM runs WHERE ended_at IS NOT NULL ORDER BY ended_at, no LIMIT ?", (limit,)
        )
        numbers: list[int] = []
        for no, ended_at, size in rows:
            if ended_at >= ended_before and excess <= 0:
                break
            numbers.append(no)
            excess -= size
        return [
            _stored(row) for no in numbers for row in self._connection.execute(f"{_SELECT_RUN} WHERE no = ?", (no,))
        ]

    # Read by anybody.

    def run(self, job_id: str, *, owner: str | None = None) -> StoredRun | None:
        """A run; with an `owner`, if it is theirs."""
        row = self._connection.execute(
            f"{_SELECT_RUN} WHERE job_id = ? AND owner = coalesce(?, owner)", (job_id, owner)
        ).fetchone()
        return _stored(row) if row else None

    def number(self, job_id: str, *, owner: str) -> int | None:
        """The number of an owner's run."""
        row = self._connection.execute("SELECT no FROM runs WHERE job_id = ? AND owner = ?", (job_id, owner)).fetchone()
        return row[0] if row else None

    def events(self, no: int) -> list[Entry]:
        """Of a finished run."""
        rows = self._connection.execute("SELECT events FROM segments WHERE run = ? ORDER BY first", (no,))
        return [(number, event) for (packed,) in rows for _, number, event in unpack(packed)]

    def page(self, owner: str, *, state: RunState | None, limit: int, before: int | None) -> tuple[list[str], bool]:
        """The ids of an owner's runs, newest first, of numbers below `before`; and whether there are more."""
        before = 1 << 62 if before is None else before
        if state is None:
            found = self._connection.execute(
                "SELECT job_id FROM runs WHERE owner = ? AND no < ? ORDER BY no DESC LIMIT ?",
                (owner, before, limit + 1),
            )
        else:
            found = self._connection.execute(
                "SELECT job_id FROM runs WHERE owner = ? AND state = ? AND no < ? ORDER BY no DESC LIMIT ?",
                (owner, state, before, limit + 1),
            )
        rows = found.fetchall()
        return [job_id for (job_id,) in rows[:limit]], len(rows) > limit

    def has_admitted(self, job_id: str, digest: bytes) -> bool:
        """Whether this stream token of a run has connected."""
        found = self._connection.execute(
            "SELECT 1 FROM stream_tokens WHERE digest = ? AND run = (SELECT no FROM runs WHERE job_id = ?)",
            (digest, job_id),
        )
        return found.fetchone() is not None

    def claims(self) -> list[tuple[Claim, str]]:
        """All that are held, with their runs."""
        rows = self._connection.execute("SELECT claim_key, claim_body, job_id FROM runs WHERE claim_key IS NOT NULL")
        return [(Claim(key, body), job_id) for key, body, job_id in rows]

    # Done by a process that takes the directory over.

    def claim_unfinished(self, unix_seconds: float) -> list[InterruptedRun]:
        """The runs without an end, with what was written of them; those that nobody has failed to take up come first.

        From now on their events are numbered above all numbers that are known of them, and above the microseconds
        since 1970, which no life that is forgotten can have reached.
        """
        rows = self._connection.execute(
            "SELECT no, record, attempts, next_event_id, first_batch FROM runs WHERE state = 'running'"
            " ORDER BY attempts, no"
        )
        runs: dict[int, InterruptedRun] = {}
        first_batches: dict[int, int] = {}
        for no, record, attempts, next_event_id, first_batch in rows:
            runs[no] = InterruptedRun(no, replace(_decode_record(record), body=b""), attempts, next_event_id)
            first_batches[no] = first_batch
        if not runs:
            return []
        batches = self._connection.execute(
            "SELECT id, events FROM batches WHERE id >= ? ORDER BY id", (min(first_batches.values()),)
        )
        for batch, events in batches:
            for packed in split(events):
                # Earlier batches may hold another run that had a number before it was deleted.
                if batch >= first_batches.get(packed.run, batch + 1):
                    runs[packed.run].packed.append(packed)
        for run in runs.values():
            last = max(run.next_event_id, run.packed[-1].number if run.packed else 0)
            by_clock = int(unix_seconds * 1_000_000)
            run.next_event_id = max(last + _NUMBERS_SKIPPED, by_clock if by_clock < MAX_EVENT_ID // 2 else 0)
            self._connection.execute("UPDATE runs SET next_event_id = ? WHERE no = ?", (run.next_event_id, run.no))
        return list(runs.values())

    def count_attempt(self, no: int, times: int) -> None:
        """A process is about to take the run up, or still at it."""
        self._connection.execute("UPDATE runs SET attempts = attempts + ? WHERE no = ?", (times, no))

    def clear_attempts(self, no: int) -> None:
        """The run goes on."""
        self._connection.execute("UPDATE runs SET attempts = 0 WHERE no = ?", (no,))

    def record(self, no: int) -> RunRecord:
        """Of a run that is there."""
        [record] = self._connection.execute("SELECT record FROM runs WHERE no = ?", (no,)).fetchone()
        return _decode_record(record)


_SELECT_RUN = "SELECT no, record, state, first_event_id, last_event_id, ended_at, outline FROM runs"


def _stored(row: tuple[int, bytes, RunState, int, int, float | None, bytes | None]) -> StoredRun:
    no, record, state, first_event_id, last_event_id, ended_at, outline = row
    entries: list[tuple[int, Event]] = [(number, event) for _, number, event in unpack(outline)] if outline else []
    return StoredRun(no, _decode_record(record), state, first_event_id, last_event_id, ended_at, entries)
