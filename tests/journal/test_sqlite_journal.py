"""The journal on SQLite: its file, its retention, and a disk that fails (issue 5)."""

import resource
import shutil
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import anyio
import httpx
import msgspec
import pytest
from anyio import to_thread

from swarmstream.errors import NotFound, StorageUnavailable
from swarmstream.events import CustomEvent, RunDescribed, RunStarted, TextDelta
from swarmstream.journal.base import NO_CALLBACKS, AlreadySubmitted, DirectoryInUse, HandedOver
from swarmstream.journal.idempotency import IdempotencyIndex
from swarmstream.journal.records import Entry, IdempotencyKey
from swarmstream.journal.sqlite.data_directory import FILE
from swarmstream.journal.sqlite.file.finished import Ending
from swarmstream.journal.sqlite.file.store import Store
from swarmstream.journal.sqlite.journal import SqliteJournal
from swarmstream.journal.sqlite.write_task import WriteTask
from tests.clients.process import COMMAND, ServerProcess, openai_environ, server_process
from tests.clients.sse import ServerEvent, check_stream, events_of
from tests.conftest import KEY, client
from tests.fakes.run_callbacks import RecordedCallbacks
from tests.fakes.upstream import Exchange, provider
from tests.journal.sample_runs import END, ENDED, begin, finish, read_all, record, text

pytestmark = pytest.mark.anyio

MANY_RUNS = 100_000


@asynccontextmanager
async def opened(
    folder: Path, *, retain_seconds: float = 60, retain_bytes: int = 1 << 30
) -> AsyncGenerator[SqliteJournal]:
    journal = SqliteJournal(folder, retain_seconds=retain_seconds, retain_bytes=retain_bytes)
    await journal.open()
    yield journal
    await journal.close()


def ask(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / FILE)) as connection, connection:
        return connection.execute(query).fetchall()


def columns(folder: Path, query: str) -> list[Any]:
    return [row[0] for row in ask(folder, query)]


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110  # the writer's thread tells nobody
            await anyio.sleep(0.005)


# The file.


async def test_an_empty_file_gets_its_tables(tmp_path: Path) -> None:
    (tmp_path / FILE).touch(0o600)
    async with opened(tmp_path) as journal:
        await finish(journal, "run-1", "x")
    [version] = columns(tmp_path, "PRAGMA user_version")
    assert version > 0
    assert columns(tmp_path, "SELECT job_id FROM runs") == ["run-1"]
    assert columns(tmp_path, "PRAGMA journal_mode") == ["wal"]


@pytest.mark.noisy
async def test_the_file_of_a_newer_release_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(tmp_path) as journal:
        await finish(journal, "run-1", "x")
    ask(tmp_path, "PRAGMA user_version = 99")
    before = ask(tmp_path, "SELECT * FROM meta")
    async with opened(tmp_path) as journal:
        assert not journal.is_healthy
        with pytest.raises(StorageUnavailable):
            await begin(journal, "run-2")
    assert "this data directory is of a newer release (schema 99)" in caplog.text
    assert ask(tmp_path, "SELECT * FROM meta") == before


async def test_a_directory_has_one_owner_at_a_time(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(DirectoryInUse, match=str(tmp_path)):
            SqliteJournal(tmp_path, retain_seconds=1, retain_bytes=1)
    async with opened(tmp_path) as journal:
        assert journal.is_healthy


async def test_a_second_server_on_a_directory_says_so_and_leaves(tmp_path: Path) -> None:
    environ = {"SWARMSTREAM_API_KEYS": KEY, "SWARMSTREAM_DATA_DIR": str(tmp_path / "data")}
    async with server_process(environ=environ) as server:
        with anyio.fail_after(10):
            second = await anyio.run_process([COMMAND, "serve", "--port=0"], env=environ, check=False)
        assert second.returncode == 2
        assert second.stderr.decode().splitlines() == [
            f"another process serves the data directory {tmp_path / 'data'}. Stop it, or set SWARMSTREAM_DATA_DIR."
        ]
        async with client(server.url) as http:
            assert (await http.get("/health/ready")).status_code == 200


async def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    async with opened(tmp_path / "data"):
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


async def test_batches_go_with_the_runs_that_they_are_of(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await (await begin(journal, "early")).commit(RunStarted(0))
        logs = [await begin(journal, f"run-{number}") for number in range(3)]
        for log in logs:
            await log.commit(text(1))
        for log in logs:
            await log.commit(END)
        assert len(columns(tmp_path, "SELECT id FROM batches")) == 4, "one that is live needs its own, and those behind"
        await journal.cancel("early")
    async with opened(tmp_path) as journal:
        [found] = await journal.claim_interrupted()
        await found.load()
        log = found.resume(NO_CALLBACKS)
        log.append(text(1))
        await log.commit(END)
        assert len(await read_all(await journal.open_cursor("early"))) == 3
    assert columns(tmp_path, "SELECT id FROM batches") == []


async def test_what_is_written_twice_is_there_once(tmp_path: Path) -> None:
    """A commit that failed may have been written all the same; it is tried again."""
    store = Store(tmp_path, writes=True)
    entries = [(1, RunStarted(0)), (2, END)]
    its = record(idempotency_key=IdempotencyKey("key", "body"), body=b"{}")
    ending = Ending(1, its, "success", 1.0, entries, entries, next_batch=2)

    def write() -> None:
        with store.transaction():
            store.begin_run(1, its, epoch=1, first_batch=1)
            store.batches.add(1, [(1, 1, RunStarted(0))])
        with store.transaction():
            store.finished.end(ending)

    write()
    before = [ask(tmp_path, f"SELECT * FROM {table}") for table in ("runs", "batches", "segments")]
    write()
    with store.transaction():
        store.finished.end(ending)
    assert [ask(tmp_path, f"SELECT * FROM {table}") for table in ("runs", "batches", "segments")] == before
    assert columns(tmp_path, "SELECT claim_key FROM runs") == ["key"]
    store.close()


async def test_a_claim_that_is_too_old_to_count_gives_way(tmp_path: Path) -> None:
    with closing(Store(tmp_path, writes=True)) as store, store.transaction():
        for no in (1, 2):
            store.begin_run(
                no, record(f"run-{no}", idempotency_key=IdempotencyKey("key", "body")), epoch=1, first_batch=1
            )
    assert ask(tmp_path, "SELECT job_id, claim_key FROM runs") == [("run-1", None), ("run-2", "key")]


# What waits, and what does not.


async def test_tokens_flow_while_the_file_is_held_up_and_only_commits_wait(tmp_path: Path) -> None:
    """As by a checkpoint: whatever the writer's thread waits for, the loop does not."""
    async with opened(tmp_path) as journal:
        log = await begin(journal)
        await log.commit(RunStarted(0))
        tail = await journal.open_cursor("run-1", after=1)
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
                    while not (entries := await tail.read()):
                        pass
                    assert entries[-1][1] in (text(number), text(0))
                assert not committed.is_set()
                other.execute("ROLLBACK")
                await committed.wait()
        assert journal.is_healthy


async def test_a_checkpoint_by_somebody_else_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        log = await begin(journal)
        for number in range(500):
            await log.commit(text(number))
            if number % 100 == 0:
                assert await to_thread.run_sync(ask, tmp_path, "PRAGMA wal_checkpoint(PASSIVE)")
        await log.commit(END)
        assert len(await read_all(await journal.open_cursor("run-1"))) == 501


# Retention.


async def left(journal: SqliteJournal) -> set[str]:
    """The owner's runs, once the sweep is over: it was asked for when the journal was opened, before this one's."""
    await finish(journal, "other", owner="somebody")
    with suppress(NotFound):  # it may be too much itself
        await journal.delete("other")
    return set((await journal.list("o", limit=100)).job_ids)


async def test_old_runs_go_and_live_ones_never(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await (await begin(journal, "live")).commit(RunStarted(0))
        for name in ("old", "older", "young"):
            await finish(journal, name, "x")
    ask(tmp_path, "UPDATE runs SET ended_at = ended_at - 100, created_at = 0 WHERE job_id LIKE 'old%'")
    ask(tmp_path, "UPDATE runs SET created_at = 0 WHERE job_id = 'live'")
    async with opened(tmp_path) as journal:
        assert await left(journal) == {"live", "young"}
        assert len(ask(tmp_path, "SELECT * FROM segments")) == 1
        for call in (journal.status, journal.open_cursor):
            with pytest.raises(NotFound):
                await call("old")


async def test_the_oldest_finished_runs_go_where_all_are_too_many_bytes(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        live = await begin(journal, "live")
        await live.commit(TextDelta(0, "A", 1, "x" * 100_000))
        for name in ("first", "second", "third"):
            await finish(journal, name, "x" * 10_000)
    async with opened(tmp_path, retain_bytes=25_000) as journal:
        assert await left(journal) == {"live", "second", "third"}
    async with opened(tmp_path, retain_bytes=0) as journal:
        assert await left(journal) == {"live"}


async def test_the_claim_of_a_run_that_was_swept_is_free_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await finish(journal, "gone", idempotency_key=IdempotencyKey("key", "body"))
        await finish(journal, "kept", "x")
    ask(tmp_path, "UPDATE runs SET ended_at = 0 WHERE job_id = 'gone'")
    async with opened(tmp_path) as journal:
        assert await left(journal) == {"kept"}
        await finish(journal, "again", idempotency_key=IdempotencyKey("key", "body"))
        assert await left(journal) == {"kept", "again"}


async def test_a_sweep_goes_on_until_enough_has_gone(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await finish(journal, "run-1", "x")
    multiply(tmp_path, 3500)
    async with opened(tmp_path, retain_bytes=0) as journal:
        await until(lambda: not columns(tmp_path, "SELECT no FROM runs LIMIT 1"))
        assert not columns(tmp_path, "SELECT run FROM segments LIMIT 1")


def multiply(folder: Path, count: int) -> None:
    """Make so many finished runs of one, without the checksums, which are each run's own."""

    def renamed(stored: bytes, no: int) -> bytes:
        return msgspec.msgpack.encode({**msgspec.msgpack.decode(stored[5:]), "job_id": f"run-{no}"})

    with closing(sqlite3.connect(folder / FILE)) as connection, connection:
        connection.create_function("renamed", 2, renamed)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(
            f"WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) INSERT INTO runs"
            " (no, job_id, owner, state, epoch, created_at, ended_at, first_batch, first_event_id, last_event_id,"
            " bytes, record, outline) SELECT i, 'run-' || i, owner, state, epoch, created_at, ended_at, first_batch,"
            " first_event_id, last_event_id, bytes, renamed(record, i), substr(outline, 6) FROM n, runs WHERE no = 1"
        )
        connection.execute("INSERT INTO segments SELECT no, 1, substr(events, 6) FROM runs, segments WHERE no > 1")


async def test_a_hundred_thousand_finished_runs_are_no_burden(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    async with opened(tmp_path) as journal:
        log = await begin(journal, "run-1")
        log.append(RunDescribed(0, "run-1", "agent", "n", "d" * 50, None, 1, "standard", None, now, (), {}))
        for number in range(20):
            log.append(text(number))
        await log.commit(END)
    multiply(tmp_path, MANY_RUNS)
    began = time.perf_counter()
    async with opened(tmp_path) as journal:
        started = time.perf_counter() - began
        began = time.perf_counter()
        page = await journal.list("o", limit=20)
        listed = time.perf_counter() - began
        began = time.perf_counter()
        assert len(await read_all(await journal.open_cursor("run-50000"))) == 22
        read = time.perf_counter() - began
        began = time.perf_counter()
        await finish(journal, "new", "x")
        swept = time.perf_counter() - began
        assert page.has_more
        assert list((await journal.list("o", limit=1)).job_ids) == ["new"]
    with capsys.disabled():
        print(
            f"\n{MANY_RUNS:,} runs: start {started * 1e3:.0f} ms, list {listed * 1e3:.1f} ms, open {read * 1e3:.1f} ms,"
            f" the first run behind the sweep {swept * 1e3:.0f} ms"
        )
    assert started < 2
    assert max(listed, read) < 0.2
    shutil.rmtree(tmp_path)


# Whose runs.


async def test_what_is_remembered_of_tokens_goes_with_the_run(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for job_id in ("old", "deleted", "kept"):
            await finish(journal, job_id)
            await journal.admit_token(job_id, job_id.encode())
        await journal.delete("deleted")
        assert columns(tmp_path, "SELECT digest FROM stream_tokens") == [b"old", b"kept"]
    ask(tmp_path, "UPDATE runs SET ended_at = 0 WHERE job_id = 'old'")
    async with opened(tmp_path) as journal:
        await left(journal)
        assert columns(tmp_path, "SELECT digest FROM stream_tokens") == [b"kept"], "also where a sweep takes it"


async def test_what_a_stranger_asks_for_costs_the_same_whether_or_not_it_is_there(tmp_path: Path) -> None:
    """Nothing of another owner's run is unpacked: it is not even readable here. And the same is asked of the file."""
    async with opened(tmp_path) as journal:
        await finish(journal, "done", *("x" * 9), owner="me")
        live = await begin(journal, "live", owner="me")
        await live.commit(RunStarted(0))
        ask(tmp_path, "UPDATE runs SET record = x'00', outline = x'00' WHERE job_id = 'done'")
        asked = [await statements_of(journal, job_id) for job_id in ("none", "done", "live")]
        await live.commit(END)
    assert asked[0] == asked[1] == asked[2]
    assert len(asked[0]) == 2


async def statements_of(journal: SqliteJournal, job_id: str) -> list[str]:
    """What a file is asked when a stranger asks for a run, and for those behind it."""
    statements: list[str] = []
    await journal.list("you")
    connection = journal._reader._store.connections.main  # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess]
    connection.set_trace_callback(statements.append)
    with pytest.raises(NotFound):
        await journal.status(job_id, owner="you")
    with pytest.raises(NotFound):
        await journal.list("you", after=job_id)
    connection.set_trace_callback(None)
    return [statement.replace(job_id, "?") for statement in statements]


# A disk that fails.


@pytest.mark.noisy
async def test_a_file_where_the_directory_should_be_is_told_and_waited_out(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.write_text("")
    async with opened(folder) as journal:
        assert not journal.is_healthy
        with pytest.raises(StorageUnavailable):
            await begin(journal)
        with pytest.raises(StorageUnavailable):
            await journal.list("o")
        folder.unlink()
        await until(lambda: journal.is_healthy)
        await finish(journal, "run-1", "x")
        with pytest.raises(DirectoryInUse):
            SqliteJournal(folder, retain_seconds=1, retain_bytes=1)
    assert columns(folder, "SELECT job_id FROM runs") == ["run-1"]


@pytest.mark.noisy
async def test_what_cannot_be_written_fails_its_run_and_the_writer_lives(tmp_path: Path) -> None:
    callbacks = RecordedCallbacks()
    async with opened(tmp_path) as journal:
        log = await journal.submit(record(), callbacks)
        log.append(CustomEvent(0, "A", 1, "n", 1 << 70))
        with anyio.fail_after(30):
            with pytest.raises(StorageUnavailable):
                await log.commit(text(1))
            await callbacks.failed.wait()
            with pytest.raises(StorageUnavailable):
                await log.commit(END)
            assert (await journal.status("run-1")).state == "running", "no end is told that is not kept"
            await finish(journal, "run-2", "x")
            assert (await journal.status("run-2")).state == "success", "the others go on"


@pytest.mark.noisy
async def test_a_journal_is_well_again_also_if_nothing_waits_to_be_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await finish(journal, "run-1", "x")
        ask(tmp_path, "ALTER TABLE segments RENAME TO elsewhere")
        with pytest.raises(StorageUnavailable):
            await journal.delete("run-1")
        assert not journal.is_healthy
        ask(tmp_path, "ALTER TABLE elsewhere RENAME TO segments")
        await until(lambda: journal.is_healthy)
        await journal.delete("run-1")


@pytest.mark.noisy
async def test_a_run_whose_end_cannot_be_written_is_told_to_have_ended_once_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        log = await begin(journal)
        await log.commit(text(1))
        reader = await journal.open_cursor("run-1")
        ask(tmp_path, "ALTER TABLE segments RENAME TO elsewhere")
        with pytest.raises(StorageUnavailable):
            await log.commit(END)
        status = await journal.status("run-1")
        assert (status.state, status.is_waiting) == ("running", True)
        assert [event for _, event in await reader.read()] == [text(1)]
        with pytest.raises(HandedOver):
            await reader.read()
        seen: list[Entry] = []
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:

                async def read() -> None:
                    seen.extend(await read_all(await journal.open_cursor("run-1")))

                tasks.start_soon(read)
                await anyio.wait_all_tasks_blocked()
                assert not seen, "who comes now waits for the end"
                ask(tmp_path, "ALTER TABLE elsewhere RENAME TO segments")
        assert [event for _, event in seen] == [text(1), END]
        status = await journal.status("run-1")
        assert (status.state, status.is_waiting) == ("success", False)
        assert columns(tmp_path, "SELECT state FROM runs") == ["success"]
        assert journal.is_healthy
    async with opened(tmp_path) as journal:
        assert not await journal.claim_interrupted()


@contextmanager
def held_up(folder: Path) -> Generator[Callable[[], None]]:
    """Another program keeps the file from being written, until the block ends or lets go."""
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield lambda: other.execute("ROLLBACK") and None


async def test_what_a_reader_acts_upon_is_shown_once_it_is_written(tmp_path: Path) -> None:
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


async def test_those_who_wait_in_one_round_of_the_loop_share_a_write(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        logs = [await begin(journal, f"run-{number}") for number in range(50)]
        async with anyio.create_task_group() as tasks:
            for log in logs:
                tasks.start_soon(log.commit, RunStarted(0))
        assert columns(tmp_path, "SELECT count(*) FROM batches") == [1]


async def test_a_run_that_was_withdrawn_leaves_nothing(tmp_path: Path) -> None:
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
async def test_what_is_to_outlive_the_host_is_flushed_to_the_disk(
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
    flushes = [words for words in statements if "synchronous" in words]
    assert flushes == ["PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"]
    tasks: list[tuple[str, bool]] = []
    journal = SqliteJournal(tmp_path, retain_seconds=60, retain_bytes=1 << 30, durability=durability)
    await journal.open()

    async def noted(what: str, doing: Awaitable[object]) -> None:
        before = len(tasks)
        await doing
        tasks[before:] = [(what, any(outlives for _, outlives in tasks[before:]))]

    put = journal._writer.put  # pyright: ignore[reportPrivateUsage]

    def note(task: WriteTask) -> None:
        tasks.append(("", task.outlives_host))
        put(task)

    journal._writer.put = note  # pyright: ignore[reportPrivateUsage]
    log = await begin(journal)
    await noted("first events", log.commit(RunStarted(0)))
    await noted("end of a turn", log.commit(ENDED))
    keyed = await begin(journal, "run-2", idempotency_key=IdempotencyKey("key", "body"))
    await noted("an idempotency key", keyed.commit(RunStarted(0)))
    await noted("end of a run", log.commit(END))
    await journal.close()
    assert tasks == [
        ("first events", False),
        ("end of a turn", False),
        ("an idempotency key", durability == "host"),
        ("end of a run", durability == "host"),
    ]


def allow_bytes(server: ServerProcess, count: int) -> None:
    """How large a file the process may make: what a full disk says to it, in other words."""
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (count, resource.RLIM_INFINITY))


async def until_ready(http: httpx.AsyncClient, status: int) -> None:
    with anyio.fail_after(10):
        while (await http.get("/health/ready")).status_code != status:  # noqa: ASYNC110
            await anyio.sleep(0.02)


@pytest.mark.noisy
async def test_a_full_disk_fails_runs_and_not_the_process(tmp_path: Path) -> None:
    data = tmp_path / "data"
    full = anyio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("a ", "b ")
        await full.wait()
        await exchange.say(*(f"{number} " for number in range(2000)))
        await exchange.finish()

    payload = {
        "task": "go", "rearrange_flow": "A, B -> C", "stream": True,
        "agents": [{"agent_name": name, "system_prompt": name, "num_retries": 0} for name in "ABC"],
    }  # fmt: skip
    with anyio.fail_after(30):
        async with provider(script) as upstream:
            environ = openai_environ(upstream, SWARMSTREAM_DATA_DIR=str(data))
            async with server_process(environ=environ) as server, client(server.url) as http:
                events: list[ServerEvent] = []
                path, cut = "", False
                try:
                    async with http.stream("POST", "/v1/swarm/completions", json=payload) as response:
                        path = response.headers["location"]
                        async for event in events_of(response):
                            events.append(event)
                            if [its.event for its in events].count("chunk") == 4 and not full.is_set():
                                allow_bytes(server, 4096)
                                full.set()
                except httpx.TransportError:
                    cut = True
                await until_ready(http, 503)
                refused = await http.post("/v1/swarm/completions", json=payload)
                alive = await http.get("/health/live")
                run = await http.get(path.removesuffix("/stream"))
                async with http.stream("GET", path) as response:
                    allow_bytes(server, resource.RLIM_INFINITY)
                    later = [event async for event in events_of(response)]
                await until_ready(http, 200)
                answer = await http.post("/v1/swarm/completions", json={**payload, "stream": False})
                await until(lambda: "running" not in columns(data, "SELECT state FROM runs"))
            assert "Traceback" not in server.log
    assert not [event for event in events if event.event in ("error", "usage", "end")], (
        "no end is told that is not kept"
    )
    assert cut
    assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
    assert alive.status_code == 200
    assert (run.status_code, run.json()["code"], run.headers["retry-after"]) == (503, "unavailable", "1")
    check_stream(later)
    assert [event.data["code"] for event in later if event.event == "error"] == ["storage_unavailable"]
    assert later[-1].data["status"] == "failed"
    kept = {event.id: event for event in later}
    assert all(kept[event.id] == event for event in events)
    assert answer.status_code == 200
    assert columns(data, "PRAGMA integrity_check") == ["ok"]


@pytest.mark.noisy
async def test_a_server_that_starts_on_a_directory_it_cannot_write_waits_for_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("")
    environ = {"SWARMSTREAM_API_KEYS": KEY, "SWARMSTREAM_DATA_DIR": str(data), "SWARMSTREAM_DEFAULT_MODEL": "demo/demo"}
    payload = {"task": "go", "agents": [{"agent_name": "A", "model_name": "demo/demo"}]}
    async with server_process(environ=environ) as server, client(server.url) as http:
        assert (await http.get("/health/ready")).status_code == 503
        refused = await http.post("/v1/swarm/completions", json=payload)
        assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
        assert (await http.get("/v1/runs")).status_code == 503
        data.unlink()
        await until_ready(http, 200)
        assert (await http.get("/v1/runs")).json()["data"] == []
    assert "Traceback" not in server.log


def test_a_claim_that_has_passed_to_a_later_run_stays_when_the_first_one_goes() -> None:
    index = IdempotencyIndex()
    index.add(IdempotencyKey("key", "body"), "later")
    index.drop(IdempotencyKey("key", "body"), "first")
    with pytest.raises(AlreadySubmitted):
        index.add(IdempotencyKey("key", "body"), "third")
    index.drop(IdempotencyKey("key", "body"), "later")
    index.add(IdempotencyKey("key", "body"), "third")
