"""The file of a data directory: its tables, its one owner, who else can open it."""

import errno
import fcntl
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from swarmstream.errors import NotFound, StorageUnavailable
from swarmstream.events import RunStarted
from swarmstream.journal.base import NO_CALLBACKS
from swarmstream.journal.records import IdempotencyKey
from swarmstream.journal.sqlite.data_directory import FILE, DirectoryInUse, take_lock
from swarmstream.journal.sqlite.file.finished import Ending
from swarmstream.journal.sqlite.file.store import Store
from swarmstream.journal.sqlite.journal import SqliteJournal
from tests.clients.process import COMMAND, server_process
from tests.conftest import KEY, client
from tests.journal.directories import columns, opened, opened_still, query_rows
from tests.journal.sample_runs import END, begin, finish, read_all, record, text

pytestmark = pytest.mark.anyio


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
    query_rows(tmp_path, "PRAGMA user_version = 99")
    before = query_rows(tmp_path, "SELECT * FROM meta")
    async with opened(tmp_path) as journal:
        assert not journal.is_healthy
        with pytest.raises(StorageUnavailable):
            await begin(journal, "run-2")
    assert "this data directory is of a newer release (schema 99)" in caplog.text
    assert query_rows(tmp_path, "SELECT * FROM meta") == before


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


async def test_writing_twice_is_the_same_as_writing_once(tmp_path: Path) -> None:
    """A commit that failed may have been written all the same; it is tried again."""
    store = Store(tmp_path, writes=True)
    entries = [(1, RunStarted(0)), (2, END)]
    submitted = record(idempotency_key=IdempotencyKey("key", "body"), body=b"{}")
    ending = Ending(1, submitted, "success", 1.0, entries, entries, next_batch=2)

    def write() -> None:
        with store.transaction():
            store.begin_run(1, submitted, epoch=1, first_batch=1)
            store.batches.add(1, [(1, 1, RunStarted(0))])
        with store.transaction():
            store.finished.end(ending)

    write()
    before = [query_rows(tmp_path, f"SELECT * FROM {table}") for table in ("runs", "batches", "segments")]
    write()
    with store.transaction():
        store.finished.end(ending)
    assert [query_rows(tmp_path, f"SELECT * FROM {table}") for table in ("runs", "batches", "segments")] == before
    assert columns(tmp_path, "SELECT claim_key FROM runs") == ["key"]
    store.close()


async def test_an_idempotency_key_that_is_too_old_to_count_passes_to_the_new_run(tmp_path: Path) -> None:
    with closing(Store(tmp_path, writes=True)) as store, store.transaction():
        for no in (1, 2):
            store.begin_run(
                no, record(f"run-{no}", idempotency_key=IdempotencyKey("key", "body")), epoch=1, first_batch=1
            )
    assert query_rows(tmp_path, "SELECT job_id, claim_key FROM runs") == [("run-1", None), ("run-2", "key")]


async def test_another_owners_run_and_an_unknown_one_take_the_same_statements(tmp_path: Path) -> None:
    """Nothing of another owner's run is unpacked: it is not even readable here. And the same is asked of the file."""
    async with opened(tmp_path) as journal:
        await finish(journal, "done", *("x" * 9), owner="me")
        live = await begin(journal, "live", owner="me")
        await live.commit(RunStarted(0))
        query_rows(tmp_path, "UPDATE runs SET record = x'00', outline = x'00' WHERE job_id = 'done'")
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


@pytest.fixture
def open_umask() -> Any:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
async def test_only_their_owner_can_open_the_directory_and_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with opened_still(folder) as journal:
        await finish(journal, "run-1", "x")
        await journal.status("run-1")
        assert folder.stat().st_mode & 0o777 == 0o700
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == dict.fromkeys(("lock", FILE, f"{FILE}-wal", f"{FILE}-shm"), 0o600)


@pytest.mark.noisy
@pytest.mark.usefixtures("open_umask")
async def test_a_warning_names_the_files_that_others_can_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened_still(tmp_path / "data") as journal:
        await finish(journal, "run-1", "x")
    assert not caplog.records
    (tmp_path / "data").chmod(0o750)
    (tmp_path / "data" / FILE).chmod(0o604)
    async with opened_still(tmp_path / "data"):
        pass
    directory, files = (record.getMessage() for record in caplog.records)
    assert f"chmod 700 {tmp_path}/data" in directory
    assert f"chmod 600 {tmp_path}/data/{FILE}" in files


async def test_a_lock_that_cannot_be_taken_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)  # no file system on a test's machine is without locks
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(OSError, match="No locks"):
            take_lock(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
