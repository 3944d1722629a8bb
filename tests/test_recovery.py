"""Runs outlive the process that runs them: what a crash costs, and what readers see of it (WIRE.md, section 5)."""

import signal
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import anyio
import httpx
import pytest

from app.wire.schema import TurnRestartFrame
from tests.conftest import KEY
from tests.process import openai_environ, server_process
from tests.sse import ServerEvent, events_of
from tests.upstream import Exchange, provider

pytestmark = pytest.mark.anyio

TEAM: dict[str, Any] = {
    "task": "go",
    "rearrange_flow": "A -> B -> C",
    "agents": [{"agent_name": name, "system_prompt": name, "num_retries": 0} for name in "ABC"],
    "stream": True,
    "stream_options": {"include_output": False},
    "on_disconnect": "continue",
}


def headers(**more: str) -> dict[str, str]:
    return {"x-api-key": KEY, **more}


async def read(url: str, path: str, after: int = 0) -> list[ServerEvent]:
    """The events of a run from behind this one to its end."""
    async with (
        httpx.AsyncClient(base_url=url, timeout=10) as http,
        http.stream("GET", path, headers=headers(**{"Last-Event-ID": str(after)})) as response,
    ):
        assert response.status_code == 200, await response.aread()
        return [event async for event in events_of(response)]


@pytest.mark.noisy
async def test_a_run_goes_on_at_the_turn_that_a_crash_interrupted(tmp_path: Path) -> None:
    crashed = anyio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say(f"{exchange.system}1 ", f"{exchange.system}2 ")
        if exchange.system == "B" and not crashed.is_set():
            await crashed.wait()
        await exchange.finish(usage=(10, 2))

    with anyio.fail_after(30):
        async with provider(script) as upstream:
            environ = openai_environ(upstream, SWARMSTREAM_DATA_DIR=str(tmp_path / "data"))
            seen: list[ServerEvent] = []
            async with (
                server_process(environ=environ) as server,
                httpx.AsyncClient(base_url=server.url, timeout=10) as http,
                http.stream("POST", "/v1/swarm/completions", json=TEAM, headers=headers()) as response,
            ):
                path = response.headers["location"]
                async for event in events_of(response):
                    seen.append(event)
                    if event.data.get("content") == "B2 ":
                        break
                server.process.send_signal(signal.SIGKILL)
            crashed.set()
            async with server_process(environ=environ) as server:
                after = seen[-1].id
                assert after is not None
                rest = await read(server.url, path, after)
                whole = await read(server.url, path)
                async with httpx.AsyncClient() as http:
                    drained = await http.get(server.url + path, headers=headers(**{"Last-Event-ID": str(rest[-1].id)}))
    assert drained.status_code == 204
    names = [event.event for event in rest]
    assert names[0] == "turn_restart"
    assert rest[0].data.keys() == get_type_hints(TurnRestartFrame).keys()
    assert rest[0].data["discard_from"] == next(event.id for event in seen if event.data.get("content") == "B1 ")
    assert (rest[0].data["agent"], rest[0].data["turn"], rest[0].data["attempt"]) == ("B", 2, 2)
    assert [event.data["content"] for event in rest if event.event == "chunk"] == ["B1 ", "B2 ", "C1 ", "C2 "]
    ids = [event.id for event in seen + rest if event.id is not None]
    assert ids == sorted(set(ids)), "no number is used twice"
    assert sum(later != earlier + 1 for earlier, later in pairwise(ids)) == 1, "one jump"
    assert [exchange.system for exchange in upstream.exchanges] == ["A", "B", "B", "C"], "A was not run again"
    assert rest[-1].data["status"] == "success"
    assert [entry["content"] for entry in rest[-1].data["output"]] == ["A1 A2 ", "B1 B2 ", "C1 C2 "]
    assert rest[-2].data["input_tokens"] == 30
    assert [event.event for event in whole].count("turn_restart") == 1
