"""SIGTERM: every open stream gets its end, and the process exits in time (docs/wire.md, section 5)."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.clients.process import OPENAI_KEY, ServerProcess, openai_environ, server_process
from tests.clients.sse import ServerEvent, check_stream, events_of
from tests.conftest import KEY, client
from tests.fakes.upstream import Exchange, provider

pytestmark = pytest.mark.anyio

STREAMS = 50
PAYLOAD = {"agent_config": {"agent_name": "A", "model_name": "gpt-4.1"}, "task": "go", "stream": True}


async def _one_word_and_silence(exchange: Exchange) -> None:
    await exchange.open()
    await exchange.say("word")
    await anyio.sleep_forever()


async def test_clients_that_neither_read_nor_send_do_not_delay_the_exit() -> None:
    """One client stops reading in the middle of a long answer, one never sends the rest of its body."""

    async def endless(exchange: Exchange) -> None:
        await exchange.open()
        while True:
            await exchange.say("x" * 10_000)

    async with provider(endless) as upstream:
        environ = openai_environ(upstream, SWARMSTREAM_DRAIN_SECONDS="0")
        async with server_process("--preload", environ=environ) as server:
            body = json.dumps(PAYLOAD).encode()
            writers = [
                await _post(server.url, length=len(body), sent=body),
                await _post(server.url, length=1000, sent=b"{"),
            ]
            with anyio.fail_after(30):
                await upstream.asked(1)
            server.process.send_signal(signal.SIGTERM)
            assert await server.stopped(30) == 0
            for writer in writers:
                writer.transport.abort()
    assert "Traceback" not in server.log
    assert "ERROR" not in server.log


async def _post(url: str, *, length: int, sent: bytes) -> asyncio.StreamWriter:
    """Send a request and do not read its answer."""
    _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]), limit=1024)
    head = f"POST /v1/agent/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: {length}\r\n\r\n"
    writer.write(head.encode() + sent)
    await writer.drain()
    return writer


async def test_a_second_interrupt_does_not_wait_for_the_drain() -> None:
    environ = {"SWARMSTREAM_DRAIN_SECONDS": "60", "SWARMSTREAM_IDLE_SECONDS": "60"}
    payload = {"agents": [{"agent_name": "A"}], "task": "go", "max_loops": 100, "stream": True}
    async with server_process("--dev", environ=environ) as server:
        key = (await server.printed("  key:")).split()[1]
        async with client(server.url, key=key) as http:
            with anyio.fail_after(30):
                events = await _interrupt_twice(server, http, payload)
            assert await server.stopped(30) == 0
    check_stream(events)
    assert events[-1].data["status"] == "interrupted"
    assert "Traceback" not in server.log


async def test_a_tool_that_never_returns_does_not_delay_the_exit(tmp_path: Path) -> None:
    """A thread cannot be ended: the process leaves it."""
    (tmp_path / "ours.py").write_text(
        "import sys, time\n\ndef hang() -> str:\n"
        '    """Hang."""\n    print("hanging", file=sys.stderr, flush=True)\n    time.sleep(3600)\n    return ""\n'
    )

    async def call_it(exchange: Exchange) -> None:
        await exchange.open()
        function = {"name": "hang", "arguments": "{}"}
        await exchange.delta(tool_calls=[{"index": 0, "id": "call_0", "type": "function", "function": function}])
        await exchange.finish("tool_calls")

    agent = {"agent_name": "A", "model_name": "gpt-4.1", "selected_tools": ["hang"], "max_loops": 2}
    async with provider(call_it) as upstream:
        environ = openai_environ(upstream, PYTHONPATH=str(tmp_path), SWARMSTREAM_TOOLS="ours:hang")
        environ["SWARMSTREAM_DRAIN_SECONDS"] = "0"
        async with server_process("--preload", environ=environ) as server, client(server.url) as http:
            async with http.stream(
                "POST", "/v1/agent/completions", json={**PAYLOAD, "agent_config": agent}
            ) as response:
                events: list[ServerEvent] = []
                async for event in events_of(response):
                    events.append(event)
                    if event.event == "tool_start":
                        await server.logged("hanging")
                        server.process.send_signal(signal.SIGTERM)
            assert await server.stopped(30) == 0
    check_stream(events)
    assert events[-1].data["status"] == "interrupted"
    assert "Traceback" not in server.log


async def _interrupt_twice(
    server: ServerProcess, http: httpx.AsyncClient, payload: dict[str, Any]
) -> list[ServerEvent]:
    """Ctrl-C at the first token, and again once the server has begun to stop."""
    events: list[ServerEvent] = []
    async with http.stream("POST", "/v1/swarm/completions", json=payload) as response:
        async for event in events_of(response):
            events.append(event)
            if [earlier.event for earlier in events].count("chunk") == 1 and event.event == "chunk":
                server.process.send_signal(signal.SIGINT)
                await server.logged("Stopping")
                server.process.send_signal(signal.SIGINT)
    return events


@pytest.mark.promise("W-78", "W-79")
async def test_fifty_open_streams_get_fifty_ends() -> None:
    streams: list[list[ServerEvent]] = [[] for _ in range(STREAMS)]
    speaking = anyio.Semaphore(0)

    async def read(http: httpx.AsyncClient, events: list[ServerEvent]) -> None:
        async with http.stream("POST", "/v1/agent/completions", json=PAYLOAD) as response:
            async for event in events_of(response):
                events.append(event)
                if event.event == "chunk":
                    speaking.release()

    async with provider(_one_word_and_silence) as upstream:
        environ = openai_environ(upstream, SWARMSTREAM_DRAIN_SECONDS="1")
        async with server_process(environ=environ) as server, client(server.url) as http:
            http.timeout = httpx.Timeout(30)
            async with anyio.create_task_group() as tasks:
                for events in streams:
                    tasks.start_soon(read, http, events)
                with anyio.fail_after(30):
                    for _ in range(STREAMS):
                        await speaking.acquire()
                server.process.send_signal(signal.SIGTERM)
                assert await server.stopped(30) == 0
        with anyio.fail_after(30):
            await upstream.idle()

    for events in streams:
        check_stream(events)
        assert [event.data["code"] for event in events if event.event == "error"] == ["interrupted"]
        assert events[-1].data["status"] == "interrupted"
        assert events[-1].data["outputs"][0]["content"] == "word"
    assert "Traceback" not in server.log
    assert "ERROR" not in server.log
    assert OPENAI_KEY not in server.log
    assert all(exchange.headers["authorization"] == f"Bearer {OPENAI_KEY}" for exchange in upstream.exchanges)


@pytest.mark.promise("W-78")
async def test_an_open_connection_is_answered_503_while_the_server_stops() -> None:
    async with provider(_one_word_and_silence) as upstream:
        environ = openai_environ(upstream, SWARMSTREAM_DRAIN_SECONDS="5")
        async with server_process("--preload", environ=environ) as server, client(server.url) as http:
            async with http.stream("POST", "/v1/agent/completions", json=PAYLOAD) as response:
                events = events_of(response)
                assert (await anext(events)).event == "metadata"
                reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
                writer.write(b"GET /health/ready HTTP/1.1\r\nhost: x\r\n\r\n")
                before = await reader.readuntil(b'"ready"}')
                server.process.send_signal(signal.SIGTERM)
                await server.logged("Stopping")
                writer.write(b"GET /health/ready HTTP/1.1\r\nhost: x\r\n\r\n")
                after = await reader.readuntil(b"unavailable")
                writer.close()
            server.process.send_signal(signal.SIGINT)
    assert before.startswith(b"HTTP/1.1 200 ")
    assert after.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in after.lower()
