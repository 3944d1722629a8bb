"""A resume that wants no `output` reads the events behind its cursor, and none of those that its client has."""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from swarmstream.api.auth import owner_name
from swarmstream.events import (
    Event,
    RunDescribed,
    RunEnded,
    RunStarted,
    TextDelta,
    TurnEnded,
    TurnStarted,
    Usage,
    UsageTotalled,
)
from swarmstream.journal.base import NO_CALLBACKS, Journal, Log
from swarmstream.journal.memory import MemoryJournal
from swarmstream.journal.records import Entry, RunRecord
from swarmstream.journal.sqlite.data_directory import FILE
from swarmstream.journal.sqlite.journal import SqliteJournal
from tests.conftest import KEY, client, serving

pytestmark = pytest.mark.anyio

DELTAS = 9000
"""More than two segments of a file hold."""
JOB_ID = "agent-0"
PATH = f"/v1/runs/{JOB_ID}/stream"
LAST = DELTAS + 6


class CountingCursor:
    """A journal's cursor that counts the events that are read."""

    def __init__(self, cursor: Any, read: list[int]) -> None:
        self._cursor = cursor
        self._read = read

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    async def read(self) -> Sequence[Entry]:
        entries = await self._cursor.read()
        self._read += [number for number, _ in entries]
        return entries


def counting(journal: Journal) -> list[int]:
    """Have a journal's cursors count; the numbers of the events that are read appear in the list."""
    read: list[int] = []
    opened = journal.open_cursor

    async def open_cursor(job_id: str, *, after: int = 0) -> Any:
        return CountingCursor(await opened(job_id, after=after), read)

    journal.open_cursor = open_cursor
    return read


async def begin(journal: Journal) -> Log:
    """A run in which an agent has said much, and speaks."""
    now = datetime.now(UTC)
    record = RunRecord(JOB_ID, owner_name(KEY), "agent", now, include_output=False)
    log = await journal.submit(record, NO_CALLBACKS)
    events: list[Event] = [
        RunDescribed(0, JOB_ID, "agent", "A", None, None, 1, "standard", None, now, (), None),
        RunStarted(0),
        TurnStarted(0, "A", 1, 1, 1, None, "demo/A", "demo"),
        *(TextDelta(n, "A", 1, f"{n} ") for n in range(DELTAS)),
    ]
    for event in events:
        log.append(event)
    return log


async def end(log: Log) -> None:
    log.append(TurnEnded(1, "A", 1, None, "demo/A", "all of it", "success", "stop", Usage(1, 1), 0.1))
    log.append(UsageTotalled(1, Usage(1, 1), ()))
    await log.commit(RunEnded(1, status="success", duration_seconds=0.001, failed_agents=()))


def opened(kind: str, tmp_path: Path) -> Journal:
    if kind == "memory":
        return MemoryJournal(retain_seconds=60, retain_bytes=1 << 30)
    return SqliteJournal(tmp_path, retain_seconds=60, retain_bytes=1 << 30)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_of_a_finished_run_the_events_behind_the_cursor_are_read(kind: str, tmp_path: Path) -> None:
    journal = opened(kind, tmp_path)
    async with serving(journal=journal) as url, client(url) as http:
        await end(await begin(journal))
        whole = (await http.get(PATH)).content
        read = counting(journal)
        rest = (await http.get(PATH, params={"starting_after": LAST - 4})).content
    assert read == [LAST - 3, LAST - 2, LAST - 1, LAST]
    frames = whole.split(b"\n\n")[-5:]
    assert rest == b"retry: 3000\n" + b"\n\n".join(frames)
    assert b'"content":"all of it"' in frames[-2], "the end tells of turns that were not read again"


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_of_a_run_that_goes_on_the_events_behind_the_cursor_are_read(kind: str, tmp_path: Path) -> None:
    journal = opened(kind, tmp_path)
    async with serving(journal=journal) as url, client(url) as http:
        log = await begin(journal)
        await log.flush()
        read = counting(journal)
        async with http.stream("GET", PATH, headers={"Last-Event-ID": str(LAST - 4)}) as response:
            await end(log)
            body = await response.aread()
    assert read == [LAST - 3, LAST - 2, LAST - 1, LAST]
    assert body.startswith(b"retry: 3000\nid: %d\nevent: chunk\n" % (LAST - 3))
    assert b"event: end\n" in body


@pytest.mark.noisy
async def test_of_a_file_the_part_before_the_cursor_is_not_looked_at(tmp_path: Path) -> None:
    journal = opened("sqlite", tmp_path)
    async with serving(journal=journal) as url, client(url) as http:
        await end(await begin(journal))
        with sqlite3.connect(tmp_path / FILE) as file:
            file.execute("UPDATE segments SET events = x'00' WHERE first = 1")
        file.close()
        rest = await http.get(PATH, params={"starting_after": LAST - 1})
        with_output = await http.get(PATH, params={"starting_after": LAST - 1, "include_output": True})
    assert rest.status_code == 200
    assert rest.content.startswith(b"retry: 3000\nid: %d\nevent: end\n" % LAST)
    assert with_output.status_code == 503, "which repeats what turns have streamed, and so reads from the first on"
