"""Small runs for tests of journals, written and read."""

from datetime import UTC, datetime
from typing import Any

import anyio

from swarmstream.events import EndStatus, RunDescribed, RunEnded, TextDelta, TurnEnded, Usage
from swarmstream.journal.base import NO_CALLBACKS, Cursor, Journal, Log, RunCallbacks
from swarmstream.journal.records import Entry, RunRecord

DESCRIBED = RunDescribed(0, "run-1", "agent", "n", None, None, 1, "standard", None, datetime.now(UTC), (), {"a": [1]})
ENDED = TurnEnded(5, "A", 1, None, "m", "12", "success", "stop", Usage(3, 4), 0.1)
END = RunEnded(t_ms=9, status="success", duration_seconds=0.009, failed_agents=())


def text(number: int) -> TextDelta:
    return TextDelta(t_ms=number, agent="A", turn=1, text=str(number))


def record(job_id: str = "run-1", **fields: Any) -> RunRecord:
    fields = {"owner": "o", "kind": "agent", "created_at": datetime.now(UTC), **fields}
    return RunRecord(job_id=job_id, **fields)


async def begin(journal: Journal, job_id: str = "run-1", callbacks: RunCallbacks = NO_CALLBACKS, **fields: Any) -> Log:
    return await journal.submit(record(job_id, **fields), callbacks)


async def finish(journal: Journal, job_id: str, *texts: str, status: EndStatus = "success", **fields: Any) -> None:
    """Write a whole run: these texts, and an end."""
    log = await begin(journal, job_id, **fields)
    for piece in texts:
        log.append(TextDelta(0, "A", 1, piece))
    await log.commit(RunEnded(t_ms=9, status=status, duration_seconds=0.009, failed_agents=()))


async def read_all(cursor: Cursor) -> list[Entry]:
    """Read up to the run's end."""
    entries: list[Entry] = []
    with anyio.fail_after(5):
        while not (entries and isinstance(entries[-1][1], RunEnded)):
            entries += await cursor.read()
    return entries
