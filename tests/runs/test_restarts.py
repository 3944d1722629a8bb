"""A run goes on in the next process after a kill or a stop: its readers and its provider (docs/wire.md, section 5)."""

import signal
import sqlite3
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import anyio
import httpx
import pytest

from swarmstream.journal.sqlite.data_directory import FILE
from swarmstream.wire.shapes.events import TurnRestartFrame
from tests.clients.process import openai_environ, server_process
from tests.clients.sse import ServerEvent, events_of
from tests.conftest import client
from tests.fakes.upstream import Exchange, provider
from tests.runs.restarts import SWARM, TEAM, fold, headers, read

pytestmark = pytest.mark.anyio


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


@pytest.mark.noisy
async def test_a_reader_that_saw_more_than_was_written_meets_no_id_twice(tmp_path: Path) -> None:
    data, crashed, is_locked = tmp_path / "data", anyio.Event(), anyio.Event()

    async def script(exchange: Exchange) -> None:
        first, *others = (f"{exchange.system}{number} " for number in range(50))
        await exchange.open()
        await exchange.say(first)
        if exchange.system == "B":
            await is_locked.wait()
        await exchange.say(*others)
        if exchange.system == "B" and not crashed.is_set():
            await crashed.wait()
        await exchange.finish(usage=(10, 2))

    seen: list[ServerEvent] = []
    with anyio.fail_after(30):
        async with provider(script) as upstream:
            environ = openai_environ(upstream, SWARMSTREAM_DATA_DIR=str(data))
            async with (
                server_process(environ=environ) as server,
                client(server.url) as http,
                http.stream("POST", SWARM, json=TEAM) as response,
            ):
                path = response.headers["location"]
                other: sqlite3.Connection | None = None
                async for event in events_of(response):
                    seen.append(event)
                    if event.data.get("content") == "B0 ":  # whose turn's beginning is written by now
                        other = sqlite3.connect(data / FILE)
                        other.execute("BEGIN IMMEDIATE")  # nothing is written from now on
                        is_locked.set()
                    if event.data.get("content") == "B49 ":
                        break
                server.process.send_signal(signal.SIGKILL)
                await server.process.wait()
                assert other is not None
                other.close()
            crashed.set()
            async with server_process(environ=environ) as server:
                rest = await read(server.url, path, seen[-1].id or 0)
                whole = await read(server.url, path)
    kept = {event.id: event for event in whole}
    lost = [event for event in seen if event.id not in kept]
    assert all(kept[event.id] == event for event in seen if event.id in kept)
    assert not {event.id for event in rest} & {event.id for event in seen}
    assert rest[0].event in ("turn_restart", "agent_start")
    assert len(lost) >= 10, "the reader had seen what was not written"
    assert fold(whole) == {
        turn: "".join(f"{name}{number} " for number in range(50)) for turn, name in enumerate("ABC", 1)
    }
    assert fold([*seen, *rest]) == fold(whole)
    assert [exchange.system for exchange in upstream.exchanges] == ["A", "B", "B", "C"]


@pytest.mark.promise("W-79")
@pytest.mark.noisy
async def test_a_restart_is_a_hiccup_for_some_runs_and_the_end_of_others(tmp_path: Path) -> None:
    """SIGTERM: after the drain, runs that need no client go on in the next process; the others end."""
    stopped = anyio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say(f"{exchange.system}1 ")
        if not stopped.is_set():
            await (finishing.wait() if exchange.system == "D" else anyio.sleep_forever())
        await exchange.finish(usage=(10, 2))

    payloads: dict[str, dict[str, Any]] = {
        "goes on": TEAM,
        "ends": {**TEAM, "on_disconnect": "cancel"},
        "finishes": {**TEAM, "agents": [{"agent_name": "D", "system_prompt": "D"}], "rearrange_flow": "D"},
    }
    seen: dict[str, list[ServerEvent]] = {}
    paths: dict[str, str] = {}
    cut: list[str] = []
    finishing = anyio.Event()
    speaking = anyio.Semaphore(0)

    async def follow(http: httpx.AsyncClient, name: str) -> None:
        seen[name] = []
        async with http.stream("POST", SWARM, json=payloads[name]) as response:
            paths[name] = response.headers["location"]
            try:
                async for event in events_of(response):
                    seen[name].append(event)
                    if event.event == "chunk":
                        speaking.release()
            except httpx.RemoteProtocolError:
                cut.append(name)

    with anyio.fail_after(30):
        async with provider(script) as upstream:
            environ = openai_environ(
                upstream, SWARMSTREAM_DATA_DIR=str(tmp_path / "data"), SWARMSTREAM_DRAIN_SECONDS="1"
            )
            async with server_process(environ=environ) as server, client(server.url) as http:
                async with anyio.create_task_group() as tasks:
                    for name in payloads:
                        tasks.start_soon(follow, http, name)
                    for _ in payloads:
                        await speaking.acquire()
                    server.process.send_signal(signal.SIGTERM)
                    await server.logged("Stopping")
                    finishing.set()
                assert await server.stopped(5) == 0
            assert "Traceback" not in server.log
            stopped.set()
            async with server_process(environ=environ) as server:
                rest = await read(server.url, paths["goes on"], seen["goes on"][-1].id or 0)
                ended = await read(server.url, paths["ends"])
    assert cut == ["goes on"], "its reader was let go, and knows"
    assert [event.event for event in seen["goes on"]][-1] == "chunk"
    assert not [event for event in seen["goes on"] if event.event in ("agent_end", "error", "end")]
    assert (seen["ends"][-1].event, seen["ends"][-1].data["status"]) == ("end", "interrupted")
    assert (seen["finishes"][-1].event, seen["finishes"][-1].data["status"]) == ("end", "success")
    assert ended == seen["ends"]
    assert rest[0].event == "turn_restart"
    assert rest[-1].data["status"] == "success"
    assert fold([*seen["goes on"], *rest]) == {1: "A1 ", 2: "B1 ", 3: "C1 "}


@pytest.mark.noisy
async def test_a_run_whose_model_is_gone_after_the_restart_fails(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("word ")
        await anyio.sleep_forever()

    with anyio.fail_after(30):
        async with provider(script) as upstream:
            environ = openai_environ(upstream, SWARMSTREAM_DATA_DIR=str(tmp_path / "data"))
            async with (
                server_process(environ=environ) as server,
                client(server.url) as http,
                http.stream("POST", SWARM, json=TEAM) as response,
            ):
                path = response.headers["location"]
                async for event in events_of(response):
                    if event.event == "chunk":
                        break
                server.process.send_signal(signal.SIGKILL)
            del environ["OPENAI_API_KEY"]
            async with server_process(environ=environ) as server, client(server.url) as http:
                events = await read(server.url, path)
                run = (await http.get(path.removesuffix("/stream"))).json()
    assert [event.event for event in events][-3:] == ["error", "usage", "end"]
    assert "the run cannot go on" in events[-3].data["error"]
    assert (events[-1].data["status"], run["status"]) == ("failed", "failed")
