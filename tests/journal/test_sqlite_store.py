"""The file of a data directory: who can read it, what leaves it, how large it grows, and what damage to it does."""

import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import msgspec
import orjson
import pytest

from swarmstream.errors import IdempotencyMismatch, NotFound, StorageUnavailable
from swarmstream.events import Event, RunDescribed, RunEnded, RunStarted, TextDelta
from swarmstream.journal.base import NO_CALLBACKS, AlreadySubmitted, Log
from swarmstream.journal.codec import pack
from swarmstream.journal.records import IdempotencyKey
from swarmstream.journal.sqlite.data_directory import FILE, take_lock
from swarmstream.journal.sqlite.file.store import Store
from swarmstream.journal.sqlite.file.stored_run import placeholder_description
from swarmstream.journal.sqlite.journal import SqliteJournal
from tests.conftest import client, serving
from tests.fakes.clock import DrivenClock
from tests.fakes.run_callbacks import RecordedCallbacks
from tests.journal.sample_runs import END, begin, finish, read_all, record, text

pytestmark = pytest.mark.anyio

CANARY = "canary-8d1f07"
DAY = 86_400.0

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
"""As the first release made it."""


@asynccontextmanager
async def opened(
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


def ask(folder: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / FILE)) as connection, connection:
        return connection.execute(query, values).fetchall()


def holds(folder: Path, words: str) -> dict[str, int]:
    """How often the directory's files hold these words."""
    return {path.name: count for path in folder.iterdir() if (count := path.read_bytes().count(words.encode()))}


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


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


# Who can read it.


@pytest.fixture
def open_umask() -> Any:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
async def test_only_their_owner_can_open_the_directory_and_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with opened(folder) as journal:
        await finish(journal, "run-1", "x")
        await journal.status("run-1")
        assert folder.stat().st_mode & 0o777 == 0o700
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == dict.fromkeys(("lock", FILE, f"{FILE}-wal", f"{FILE}-shm"), 0o600)


@pytest.mark.noisy
@pytest.mark.usefixtures("open_umask")
async def test_what_others_can_open_is_named_in_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(tmp_path / "data") as journal:
        await finish(journal, "run-1", "x")
    assert not caplog.records
    (tmp_path / "data").chmod(0o750)
    (tmp_path / "data" / FILE).chmod(0o604)
    async with opened(tmp_path / "data"):
        pass
    directory, files = (record.getMessage() for record in caplog.records)
    assert f"chmod 700 {tmp_path}/data" in directory
    assert f"chmod 600 {tmp_path}/data/{FILE}" in files


async def test_a_lock_that_cannot_be_had_leaves_no_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)  # no file system on a test's machine is without locks
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(OSError, match="No locks"):
            take_lock(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


# What leaves it.


def payload(image: str = "", token: str = "") -> bytes:
    agent = {"agent_name": "A", "mcp_config": {"url": "https://tools.example", "authorization_token": token}}
    return orjson.dumps({"agents": [agent], "task": f"{CANARY} task", "img": image}, option=orjson.OPT_SORT_KEYS)


async def test_nothing_of_a_deleted_run_is_in_any_file(tmp_path: Path) -> None:
    """Nor of what other runs, which go on, share with it."""
    async with opened(tmp_path) as journal:
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
    async with opened(tmp_path) as journal:
        [found] = await journal.claim_interrupted()
        assert [event for _, event in (await found.load())[1]] == [text(1), text(0), text(1), text(2)]


async def test_a_deletion_waits_for_no_backup_and_erases_behind_it(tmp_path: Path) -> None:
    clock = DrivenClock()
    async with opened(tmp_path, clock=clock) as journal:
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
    async with opened(tmp_path, clock=clock) as journal:
        now = datetime.fromtimestamp(clock.unix(), UTC)
        log = await begin(journal, "run-1", body=payload(image, token), idempotency_key=key, created_at=now)
        await log.commit(text(1))
        assert holds(tmp_path, token), "a run that goes on needs it after a crash"
        await log.commit(END)
        await swept(journal, clock)
        assert holds(tmp_path, token) == holds(tmp_path, image[:100]) == {}
        assert (await journal.status("run-1")).record.body.count(b"blanked")
        [(size,)] = ask(tmp_path, "SELECT bytes FROM runs")
        assert size < 2000, "and they do not count any more"
    async with opened(tmp_path) as journal:
        with pytest.raises(AlreadySubmitted):
            await begin(journal, "run-2", idempotency_key=key)
        with pytest.raises(IdempotencyMismatch):
            await begin(journal, "run-2", idempotency_key=IdempotencyKey("key", "another digest"))


async def test_an_orderly_stop_leaves_one_file_though_somebody_has_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await finish(journal, "run-1", CANARY)
        await journal.status("run-1")
    assert sorted(os.listdir(tmp_path)) == ["lock", FILE]


# How large it grows.


async def test_runs_go_as_soon_as_their_sum_passes_the_limit(tmp_path: Path) -> None:
    """No timer is needed for it: the clock stands still."""
    clock = DrivenClock()
    words = "x" * 100_000
    async with opened(tmp_path, clock=clock, retain_bytes=1_000_000) as journal:
        await clock.advance(0)
        for number in range(60):
            await finish(journal, f"run-{number}", words)
        await until(lambda: ask(tmp_path, "SELECT sum(bytes) FROM owners")[0][0] <= 1_000_000)
        assert size_of(tmp_path) < 12_000_000, "of 24 MB that were written; 4 MB of it are a WAL"
        assert "run-59" in await ids(journal)


async def test_space_that_is_free_goes_back_to_the_disk(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for number in range(40):
            await finish(journal, f"run-{number:02}", "x" * 500_000)
    before = (tmp_path / FILE).stat().st_size
    clock = DrivenClock()
    async with opened(tmp_path, clock=clock, retain_bytes=2_000_000) as journal:
        await clock.advance(0)
        await until(lambda: ask(tmp_path, "SELECT count(*) FROM runs")[0][0] < 5)
        await until(lambda: ask(tmp_path, "PRAGMA freelist_count")[0][0] <= 1100)
        await read_all(await journal.open_cursor("run-39"))
    assert (tmp_path / FILE).stat().st_size < before / 3
    assert ask(tmp_path, "PRAGMA integrity_check") == [("ok",)]


async def test_the_sums_by_owner_are_those_of_the_runs(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for owner in "aab":
            for number in range(3):
                await finish(journal, f"{owner}-{number}-{len(await ids(journal, owner))}", "x" * 100, owner=owner)
        await begin(journal, "live", owner="c")
        await journal.delete((await ids(journal, "a"))[0])
        await journal.trim((await ids(journal, "a"))[0], 2)
        for job_id in await ids(journal, "b"):
            await journal.delete(job_id)
    sums = ask(tmp_path, "SELECT owner, sum(bytes) FROM runs WHERE ended_at IS NOT NULL GROUP BY owner")
    assert ask(tmp_path, "SELECT * FROM owners") == sums
    assert [owner for owner, _ in sums] == ["a"]


# A clock that is wrong.


@pytest.mark.noisy
async def test_a_start_that_would_expire_every_run_asks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(tmp_path, clock=DrivenClock()) as journal:
        for name in ("run-1", "run-2"):
            await finish(journal, name, "x" * 1000)
    ahead = DrivenClock(unix=DrivenClock().unix() + 8 * DAY)
    async with opened(tmp_path, clock=ahead) as journal:
        await swept(journal, ahead)
        assert await ids(journal) == ["run-1", "run-2"]
        [warning] = caplog.records
        assert "--expire" in warning.getMessage()
    async with opened(tmp_path, clock=ahead, retain_bytes=2000) as journal:
        await swept(journal, ahead)
        assert await ids(journal) == ["run-2"], "their bytes count all the same"
    async with opened(tmp_path, clock=ahead, expires_all=True) as journal:
        await swept(journal, ahead)
        assert await ids(journal) == []


@pytest.mark.noisy
async def test_runs_that_a_start_spared_expire_in_their_time_once_the_clock_is_right(tmp_path: Path) -> None:
    clock = DrivenClock()
    async with opened(tmp_path, clock=clock) as journal:
        await finish(journal, "run-1", "x")
    clock.offset += 400 * DAY
    async with opened(tmp_path, clock=clock) as journal:
        await swept(journal, clock)
        clock.offset -= 400 * DAY
        await swept(journal, clock)
        assert await ids(journal) == ["run-1"]
        clock.offset += 7 * DAY
        await swept(journal, clock)
        assert await ids(journal) == []


# Files that are gone.


@pytest.mark.noisy
async def test_a_directory_that_is_gone_is_noticed_within_five_seconds(tmp_path: Path) -> None:
    clock = DrivenClock()
    callbacks = RecordedCallbacks()
    folder = tmp_path / "data"
    async with opened(folder, clock=clock) as journal:
        log = await journal.submit(record(), callbacks)
        await log.commit(text(1))
        folder.rename(tmp_path / "elsewhere")
        await clock.advance(5)
        with anyio.fail_after(30):
            await callbacks.failed.wait()
        assert not journal.is_healthy
        (tmp_path / "elsewhere").rename(folder)
        await clock.advance(1)
        await until(lambda: journal.is_healthy)
        await log.commit(END)
        shutil.rmtree(folder)
        await clock.advance(5)
        await until(lambda: not journal.is_healthy)


async def test_a_writer_that_failed_is_not_well_in_a_file_that_nobody_finds(tmp_path: Path) -> None:
    with closing(Store(tmp_path, writes=True)) as store:
        store.probe()
        (tmp_path / FILE).rename(tmp_path / "elsewhere")
        with pytest.raises(OSError, match="removed or replaced"):
            store.probe()
        (tmp_path / "elsewhere").rename(tmp_path / FILE)
        store.probe()


@pytest.mark.noisy
async def test_another_file_in_its_place_is_not_taken_for_it(tmp_path: Path) -> None:
    clock = DrivenClock()
    async with opened(tmp_path, clock=clock) as journal:
        await finish(journal, "run-1", "x")
        shutil.copy(tmp_path / FILE, tmp_path / "copy")
        (tmp_path / "copy").replace(tmp_path / FILE)
        await clock.advance(5)
        await until(lambda: not journal.is_healthy)


# Damage.


def flip(folder: Path, table: str, column: str, where: str, place: int) -> None:
    """Change one bit of what is stored."""
    [(stored,)] = ask(folder, f"SELECT {column} FROM {table} WHERE {where}")
    changed = bytearray(stored)
    changed[place] ^= 1 << place % 8
    ask(folder, f"UPDATE {table} SET {column} = ? WHERE {where}", bytes(changed))


async def two_runs(folder: Path) -> None:
    async with opened(folder) as journal:
        for name in ("run-1", "run-2"):
            log = await begin(journal, name, body=b'{"task":"t"}')
            log.append(placeholder_description(record(name)))
            for number in range(3):
                log.append(text(number))
            await log.commit(END)


@pytest.mark.noisy
@pytest.mark.parametrize(
    ("table", "column", "where"),
    [("segments", "events", "run = 1"), ("runs", "record", "no = 1"), ("runs", "outline", "no = 1")],
)
async def test_a_bit_that_fell_over_makes_its_run_unreadable_and_no_other(
    tmp_path: Path, table: str, column: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    await two_runs(tmp_path)
    [(size,)] = ask(tmp_path, f"SELECT length({column}) FROM {table} WHERE {where}")
    async with opened(tmp_path) as journal:
        for place in range(0, size, 3):
            flip(tmp_path, table, column, where, place)
            with pytest.raises(StorageUnavailable, match="damaged"):
                await journal.open_cursor("run-1")
            flip(tmp_path, table, column, where, place)
        flip(tmp_path, table, column, where, 7)
        caplog.clear()
        assert len(await read_all(await journal.open_cursor("run-2"))) == 5
        job_ids = (await journal.list("o")).job_ids
        assert list(job_ids) == ["run-2", "run-1"]
        listed = [await journal.status(job_id) for job_id in job_ids]
        assert [run.state for run in listed] == ["success", "success"]
        assert all(run.summary.described for run in listed)
        if table == "runs":
            assert (await journal.status("run-1")).fault
            assert "run run-1 cannot be read: the checksum of" in caplog.text
        await journal.delete("run-1")
        assert await ids(journal) == ["run-2"]


SWAPPED = ("UPDATE segments SET run = run + 10", "UPDATE segments SET run = 13 - run")


@pytest.mark.noisy
@pytest.mark.parametrize(
    "damage",
    [
        SWAPPED,
        ("UPDATE runs SET job_id = 'run-x' WHERE no = 1", "UPDATE runs SET job_id = 'run-1' WHERE no = 2"),
        ("UPDATE runs SET state = 'failed' WHERE no = 1",),
        ("UPDATE runs SET last_event_id = 4 WHERE no = 1",),
        ("UPDATE runs SET first_event_id = 0 WHERE no = 1",),
        ("UPDATE runs SET created_at = 'x', state = 'x' WHERE no = 1",),
        ("DELETE FROM segments WHERE run = 1",),
    ],
)
async def test_what_was_written_elsewhere_is_not_taken_for_a_runs_own(tmp_path: Path, damage: Sequence[str]) -> None:
    await two_runs(tmp_path)
    for statement in damage:
        ask(tmp_path, statement)
    async with opened(tmp_path) as journal:
        with pytest.raises(StorageUnavailable):
            await journal.open_cursor("run-1")
        assert "run-1" in await ids(journal)


@pytest.mark.noisy
async def test_a_schema_that_is_no_text_any_more_is_a_clear_refusal(tmp_path: Path) -> None:
    await two_runs(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content.replace(b"owner TEXT NOT NULL", b"owner TEXT NOT NUL\xac"))
    async with opened(tmp_path) as journal:
        assert not journal.is_healthy
        with pytest.raises(StorageUnavailable):
            await journal.list("o")


@pytest.mark.noisy
async def test_a_long_run_that_lost_a_part_is_not_read_without_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await finish(journal, "run-1", *(str(number) for number in range(13_000)))
    ask(tmp_path, "DELETE FROM segments WHERE first = (SELECT min(first) FROM segments WHERE first > 1)")
    async with opened(tmp_path) as journal:
        with pytest.raises(StorageUnavailable):
            await journal.open_cursor("run-1")


async def three_in_progress(folder: Path) -> Sequence[Log]:
    """Their events are 1 to 3 in batches 1 to 3, but for the last run, which has none in the second."""
    async with opened(folder) as journal:
        logs = [await begin(journal, f"run-{number}") for number in range(3)]
        for batch in range(3):
            for log in logs if batch != 1 else logs[:2]:
                log.append(text(batch))
            await journal._group.flush()  # pyright: ignore[reportPrivateUsage]
        return logs


@pytest.mark.noisy
@pytest.mark.parametrize("how", ["flip", "delete"])
async def test_damage_to_what_is_in_progress_stops_no_start(tmp_path: Path, how: str) -> None:
    await three_in_progress(tmp_path)
    second = "id = (SELECT min(id) + 1 FROM batches)"
    if how == "flip":
        flip(tmp_path, "batches", "events", second, 20)
    else:
        ask(tmp_path, f"DELETE FROM batches WHERE {second}")
    async with opened(tmp_path) as journal:
        assert journal.is_healthy
        found = await journal.claim_interrupted()
        assert [bool(run.fault) for run in found] == [True, True, False]
        entries = [(await run.load())[1] for run in found]
        assert [[event for _, event in its] for its in entries] == [[text(0)], [text(0)], [text(0), text(2)]]
        for run in found:
            await run.resume(NO_CALLBACKS).commit(END)
        assert [(await journal.status(f"run-{number}")).state for number in range(3)] == ["success"] * 3
        for name in ("run-0", "run-1"):
            assert [event for _, event in await read_all(await journal.open_cursor(name))] == [text(0), END]


@pytest.mark.noisy
async def test_a_damaged_record_in_progress_is_made_good_by_its_end(tmp_path: Path) -> None:
    await three_in_progress(tmp_path)
    flip(tmp_path, "runs", "record", "no = 1", 30)
    async with opened(tmp_path) as journal:
        damaged, *_ = await journal.claim_interrupted()
        assert damaged.fault
        assert (damaged.record.job_id, damaged.record.owner) == ("run-0", "o")
        await damaged.load()
        await damaged.resume(NO_CALLBACKS).commit(END)
        assert len(await read_all(await journal.open_cursor("run-0"))) == 4
        assert (await journal.status("run-0")).fault is None


@pytest.mark.noisy
@pytest.mark.parametrize("how", ["record", "kind"])
async def test_a_run_that_turns_out_to_be_damaged_as_it_is_taken_up_ends_and_keeps_nobody_back(
    tmp_path: Path, how: str
) -> None:
    async with opened(tmp_path) as journal:
        for number in range(3):
            log = await begin(journal, f"run-{number}", on_disconnect="continue")
            await log.commit(RunStarted(0))
    if how == "kind":  # of a later release, say
        unknown = msgspec.msgpack.encode([(2, 2, 99, {})])
        ask(tmp_path, "INSERT INTO batches SELECT max(id) + 1, ? FROM batches", unknown)
    async with opened(tmp_path) as journal:
        assert journal.is_healthy
        found = await journal.claim_interrupted()
        if how == "record":
            flip(tmp_path, "runs", "record", "job_id = 'run-1'", 30)
        faults = [(run.record.job_id, len((await run.load())[1]), bool(run.fault)) for run in found]
        for run in found:
            await run.resume(NO_CALLBACKS).commit(END)
    assert faults == [("run-0", 1, False), ("run-1", 0 if how == "record" else 1, True), ("run-2", 1, False)]


@pytest.mark.noisy
async def test_a_run_that_cannot_be_deleted_stops_no_sweep(tmp_path: Path) -> None:
    """Its row goes on in pages that there are none of."""
    old_store(tmp_path, runs=1, body=b"b" * 100_000)
    async with opened(tmp_path) as journal:
        await finish(journal, "run-2", "x" * 10_000)
    content = bytearray((tmp_path / FILE).read_bytes())
    for page in range(0, len(content), 4096):
        if content[page + 4 : page + 4096].count(b"b") == 4092:
            content[page : page + 4] = (1 << 24).to_bytes(4, "big")
    (tmp_path / FILE).write_bytes(content)
    clock = DrivenClock()
    async with opened(tmp_path, clock=clock, retain_bytes=0) as journal:
        await clock.advance(0)
        await until(lambda: ask(tmp_path, "SELECT job_id FROM runs ORDER BY no") == [("old-1",), ("live",)])
        assert journal.is_healthy
        assert (await journal.status("old-1")).fault
        with pytest.raises(StorageUnavailable):
            await journal.delete("old-1")
        assert journal.is_healthy


@pytest.mark.noisy
async def test_over_http_a_damaged_run_is_listed_cannot_be_read_and_can_be_deleted(tmp_path: Path) -> None:
    agent = {"agent_config": {"agent_name": "A", "model_name": "demo/demo"}, "task": "go"}
    async with serving(data_dir=tmp_path) as url, client(url) as http:
        damaged, whole = [(await http.post("/v1/agent/completions", json=agent)).json()["job_id"] for _ in range(2)]
        flip(tmp_path, "runs", "outline", f"job_id = '{damaged}'", 50)
        answers = [await http.get(f"/v1/runs/{damaged}{what}") for what in ("", "/stream")]
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, "storage_unavailable")] * 2
        assert (await http.get(f"/v1/runs/{whole}")).status_code == 200
        rows = (await http.get("/v1/runs", params={"include": "output"})).json()["data"]
        assert [(row["job_id"], row["status"]) for row in rows] == [(whole, "success"), (damaged, "success")]
        assert [bool(row["output"]) for row in rows] == [True, False]
        assert len((await http.get("/v1/swarm/logs")).json()["logs"]) == 2
        assert (await http.delete(f"/v1/runs/{damaged}")).status_code == 204
        assert (await http.get("/health/ready")).status_code == 200


@pytest.mark.noisy
async def test_a_server_ends_a_run_whose_events_are_damaged(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        log = await begin(journal, "agent-1", body=b"{}", on_disconnect="continue")
        await log.commit(RunStarted(0))
        await log.hand_over()
    flip(tmp_path, "batches", "events", "id = 1", 8)
    from swarmstream.llm.providers.backends import ModelBackends
    from swarmstream.runs.limits import RunLimits
    from swarmstream.runs.supervisor import Supervisor

    async with opened(tmp_path) as journal, Supervisor(journal, ModelBackends({}), RunLimits()) as supervisor:
        await supervisor.recover(lambda _: pytest.fail("it is not run"))
        entries = await read_all(await journal.open_cursor("agent-1"))
        status = await journal.status("agent-1")
    described, failed, _, ended = (event for _, event in entries)
    assert isinstance(described, RunDescribed)
    assert getattr(failed, "failure").code == "internal"  # noqa: B009
    assert isinstance(ended, RunEnded)
    assert (ended.status, status.state) == ("failed", "failed")


# Files of the first release.


def old_store(folder: Path, *, runs: int, body: bytes = b'{"task":"t"}') -> list[Event]:
    """Finished runs `old-1` and on, and a run in progress, `live`, as the first release wrote them; the finished ones'
    events."""
    events: list[Event] = [placeholder_description(record("old")), text(1), text(2), END]
    entries = list(enumerate(events, start=1))
    encode = msgspec.msgpack.Encoder().encode
    (folder / FILE).touch(0o600)
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.executescript(OLD_SCHEMA)
        for no in range(1, runs + 1):
            its = record(f"old-{no}", owner=f"o{no % 2}", body=body)
            packed = pack((no, number, event) for number, event in entries)
            outline = pack((no, number, event) for number, event in (entries[0], entries[-1]))
            connection.execute(
                "INSERT INTO runs VALUES (?, ?, ?, 'success', 3, 1, ?, 1, 1, 4, ?, NULL, NULL, ?, ?)",
                (no, its.job_id, its.owner, DrivenClock().unix(), len(packed) + len(body), encode(its), outline),
            )
            connection.execute("INSERT INTO segments VALUES (?, 1, ?)", (no, packed))
        live = record("live", owner="o1", body=b'{"task":"live"}')
        connection.execute(
            "INSERT INTO runs VALUES (?, 'live', 'o1', 'running', 3, 2, NULL, 7, 1, 0, 5, 'key', 'digest', ?, NULL)",
            (runs + 1, encode(live)),
        )
        connection.execute("INSERT INTO batches VALUES (7, ?)", (pack([(runs + 1, 1, text(1)), (1, 4, END)]),))
        connection.commit()
    return events


async def test_a_directory_of_the_first_release_opens_and_reads_the_same(tmp_path: Path) -> None:
    events = old_store(tmp_path, runs=3)
    async with opened(tmp_path) as journal:
        for no in (1, 2, 3):
            assert [event for _, event in await read_all(await journal.open_cursor(f"old-{no}"))] == events
        assert await ids(journal, "o1") == ["live", "old-1", "old-3"]
        assert (await journal.status("old-2")).record.body == b'{"task":"t"}'
        [live] = await journal.claim_interrupted()
        its, entries = await live.load()
        assert [event for _, event in entries] == [text(1)]
        assert its.body == b'{"task":"live"}'
        with pytest.raises(AlreadySubmitted):
            await begin(journal, "again", idempotency_key=IdempotencyKey("key", "digest"))
        await live.resume(NO_CALLBACKS).commit(END)
        await journal.delete("old-1")
        await journal.trim("old-3", 3)
    sums = ask(tmp_path, "SELECT owner, sum(bytes) FROM runs GROUP BY owner")
    assert ask(tmp_path, "SELECT * FROM owners") == sums
    async with opened(tmp_path) as journal:
        assert await ids(journal, "o1") == ["live", "old-3"]
        assert len(await read_all(await journal.open_cursor("live"))) == 2


@pytest.mark.noisy
async def test_a_run_of_the_first_release_that_lost_events_is_not_read_without_them(tmp_path: Path) -> None:
    events = old_store(tmp_path, runs=1)
    ask(tmp_path, "UPDATE segments SET events = ?", pack([(1, 1, events[0]), (1, 3, events[2]), (1, 4, events[3])]))
    async with opened(tmp_path) as journal:
        with pytest.raises(StorageUnavailable):
            await journal.open_cursor("old-1")


async def test_runs_of_the_first_release_go_where_they_are_too_many_bytes(tmp_path: Path) -> None:
    old_store(tmp_path, runs=20, body=b"x" * 10_000)
    clock = DrivenClock()
    async with opened(tmp_path, clock=clock, retain_bytes=100_000) as journal:
        await swept(journal, clock)
        assert len(await ids(journal, "o0")) + len(await ids(journal, "o1")) == 10
