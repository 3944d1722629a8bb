"""Deleted runs, credentials and images leave every file of a data directory."""

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from swarmstream.errors import IdempotencyMismatch, NotFound
from swarmstream.events import TextDelta
from swarmstream.journal.base import AlreadySubmitted
from swarmstream.journal.records import IdempotencyKey
from swarmstream.journal.sqlite.data_directory import FILE
from tests.fakes.clock import DrivenClock
from tests.journal.directories import CANARY, holds, opened_still, query_rows, swept
from tests.journal.sample_runs import END, begin, finish, read_all, text

pytestmark = pytest.mark.anyio


def payload(image: str = "", token: str = "") -> bytes:
    agent = {"agent_name": "A", "mcp_config": {"url": "https://tools.example", "authorization_token": token}}
    return orjson.dumps({"agents": [agent], "task": f"{CANARY} task", "img": image}, option=orjson.OPT_SORT_KEYS)


async def test_nothing_of_a_deleted_run_is_in_any_file(tmp_path: Path) -> None:
    """Nor of what other runs, which go on, share with it."""
    async with opened_still(tmp_path) as journal:
        live = await begin(journal, "live")
        await live.commit(text(1))
        log = await begin(journal, "run-1", body=payload("i" * 10_000))
        for number in range(3):
            live.append(text(number))
            await log.commit(TextDelta(0, "A", 1, f"{CANARY} answer"))
        await log.commit(END)
        assert len(await read_all(await journal.open_cursor("run-1"))) == 4
        assert holds(tmp_path, CANARY)
        await journal.delete("run-1")
        assert holds(tmp_path, CANARY) == {}
        with pytest.raises(NotFound):
            await journal.status("run-1")
    async with opened_still(tmp_path) as journal:
        [found] = await journal.claim_interrupted()
        assert [event for _, event in (await found.load())[1]] == [text(1), text(0), text(1), text(2)]


async def test_a_deletion_does_not_wait_for_a_backup_and_is_complete_after_it(tmp_path: Path) -> None:
    clock = DrivenClock()
    async with opened_still(tmp_path, clock=clock) as journal:
        await finish(journal, "run-1", CANARY)
        with closing(sqlite3.connect(tmp_path / FILE)) as backup:
            backup.execute("BEGIN")
            backup.execute("SELECT * FROM meta").fetchall()
            await journal.delete("run-1")
            assert holds(tmp_path, CANARY)
        await swept(journal, clock)
        assert holds(tmp_path, CANARY) == {}


async def test_credentials_and_images_are_in_no_file_once_the_run_has_ended(tmp_path: Path) -> None:
    image, token = "aW1hZ2U" * 5000, "token-5e0c"
    key = IdempotencyKey("key", "digest")
    clock = DrivenClock()
    async with opened_still(tmp_path, clock=clock) as journal:
        now = datetime.fromtimestamp(clock.unix(), UTC)
        log = await begin(journal, "run-1", body=payload(image, token), idempotency_key=key, created_at=now)
        await log.commit(text(1))
        assert holds(tmp_path, token), "a run that goes on needs it after a crash"
        await log.commit(END)
        await swept(journal, clock)
        assert holds(tmp_path, token) == holds(tmp_path, image[:100]) == {}
        assert (await journal.status("run-1")).record.body.count(b"blanked")
        [(size,)] = query_rows(tmp_path, "SELECT bytes FROM runs")
        assert size < 2000, "and they do not count any more"
    async with opened_still(tmp_path) as journal:
        with pytest.raises(AlreadySubmitted):
            await begin(journal, "run-2", idempotency_key=key)
        with pytest.raises(IdempotencyMismatch):
            await begin(journal, "run-2", idempotency_key=IdempotencyKey("key", "another digest"))


async def test_an_orderly_stop_leaves_one_file_even_after_reads(tmp_path: Path) -> None:
    async with opened_still(tmp_path) as journal:
        await finish(journal, "run-1", CANARY)
        await journal.status("run-1")
    assert sorted(os.listdir(tmp_path)) == ["lock", FILE]
