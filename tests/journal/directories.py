"""Data directories for tests: opened, asked behind the journal's back, or made as the first release made them."""

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec

from swarmstream.errors import NotFound
from swarmstream.events import Event
from swarmstream.journal.codec import pack
from swarmstream.journal.records import RunRecord, placeholder_description
from swarmstream.journal.sqlite.data_directory import FILE
from swarmstream.journal.sqlite.journal import SqliteJournal
from tests.fakes.clock import DrivenClock
from tests.journal.sample_runs import END, finish, record, text

CANARY = "canary-8d1f07"
DAY = 86_400.0

OLD_FIELDS = (
    *("job_id", "owner", "kind", "created_at", "include_output", "coalesce_ms"),
    *("request_id", "traceparent", "on_disconnect", "body"),
)
"""The fields of a record as files have them, without the last one, `claim`."""

OLD_SCHEMA = """
    PRAGMA journal_mode = WAL;
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('epoch', 3);
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
    PRAGMA user_version = 1;
"""
"""The schema of the first release."""


@asynccontextmanager
async def opened(
    folder: Path, *, retain_seconds: float = 60, retain_bytes: int = 1 << 30
) -> AsyncGenerator[SqliteJournal]:
    journal = SqliteJournal(folder, retain_seconds=retain_seconds, retain_bytes=retain_bytes)
    await journal.open()
    yield journal
    await journal.close()


@asynccontextmanager
async def opened_still(
    folder: Path,
    *,
    clock: DrivenClock | None = None,
    retain_seconds: float = 7 * DAY,
    retain_bytes: int = 1 << 30,
    expires_all: bool = False,
) -> AsyncGenerator[SqliteJournal]:
    journal = SqliteJournal(
        folder,
        retain_seconds=retain_seconds,
        retain_bytes=retain_bytes,
        expires_all=expires_all,
        clock=clock or DrivenClock(),
    )
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


def query_rows(folder: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / FILE)) as connection, connection:
        return connection.execute(query, values).fetchall()


def columns(folder: Path, query: str) -> list[Any]:
    return [row[0] for row in query_rows(folder, query)]


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110  # the writer's thread tells nobody
            await anyio.sleep(0.005)


async def ids(journal: SqliteJournal, owner: str = "o") -> list[str]:
    return sorted((await journal.list(owner, limit=100)).job_ids)


async def swept(journal: SqliteJournal, clock: DrivenClock) -> None:
    """Return once a minute is over, and what is due in it is done."""
    await clock.advance(60)
    await finish(journal, "behind", owner="somebody")
    with suppress(NotFound):  # it may be too much itself
        await journal.delete("behind")


def holds(folder: Path, sought: str) -> dict[str, int]:
    """Return how often the directory's files hold a text, for those that do."""
    return {path.name: count for path in folder.iterdir() if (count := path.read_bytes().count(sought.encode()))}


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def old_store(folder: Path, *, runs: int, body: bytes = b'{"task":"t"}') -> list[Event]:
    """Write finished runs `old-1` and on, and a run in progress, `live`, as the first release did; returns the events
    of a finished one."""
    events: list[Event] = [placeholder_description(record("old")), text(1), text(2), END]
    entries = list(enumerate(events, start=1))
    (folder / FILE).touch(0o600)
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.executescript(OLD_SCHEMA)
        for no in range(1, runs + 1):
            old = record(f"old-{no}", owner=f"o{no % 2}", body=body)
            packed = pack((no, number, event) for number, event in entries)
            outline = pack((no, number, event) for number, event in (entries[0], entries[-1]))
            connection.execute(
                "INSERT INTO runs VALUES (?, ?, ?, 'success', 3, 1, ?, 1, 1, 4, ?, NULL, NULL, ?, ?)",
                (no, old.job_id, old.owner, DrivenClock().unix(), len(packed) + len(body), _old_record(old), outline),
            )
            connection.execute("INSERT INTO segments VALUES (?, 1, ?)", (no, packed))
        live = record("live", owner="o1", body=b'{"task":"live"}')
        connection.execute(
            "INSERT INTO runs VALUES (?, 'live', 'o1', 'running', 3, 2, NULL, 7, 1, 0, 5, 'key', 'digest', ?, NULL)",
            (runs + 1, _old_record(live)),
        )
        connection.execute("INSERT INTO batches VALUES (7, ?)", (pack([(runs + 1, 1, text(1)), (1, 4, END)]),))
        connection.commit()
    return events


def _old_record(record: RunRecord) -> bytes:
    fields = {name: getattr(record, name) for name in OLD_FIELDS}
    return msgspec.msgpack.encode({**fields, "claim": record.idempotency_key})
