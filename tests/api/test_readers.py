"""Readers cost the run nothing: one that reads nothing is dropped, and can resume (docs/wire.md, section 5)."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from tests.clients.process import memory_bytes, openai_environ, server_process
from tests.clients.sse import Parser, ServerEvent, check_stream, events_of
from tests.conftest import KEY, client, serving
from tests.fakes.clock import DrivenClock
from tests.fakes.upstream import Exchange, Upstream, provider

pytestmark = pytest.mark.anyio

PIECE = "x" * 2000
PIECES = 4000
"""Eight megabytes of text: more than sockets hold between two processes."""
PAYLOAD: dict[str, Any] = {
    "task": "go",
    "agents": [{"agent_name": "A", "system_prompt": "A", "num_retries": 0}],
    "stream": True,
    "stream_options": {"include_output": False},
    "on_disconnect": "continue",
}
MEGABYTE = 1 << 20


class Talker:
    """A provider that sends half of a long answer, waits for `go_on`, sends the rest."""

    def __init__(self, pieces: int = PIECES) -> None:
        self.pieces = pieces
        self.half_sent = anyio.Event()
        self.go_on = anyio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say(*[PIECE] * (self.pieces // 2))
        self.half_sent.set()
        await self.go_on.wait()
        await exchange.say(*[PIECE] * (self.pieces // 2))
        await exchange.finish()


@asynccontextmanager
async def server(upstream: Upstream, clock: DrivenClock, **settings: Any) -> AsyncGenerator[httpx.AsyncClient]:
    environ = openai_environ(upstream)
    async with serving(environ=environ, clock=clock, idle_seconds=10_000, **settings) as url, client(url) as http:
        yield http


@pytest.fixture(autouse=True)
def _all_is_logged(caplog: pytest.LogCaptureFixture) -> None:  # pyright: ignore[reportUnusedFunction]
    caplog.set_level("INFO")


class Staller:
    """A client that sends a request and then reads nothing."""

    def __init__(self, url: str) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.setblocking(False)
        self._port = int(url.rpartition(":")[2])

    async def ask(self, head: str, body: bytes = b"") -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, ("127.0.0.1", self._port))
        lines = f"{head} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
        await loop.sock_sendall(self._socket, lines.encode() + body)

    async def is_served(self) -> None:
        """Wait until something has arrived."""
        await anyio.wait_readable(self._socket)

    async def take(self) -> bytes:
        """Return what has arrived, and what arrives until the connection breaks or ends."""
        taken = b""
        try:
            while content := await asyncio.get_running_loop().sock_recv(self._socket, 65536):
                taken += content
        except ConnectionResetError:
            pass
        return taken

    def close(self) -> None:
        self._socket.close()


async def seconds_until_dropped(clock: DrivenClock, log: pytest.LogCaptureFixture, request: str) -> float:
    """Let time pass until the server's log has the line of a request; return the seconds that it took."""
    began = clock.now()
    with anyio.fail_after(60):
        while f"{request} 200" not in log.text:
            await clock.advance(0.1)
    return clock.now() - began


def events_in(taken: bytes) -> list[ServerEvent]:
    """Return the whole events of a chunked answer that may break off anywhere."""
    _, _, body = taken.partition(b"\r\n\r\n")
    parser, events = Parser(), list[ServerEvent]()
    while body:
        length, crlf, body = body.partition(b"\r\n")
        if crlf and length:
            events += parser.feed(body[: int(length, 16)])
            body = body[int(length, 16) + 2 :]
    return events


async def read_on(http: httpx.AsyncClient, path: str, after: int = 0) -> list[ServerEvent]:
    async with http.stream("GET", path, headers={"Last-Event-ID": str(after)}) as response:
        assert response.status_code == 200, await response.aread()
        return [event async for event in events_of(response)]


async def test_a_stalled_reader_is_dropped_and_can_resume_while_others_read_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    talker, clock = Talker(), DrivenClock()
    with anyio.fail_after(120):
        async with provider(talker) as upstream, server(upstream, clock, send_seconds=30) as http:
            async with http.stream("POST", "/v1/swarm/completions", json=PAYLOAD) as response:
                path = response.headers["location"]
                staller = Staller(str(http.base_url))
                await staller.ask(f"GET {path}")
                talker.go_on.set()
                events = [event async for event in events_of(response)]
            check_stream(events)
            assert events[-1].data["status"] == "success", "the run has not waited for the one who takes nothing"
            assert await seconds_until_dropped(clock, caplog, f"GET {path}") > 29.9, (
                "although he has neither read nor left"
            )
            seen = events_in(await staller.take())
            staller.close()
            assert seen == events[: len(seen)]
            assert 0 < len(seen) < len(events)
            last = seen[-1].id
            assert last is not None
            rest = await read_on(http, path, last)
    assert seen + rest == events


async def test_a_reader_that_stalls_after_a_silence_is_dropped_as_soon(caplog: pytest.LogCaptureFixture) -> None:
    """The first check of the send watch comes while nothing waits, and the next heartbeat is far off."""
    quiet = anyio.Event()
    clock = DrivenClock()
    talker = Talker()
    talker.go_on.set()

    async def script(exchange: Exchange) -> None:
        await quiet.wait()
        await talker(exchange)

    with anyio.fail_after(120):
        async with (
            provider(script) as upstream,
            server(upstream, clock, send_seconds=10, heartbeat_seconds=1000, first_token_seconds=1000) as http,
        ):
            payload = {**PAYLOAD, "stream": False, "background": True}
            path = (await http.post("/v1/swarm/completions", json=payload)).headers["location"]
            staller = Staller(str(http.base_url))
            await staller.ask(f"GET {path}")
            await staller.is_served()
            await clock.advance(100)
            assert f"GET {path} 200" not in caplog.text, "so long he has had nothing to take"
            quiet.set()
            while (await http.get(path.removesuffix("/stream"))).json()["status"] != "success":
                pass
            assert await seconds_until_dropped(clock, caplog, f"GET {path}") < 100, "long before the next beat"
            staller.close()


async def test_a_stalled_client_that_posted_the_run_counts_as_disconnected(caplog: pytest.LogCaptureFixture) -> None:
    """The run is cancelled after the grace, as that of a client that has disconnected."""
    talker, clock = Talker(), DrivenClock()
    payload = {**PAYLOAD, "on_disconnect": "cancel"}
    with anyio.fail_after(120):
        async with (
            provider(talker) as upstream,
            server(upstream, clock, send_seconds=10, disconnect_grace_seconds=8) as http,
        ):
            staller = Staller(str(http.base_url))
            await staller.ask("POST /v1/swarm/completions", json.dumps(payload).encode())
            await talker.half_sent.wait()
            await seconds_until_dropped(clock, caplog, "POST /v1/swarm/completions")
            [run] = (await http.get("/v1/runs")).json()["data"]
            assert run["status"] == "running", "he might come back"
            await clock.advance(8)
            await upstream.exchanges[0].closed_by_client.wait()
            [run] = (await http.get("/v1/runs")).json()["data"]
            staller.close()
    assert run["status"] == "cancelled"


async def test_stalled_readers_hold_no_memory() -> None:
    """Twenty of them, of an answer of eight megabytes, with `output` in every chunk: that would be gigabytes."""
    talker = Talker()
    talker.go_on.set()
    with anyio.fail_after(120):
        async with (
            provider(talker) as upstream,
            server_process(environ=openai_environ(upstream, SWARMSTREAM_SEND_SECONDS="120")) as process,
            client(process.url) as http,
        ):
            payload = {**PAYLOAD, "stream": False, "background": True}
            path = (await http.post("/v1/swarm/completions", json=payload)).headers["location"]
            assert (await read_on(http, path))[-1].data["status"] == "success"
            stallers = [Staller(process.url) for _ in range(20)]
            before = memory_bytes(process)
            for staller in stallers:
                await staller.ask(f"GET {path}?include_output=false")
            for _ in range(20):  # every one of them has its turn, again and again
                await http.get("/health")
                await http.get(path.removesuffix("/stream"))
            grown = memory_bytes(process) - before
            for staller in stallers:
                staller.close()
    assert grown / len(stallers) < MEGABYTE, "two buffers of a quarter of a megabyte, at most"


async def test_a_slow_reader_that_reads_a_little_now_and_then_is_kept() -> None:
    talker, clock = Talker(200), DrivenClock()
    with anyio.fail_after(60):
        async with (
            provider(talker) as upstream,
            server(upstream, clock, send_seconds=20, heartbeat_seconds=5) as http,
            http.stream("POST", "/v1/swarm/completions", json=PAYLOAD) as response,
        ):
            parser, events = Parser(), list[ServerEvent]()
            async for content in response.aiter_raw():
                events += parser.feed(content)
                if parser.comments >= 8:  # silence of twice the time that a reader may take nothing
                    talker.go_on.set()
                elif talker.half_sent.is_set():
                    await clock.advance(5)
    check_stream(events)
    assert parser.comments >= 8
    assert events[-1].data["status"] == "success"
