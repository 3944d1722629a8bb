"""Writing behind: tokens wait for nothing, commits share a write, hidden events are shown once they are written."""

import sqlite3
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import anyio
import pytest
from anyio import to_thread

from swarmstream.errors import NotFound
from swarmstream.events import RunStarted
from swarmstream.journal.records import Entry, IdempotencyKey
from swarmstream.journal.sqlite.data_directory import FILE
from swarmstream.journal.sqlite.file.store import Store
from swarmstream.journal.sqlite.journal import SqliteJournal
from swarmstream.journal.sqlite.writing_thread import WriteTask
from tests.journal.directories import columns, opened, query_rows
from tests.journal.sample_runs import END, ENDED, begin, finish, read_all, text

pytestmark = pytest.mark.anyio


async def test_tokens_flow_while_the_file_is_locked_and_only_commits_wait(tmp_path: Path) -> None:
    """As by a checkpoint: whatever the writer's thread waits for, the loop does not."""
    async with opened(tmp_path) as journal:
        log = await begin(journal)
        await log.commit(RunStarted(0))
        cursor = await journal.open_cursor("run-1", after=1)
        committed = anyio.Event()

        async def commit() -> None:
            await log.commit(text(0))
            committed.set()

        with anyio.fail_after(4), closing(sqlite3.connect(tmp_path / FILE)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(commit)
                for number in range(1, 2000):
                    log.append(text(number))
                    while not (entries := await cursor.read()):
                        pass
                    assert entries[-1][1] in (text(number), text(0))
                assert not committed.is_set()
                other.execute("ROLLBACK")
                await committed.wait()
        assert journal.is_healthy


async def test_a_checkpoint_by_another_program_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        log = await begin(journal)
        for number in range(500):
            await log.commit(text(number))
            if number % 100 == 0:
                assert await to_thread.run_sync(query_rows, tmp_path, "PRAGMA wal_checkpoint(PASSIVE)")
        await log.commit(END)
        assert len(await read_all(await journal.open_cursor("run-1"))) == 501


@contextmanager
def held_up(folder: Path) -> Generator[Callable[[], None]]:
    """Another program keeps the file from being written, until the block ends or lets go."""
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield lambda: other.execute("ROLLBACK") and None


async def test_hidden_events_are_shown_once_they_are_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        log = await begin(journal)
        await log.commit(RunStarted(0))
        reader = await journal.open_cursor("run-1", after=1)
        with held_up(tmp_path) as let_go:
            log.append(text(1))
            log.append_hidden(ENDED)
            log.append(text(2))
            assert [event for _, event in await reader.read()] == [text(1)]
            await anyio.wait_all_tasks_blocked()
            assert not reader.read_nowait(), "nor what comes behind it"
            status = await journal.status("run-1")
            assert (status.last_event_id, status.summary.answers) == (2, [])
            let_go()
            with anyio.fail_after(30):
                assert [event for _, event in await reader.read()] == [ENDED, text(2)]
        status = await journal.status("run-1")
        assert (status.last_event_id, status.summary.answers) == (4, [ENDED])
    assert len((await _entries_of_the_unfinished(tmp_path))[0]) == 4


async def _entries_of_the_unfinished(folder: Path) -> list[Sequence[Entry]]:
    async with opened(folder) as journal:
        return [(await found.load())[1] for found in await journal.claim_interrupted()]


async def test_commits_in_one_round_of_the_event_loop_share_a_write(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        logs = [await begin(journal, f"run-{number}") for number in range(50)]
        async with anyio.create_task_group() as tasks:
            for log in logs:
                tasks.start_soon(log.commit, RunStarted(0))
        assert columns(tmp_path, "SELECT count(*) FROM batches") == [1]


async def test_a_discarded_run_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        log = await begin(journal, idempotency_key=IdempotencyKey("key", "body"))
        log.append(RunStarted(0))
        log.discard()
        with pytest.raises(NotFound):
            await journal.status("run-1")
        await finish(journal, "run-2", idempotency_key=IdempotencyKey("key", "other"))
        written = await begin(journal, "run-3", idempotency_key=IdempotencyKey("key-3", "body"))
        await written.commit(RunStarted(0))
        written.discard()  # it was told not to be written, and is
        await finish(journal, "run-4")
    assert columns(tmp_path, "SELECT job_id FROM runs") == ["run-2", "run-4"]


@pytest.mark.parametrize("durability", ["process", "host"])
async def test_writes_that_are_to_outlive_the_host_are_flushed_to_the_disk(
    durability: Literal["process", "host"], tmp_path: Path
) -> None:
    statements: list[str] = []

    class Traced(Store):
        def __init__(self, folder: Path, *, writes: bool) -> None:
            super().__init__(folder, writes=writes)
            self.connections.main.set_trace_callback(statements.append)

    with closing(Traced(tmp_path, writes=True)) as store:
        for outlives_host in (True, False):
            with store.transaction(outlives_host=outlives_host):
                store.probe()
    flushes = [statement for statement in statements if "synchronous" in statement]
    assert flushes == ["PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"]
    tasks: list[tuple[str, bool]] = []
    journal = SqliteJournal(tmp_path, retain_seconds=60, retain_bytes=1 << 30, durability=durability)
    await journal.open()

    async def recorded(what: str, doing: Awaitable[object]) -> None:
        before = len(tasks)
        await doing
        tasks[before:] = [(what, any(outlives for _, outlives in tasks[before:]))]

    put = journal._writer.put  # pyright: ignore[reportPrivateUsage]

    def record(task: WriteTask) -> None:
        tasks.append(("", task.outlives_host))
        put(task)

    journal._writer.put = record  # pyright: ignore[reportPrivateUsage]
    log = await begin(journal)
    await recorded("first events", log.commit(RunStarted(0)))
    await recorded("end of a turn", log.commit(ENDED))
    keyed = await begin(journal, "run-2", idempotency_key=IdempotencyKey("key", "body"))
    await recorded("an idempotency key", keyed.commit(RunStarted(0)))
    await recorded("end of a run", log.commit(END))
    await journal.close()
    assert tasks == [
        ("first events", False),
        ("end of a turn", False),
        ("an idempotency key", durability == "host"),
        ("end of a run", durability == "host"),
    ]
