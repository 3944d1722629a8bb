"""Damage to a data directory's file makes single runs unreadable, and stops no other."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from swarmstream.errors import StorageUnavailable
from swarmstream.events import RunDescribed, RunEnded, RunStarted
from swarmstream.journal.base import NO_CALLBACKS, Log
from swarmstream.journal.sqlite.data_directory import FILE
from swarmstream.journal.sqlite.file.stored_run import placeholder_description
from tests.conftest import client, serving
from tests.fakes.clock import DrivenClock
from tests.journal.directories import ids, old_store, opened_still, query_rows, until
from tests.journal.sample_runs import END, begin, finish, read_all, record, text
from tests.runs.supervisors import supervisor_of

pytestmark = pytest.mark.anyio


def flip(folder: Path, table: str, column: str, where: str, place: int) -> None:
    """Change one bit of what is stored."""
    [(stored,)] = query_rows(folder, f"SELECT {column} FROM {table} WHERE {where}")
    changed = bytearray(stored)
    changed[place] ^= 1 << place % 8
    query_rows(folder, f"UPDATE {table} SET {column} = ? WHERE {where}", bytes(changed))


async def two_runs(folder: Path) -> None:
    async with opened_still(folder) as journal:
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
async def test_a_flipped_bit_makes_its_run_unreadable_and_no_other(
    tmp_path: Path, table: str, column: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    await two_runs(tmp_path)
    [(size,)] = query_rows(tmp_path, f"SELECT length({column}) FROM {table} WHERE {where}")
    async with opened_still(tmp_path) as journal:
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
async def test_rows_of_another_run_are_not_read_as_a_runs_own(tmp_path: Path, damage: Sequence[str]) -> None:
    await two_runs(tmp_path)
    for statement in damage:
        query_rows(tmp_path, statement)
    async with opened_still(tmp_path) as journal:
        with pytest.raises(StorageUnavailable):
            await journal.open_cursor("run-1")
        assert "run-1" in await ids(journal)


@pytest.mark.noisy
async def test_a_damaged_schema_is_a_clear_refusal(tmp_path: Path) -> None:
    await two_runs(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content.replace(b"owner TEXT NOT NULL", b"owner TEXT NOT NUL\xac"))
    async with opened_still(tmp_path) as journal:
        assert not journal.is_healthy
        with pytest.raises(StorageUnavailable):
            await journal.list("o")


@pytest.mark.noisy
async def test_a_long_run_that_lost_a_segment_is_not_read_without_it(tmp_path: Path) -> None:
    async with opened_still(tmp_path) as journal:
        await finish(journal, "run-1", *(str(number) for number in range(13_000)))
    query_rows(tmp_path, "DELETE FROM segments WHERE first = (SELECT min(first) FROM segments WHERE first > 1)")
    async with opened_still(tmp_path) as journal:
        with pytest.raises(StorageUnavailable):
            await journal.open_cursor("run-1")


async def three_in_progress(folder: Path) -> Sequence[Log]:
    """Their events are 1 to 3 in batches 1 to 3, but for the last run, which has none in the second."""
    async with opened_still(folder) as journal:
        logs = [await begin(journal, f"run-{number}") for number in range(3)]
        for batch in range(3):
            for log in logs if batch != 1 else logs[:2]:
                log.append(text(batch))
            await journal._group.flush()  # pyright: ignore[reportPrivateUsage]
        return logs


@pytest.mark.noisy
@pytest.mark.parametrize("how", ["flip", "delete"])
async def test_damage_to_runs_in_progress_stops_no_start(tmp_path: Path, how: str) -> None:
    await three_in_progress(tmp_path)
    second = "id = (SELECT min(id) + 1 FROM batches)"
    if how == "flip":
        flip(tmp_path, "batches", "events", second, 20)
    else:
        query_rows(tmp_path, f"DELETE FROM batches WHERE {second}")
    async with opened_still(tmp_path) as journal:
        assert journal.is_healthy
        found = await journal.claim_interrupted()
        assert [bool(run.fault) for run in found] == [True, True, False]
        entries = [(await run.load())[1] for run in found]
        assert [[event for _, event in loaded] for loaded in entries] == [[text(0)], [text(0)], [text(0), text(2)]]
        for run in found:
            await run.resume(NO_CALLBACKS).commit(END)
        assert [(await journal.status(f"run-{number}")).state for number in range(3)] == ["success"] * 3
        for name in ("run-0", "run-1"):
            assert [event for _, event in await read_all(await journal.open_cursor(name))] == [text(0), END]


@pytest.mark.noisy
async def test_a_damaged_record_of_a_run_in_progress_is_rewritten_at_its_end(tmp_path: Path) -> None:
    await three_in_progress(tmp_path)
    flip(tmp_path, "runs", "record", "no = 1", 30)
    async with opened_still(tmp_path) as journal:
        damaged, *_ = await journal.claim_interrupted()
        assert damaged.fault
        assert (damaged.record.job_id, damaged.record.owner) == ("run-0", "o")
        await damaged.load()
        await damaged.resume(NO_CALLBACKS).commit(END)
        assert len(await read_all(await journal.open_cursor("run-0"))) == 4
        assert (await journal.status("run-0")).fault is None


@pytest.mark.noisy
@pytest.mark.parametrize("how", ["record", "kind"])
async def test_a_run_that_is_found_damaged_as_it_is_resumed_ends_and_stops_no_other(tmp_path: Path, how: str) -> None:
    async with opened_still(tmp_path) as journal:
        for number in range(3):
            log = await begin(journal, f"run-{number}", on_disconnect="continue")
            await log.commit(RunStarted(0))
    if how == "kind":  # of a later release, say
        unknown = msgspec.msgpack.encode([(2, 2, 99, {})])
        query_rows(tmp_path, "INSERT INTO batches SELECT max(id) + 1, ? FROM batches", unknown)
    async with opened_still(tmp_path) as journal:
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
    async with opened_still(tmp_path) as journal:
        await finish(journal, "run-2", "x" * 10_000)
    content = bytearray((tmp_path / FILE).read_bytes())
    for page in range(0, len(content), 4096):
        if content[page + 4 : page + 4096].count(b"b") == 4092:
            content[page : page + 4] = (1 << 24).to_bytes(4, "big")
    (tmp_path / FILE).write_bytes(content)
    clock = DrivenClock()
    async with opened_still(tmp_path, clock=clock, retain_bytes=0) as journal:
        await clock.advance(0)
        await until(lambda: query_rows(tmp_path, "SELECT job_id FROM runs ORDER BY no") == [("old-1",), ("live",)])
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
    async with opened_still(tmp_path) as journal:
        log = await begin(journal, "agent-1", body=b"{}", on_disconnect="continue")
        await log.commit(RunStarted(0))
        await log.hand_over()
    flip(tmp_path, "batches", "events", "id = 1", 8)
    from swarmstream.llm.providers.backends import ModelBackends
    from swarmstream.runs.supervisor import RunLimits

    async with opened_still(tmp_path) as journal, supervisor_of(journal, ModelBackends({}), RunLimits()) as supervisor:
        await supervisor.recover(lambda _: pytest.fail("it is not run"))
        entries = await read_all(await journal.open_cursor("agent-1"))
        status = await journal.status("agent-1")
    described, failed, _, ended = (event for _, event in entries)
    assert isinstance(described, RunDescribed)
    assert getattr(failed, "failure").code == "internal"  # noqa: B009
    assert isinstance(ended, RunEnded)
    assert (ended.status, status.state) == ("failed", "failed")
