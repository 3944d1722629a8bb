"""Lists of runs: bounded by bytes, and by what a page takes while it is written (app/swarmstream/api/listing.py)."""

import json
import re
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import anyio
import httpx
import pytest
from starlette.responses import StreamingResponse

from swarmstream.api.auth import owner_name
from swarmstream.api.listing import MAX_PAGE_BYTES, Listing, WrittenPage
from swarmstream.errors import StorageUnavailable
from swarmstream.journal.base import Journal
from swarmstream.journal.memory import MemoryJournal
from swarmstream.journal.records import RunStatus
from swarmstream.journal.sqlite.journal import SqliteJournal
from swarmstream.runs.limits import RunLimits
from tests.api.stored_runs import add_run
from tests.clients.process import ServerProcess, server_process
from tests.conftest import KEY, OTHER_KEY, client, serving
from tests.runs.supervisors import supervisor_of

pytestmark = pytest.mark.anyio

MEGABYTE = 1_000_000


@pytest.fixture(params=["memory", "sqlite"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    """Closed by the server that has it."""
    own = (
        MemoryJournal(retain_seconds=60, retain_bytes=1 << 30)
        if request.param == "memory"
        else SqliteJournal(tmp_path / "data", retain_seconds=60, retain_bytes=1 << 30)
    )
    await own.open()
    return own


async def pages_of(http: httpx.AsyncClient) -> list[httpx.Response]:
    """All pages of `/v1/runs`, with outputs."""
    wanted = {"limit": 100, "include": "output"}
    pages = [await http.get("/v1/runs", params=wanted)]
    while (last := pages[-1].json())["has_more"]:
        pages.append(await http.get("/v1/runs", params={**wanted, "after": last["last_id"]}))
    return pages


@pytest.mark.promise("W-72")
async def test_a_page_ends_before_8_mb_and_the_next_one_goes_on(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "data", retain_seconds=60, retain_bytes=1 << 30)
    async with serving(journal=journal) as url, client(url) as http:
        for number in range(18):
            await add_run(journal, f"run-{number}", "x" * MEGABYTE)
        pages = await pages_of(http)
        logs = await http.get("/v1/swarm/logs")
    ids = [[run["job_id"] for run in page.json()["data"]] for page in pages]
    assert ids == [
        [f"run-{number}" for number in numbers] for numbers in (range(17, 10, -1), range(10, 3, -1), range(3, -1, -1))
    ]
    assert all(7 * MEGABYTE < len(page.content) <= MAX_PAGE_BYTES + 1000 for page in pages[:2])
    assert [page.json()["first_id"] for page in pages] == [page[0] for page in ids]
    assert len(logs.content) <= MAX_PAGE_BYTES + 1000
    assert [log["id"] for log in logs.json()["logs"]] == ids[0]
    assert (logs.json()["count"], logs.json()["has_more"], logs.json()["status"]) == (7, True, "success")


@pytest.mark.promise("W-72")
async def test_a_run_that_is_larger_than_a_page_has_one_of_its_own() -> None:
    journal = MemoryJournal(retain_seconds=60, retain_bytes=1 << 30)
    async with serving(journal=journal) as url, client(url) as http:
        for name, size in {"small": 10, "large": MAX_PAGE_BYTES + 1, "new": 10}.items():
            await add_run(journal, name, "x" * size)
        pages = await pages_of(http)
    assert [[run["job_id"] for run in page.json()["data"]] for page in pages] == [["new"], ["large"], ["small"]]
    assert len(pages[1].json()["data"][0]["output"][0]["content"]) == MAX_PAGE_BYTES + 1


async def test_a_list_has_the_outputs_of_agents_only_on_request(journal: Journal) -> None:
    async with serving(journal=journal) as url, client(url) as http:
        for number in range(18):
            await add_run(journal, f"run-{number}", "x" * MEGABYTE)
        plain = await http.get("/v1/runs", params={"limit": 100})
        whole = await http.get("/v1/runs", params={"limit": 1, "include": "output"})
        one = await http.get("/v1/runs/run-17")
        logs = await http.get("/v1/swarm/logs")
        wrong = [
            await http.get("/v1/runs", params={"include": include}) for include in (["outputs"], ["output", "x"], "")
        ]
    assert len(plain.json()["data"]) == 18, "a page without outputs is small"
    assert len(plain.content) < 20_000
    assert whole.json()["data"] == [one.json()]
    assert [{**row, "output": one.json()["output"]} for row in plain.json()["data"][:1]] == [one.json()]
    assert "output" in logs.json()["logs"][0]["data"]
    for answer in wrong:
        body = answer.json()
        assert (answer.status_code, body["code"], body["errors"][0]["loc"]) == (400, "invalid_request", ["include"])


async def test_a_run_that_goes_while_its_page_is_written_is_left_out(journal: Journal) -> None:
    async with serving(journal=journal):
        for number in range(4):
            await add_run(journal, f"run-{number}", "x" * 100_000)
        runs = supervisor_of(journal, {}, RunLimits()).runs_of(owner_name(KEY))
        listing = Listing(runs, "ids", _only_id, _only_more)
        response = await listing.response(await runs.list())
        await journal.delete("run-1")
        body = b"".join([cast(bytes, piece) async for piece in cast(StreamingResponse, response).body_iterator])
    assert [run["id"] for run in json.loads(body)["ids"]] == ["run-3", "run-2", "run-0"]


async def test_a_run_that_left_the_state_asked_for_is_left_out(journal: Journal) -> None:
    async with serving(journal=journal):
        await add_run(journal, "run-0", "x")
        await add_run(journal, "run-1", "x")
        runs = supervisor_of(journal, {}, RunLimits()).runs_of(owner_name(KEY))
        listing = Listing(runs, "ids", _only_id, _only_more)
        response = await listing.response(await runs.list(), state="running")
        body = b"".join([cast(bytes, piece) async for piece in cast(StreamingResponse, response).body_iterator])
    assert json.loads(body) == {"ids": [], "more": False}


def _only_id(run: RunStatus) -> dict[str, Any]:
    return {"id": run.record.job_id, "": "x" * 100_000}


def _only_more(page: WrittenPage) -> dict[str, Any]:
    return {"more": page.has_more}


class UnreadableJournal(MemoryJournal):
    """Knows which runs there are, and can read none."""

    async def status(self, job_id: str, *, owner: str | None = None) -> RunStatus:
        raise StorageUnavailable("what is stored cannot be read at present")


async def test_a_list_that_cannot_be_read_is_refused_before_its_first_byte() -> None:
    journal = UnreadableJournal(retain_seconds=60, retain_bytes=1 << 30)
    async with serving(journal=journal) as url, client(url) as http:
        await add_run(journal, "run-0", "x")
        refused = [await http.get(path) for path in ("/v1/runs", "/v1/swarm/logs")]
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(503, "storage_unavailable")] * 2


async def memory(server: ServerProcess, field: str) -> int:
    """In bytes: `VmRSS` is what the process has, `VmHWM` the most that it had since the last `forget_peak`."""
    status = await anyio.Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


async def forget_peak(server: ServerProcess) -> None:
    await anyio.Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


@pytest.mark.parametrize("path", ["/v1/runs?limit=100&include=output", "/v1/swarm/logs"])
async def test_lists_that_no_client_takes_hold_little_memory(path: str, tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "data", retain_seconds=60, retain_bytes=1 << 30)
    await journal.open()
    for number in range(30):
        await add_run(journal, f"run-{number}", "x" * MEGABYTE)
    await journal.close()
    environ = {"SWARMSTREAM_API_KEYS": f"{KEY},{OTHER_KEY}", "SWARMSTREAM_DATA_DIR": str(tmp_path / "data")}
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nx-api-key: {KEY}\r\n\r\n".encode()
    with anyio.fail_after(60):
        async with server_process(environ=environ) as server, client(server.url) as http:
            assert (await http.get("/v1/runs", params={"limit": 2})).status_code == 200
            before = await memory(server, "VmRSS")
            await forget_peak(server)
            host, port = server.url.removeprefix("http://").split(":")
            with ExitStack() as silent:
                for _ in range(10):
                    connection = silent.enter_context(socket.socket())
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    connection.connect((host, int(port)))
                    connection.sendall(request)
                    await anyio.to_thread.run_sync(connection.recv, 1)  # it has begun
                # Whoever does take its list has it, and by then the others have got as far as they can.
                whole = await http.get(path)
                peak = await memory(server, "VmHWM")
    assert 6 * MEGABYTE < len(whole.content) <= MAX_PAGE_BYTES + 1000
    assert peak - before < 40 * MEGABYTE, f"{(peak - before) / MEGABYTE:.0f} MB"
    print(f"{(peak - before) / MEGABYTE:.0f} MB")
