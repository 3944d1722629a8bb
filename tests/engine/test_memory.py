"""Memory of runs that have ended: it is freed, also where the garbage collector never runs."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.clients.process import ServerProcess, openai_environ, server_process
from tests.conftest import client
from tests.fakes.upstream import Exchange, hello, provider

pytestmark = pytest.mark.anyio

RUNS = int(os.environ.get("MEMORY_RUNS", "25"))
"""Of each way to end: what they would hold is more than they may."""
BODY_BYTES = 900_000
MORE_BYTES = 40_000_000

SWARM = "/v1/swarm/completions"


def team(system: str, **fields: Any) -> dict[str, Any]:
    agent = {"agent_name": "A", "system_prompt": system, "num_retries": 0, "description": "x" * BODY_BYTES}
    return {"task": "go", "agents": [agent], **fields}


async def speak(exchange: Exchange) -> None:
    if exchange.system == "refused":
        await exchange.refuse(500, b"{}")
    elif exchange.system == "endless":
        await exchange.open()
        await exchange.say("word ")
        await anyio.sleep_forever()
    else:
        await hello(exchange)


async def _streamed(http: httpx.AsyncClient) -> None:
    assert "event: end" in (await http.post(SWARM, json=team("A", stream=True))).text


async def _whole(http: httpx.AsyncClient) -> None:
    assert (await http.post(SWARM, json=team("A"))).status_code == 200


async def _failed(http: httpx.AsyncClient) -> None:
    assert (await http.post(SWARM, json=team("refused"))).status_code == 502


async def _left(http: httpx.AsyncClient) -> None:
    async with http.stream("POST", SWARM, json=team("endless", stream=True)) as response:
        async for content in response.aiter_raw():
            if b"event: chunk" in content:
                break


async def _cancelled(http: httpx.AsyncClient) -> None:
    job_id = (await http.post(SWARM, json=team("endless", background=True))).json()["job_id"]
    assert (await http.post(f"/v1/runs/{job_id}/cancel")).json()["status"] == "cancelled"


async def _timed_out(http: httpx.AsyncClient) -> None:
    assert (await http.post(SWARM, json=team("endless", timeout=0.001))).status_code == 504


async def _replayed(http: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": os.urandom(8).hex()}
    payload = team("A")
    for _ in range(2):
        assert (await http.post(SWARM, json=payload, headers=key)).status_code == 200


WAYS: dict[str, Callable[[httpx.AsyncClient], Awaitable[None]]] = {
    "streamed": _streamed,
    "whole": _whole,
    "failed": _failed,
    "left": _left,
    "cancelled": _cancelled,
    "timed out": _timed_out,
    "replayed": _replayed,
}


def resident_bytes(server: ServerProcess) -> int:
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


@pytest.mark.noisy
async def test_runs_that_have_ended_free_their_memory(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import gc\ngc.disable()\n")
    grown: dict[str, int] = {}
    with anyio.fail_after(300):
        async with provider(speak) as upstream:
            environ = openai_environ(
                upstream,
                PYTHONPATH=str(tmp_path),
                SWARMSTREAM_DATA_DIR=str(tmp_path / "data"),
                SWARMSTREAM_RETAIN_BYTES="2000000",
                SWARMSTREAM_DISCONNECT_GRACE_SECONDS="0",
            )
            async with server_process(environ=environ) as server, client(server.url) as http:
                for way in WAYS.values():
                    for _ in range(5):
                        await way(http)
                for name, way in WAYS.items():
                    before = resident_bytes(server)
                    for _ in range(RUNS):
                        await way(http)
                    grown[name] = resident_bytes(server) - before
            assert "Traceback" not in server.log
    assert max(grown.values()) < MORE_BYTES, grown
