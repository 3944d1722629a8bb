"""A data directory that cannot be written: runs end or wait, the server lives, and all is well once it can be."""

import resource
import shutil
from contextlib import closing
from pathlib import Path

import anyio
import httpx
import pytest

from swarmstream.errors import StorageUnavailable
from swarmstream.events import CustomEvent
from swarmstream.journal.base import HandedOver
from swarmstream.journal.records import Entry
from swarmstream.journal.sqlite.data_directory import FILE, DirectoryInUse
from swarmstream.journal.sqlite.file.store import Store
from swarmstream.journal.sqlite.journal import SqliteJournal
from tests.clients.process import ServerProcess, openai_environ, server_process
from tests.clients.sse import ServerEvent, check_stream, events_of
from tests.conftest import KEY, client
from tests.fakes.clock import DrivenClock
from tests.fakes.run_callbacks import RecordedCallbacks
from tests.fakes.upstream import Exchange, provider
from tests.journal.directories import columns, opened, opened_still, query_rows, until
from tests.journal.sample_runs import END, begin, finish, read_all, record, text

pytestmark = pytest.mark.anyio


@pytest.mark.noisy
async def test_a_file_in_place_of_the_directory_is_an_outage_that_passes(tmp_path: Path) -> None:
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
async def test_an_event_that_cannot_be_written_fails_its_run_and_no_other(tmp_path: Path) -> None:
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
async def test_a_journal_recovers_even_if_nothing_waits_to_be_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await finish(journal, "run-1", "x")
        query_rows(tmp_path, "ALTER TABLE segments RENAME TO elsewhere")
        with pytest.raises(StorageUnavailable):
            await journal.delete("run-1")
        assert not journal.is_healthy
        query_rows(tmp_path, "ALTER TABLE elsewhere RENAME TO segments")
        await until(lambda: journal.is_healthy)
        await journal.delete("run-1")


@pytest.mark.noisy
async def test_the_end_of_a_run_is_shown_only_once_it_is_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        log = await begin(journal)
        await log.commit(text(1))
        reader = await journal.open_cursor("run-1")
        query_rows(tmp_path, "ALTER TABLE segments RENAME TO elsewhere")
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
                query_rows(tmp_path, "ALTER TABLE elsewhere RENAME TO segments")
        assert [event for _, event in seen] == [text(1), END]
        status = await journal.status("run-1")
        assert (status.state, status.is_waiting) == ("success", False)
        assert columns(tmp_path, "SELECT state FROM runs") == ["success"]
        assert journal.is_healthy
    async with opened(tmp_path) as journal:
        assert not await journal.claim_interrupted()


def allow_bytes(server: ServerProcess, count: int) -> None:
    """Limit the size of the files that the process may write, which fails as a full disk does."""
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
                            if [seen.event for seen in events].count("chunk") == 4 and not full.is_set():
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


@pytest.mark.noisy
async def test_a_directory_that_is_gone_is_noticed_within_five_seconds(tmp_path: Path) -> None:
    clock = DrivenClock()
    callbacks = RecordedCallbacks()
    folder = tmp_path / "data"
    async with opened_still(folder, clock=clock) as journal:
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


async def test_a_probe_fails_in_a_file_that_was_removed(tmp_path: Path) -> None:
    with closing(Store(tmp_path, writes=True)) as store:
        store.probe()
        (tmp_path / FILE).rename(tmp_path / "elsewhere")
        with pytest.raises(OSError, match="removed or replaced"):
            store.probe()
        (tmp_path / "elsewhere").rename(tmp_path / FILE)
        store.probe()


@pytest.mark.noisy
async def test_another_file_in_its_place_is_noticed(tmp_path: Path) -> None:
    clock = DrivenClock()
    async with opened_still(tmp_path, clock=clock) as journal:
        await finish(journal, "run-1", "x")
        shutil.copy(tmp_path / FILE, tmp_path / "copy")
        (tmp_path / "copy").replace(tmp_path / FILE)
        await clock.advance(5)
        await until(lambda: not journal.is_healthy)
