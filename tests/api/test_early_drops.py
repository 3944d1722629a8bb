"""A reader that is dropped before the end notices it, however the connection ends: a clean end would mean success."""

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import requests

from swarmstream.api.connection.socket_options import set_user_timeout
from tests.clients.nginx import nginx_before
from tests.clients.process import ServerProcess, openai_environ, server_process
from tests.clients.raw import GET, payload, post, raw_client, status_of
from tests.clients.sse import Parser
from tests.conftest import KEY, client, serving
from tests.fakes.clock import DrivenClock
from tests.fakes.scripted_model import ScriptedModel
from tests.fakes.upstream import Exchange, provider

pytestmark = pytest.mark.anyio

SPOKEN = 20
RUN: dict[str, Any] = {
    "agent_config": {"agent_name": "A", "model_name": "gpt-4.1"},
    "task": "go",
    "stream": True,
    "on_disconnect": "continue",
}


async def _speak_and_wait(exchange: Exchange) -> None:
    await exchange.open()
    await exchange.say(*(f"word{number} " for number in range(SPOKEN)))
    await anyio.sleep_forever()


@asynccontextmanager
async def stopping_server(tmp_path: Path) -> AsyncGenerator[ServerProcess]:
    """Run a server that hands its run over as soon as it is stopped."""
    async with provider(_speak_and_wait) as upstream:
        environ = openai_environ(upstream, SWARMSTREAM_DATA_DIR=str(tmp_path / "data"), SWARMSTREAM_DRAIN_SECONDS="0")
        async with server_process(environ=environ) as server:
            yield server
            assert "Traceback" not in server.log


def _all_words(body: bytes) -> bool:
    return body.count(b"event: chunk") == SPOKEN and body.endswith(b"\n\n")


async def _read_until_it_breaks(url: str, server: ServerProcess) -> bytes:
    """Return what an httpx client gets of a stream whose server is stopped in the middle; assert that it breaks off."""
    body = b""

    async def read_on(response: httpx.Response) -> None:
        nonlocal body
        async for content in response.aiter_bytes():
            body += content
            if _all_words(body):
                server.process.send_signal(signal.SIGTERM)

    async with client(url) as http, http.stream("POST", "/v1/agent/completions", json=RUN) as response:
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await read_on(response)
    return body


@pytest.mark.promise("W-58")
async def test_httpx_notices_that_a_server_stopped(tmp_path: Path) -> None:
    with anyio.fail_after(60):
        async with stopping_server(tmp_path) as server:
            assert _all_words(await _read_until_it_breaks(server.url, server))


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
async def test_httpx_notices_a_stopped_server_through_nginx_with_http_1_0(tmp_path: Path, free_tcp_port: int) -> None:
    with anyio.fail_after(60):
        async with stopping_server(tmp_path) as server, nginx_before(server.url, free_tcp_port, tmp_path) as proxy_url:
            assert _all_words(await _read_until_it_breaks(proxy_url, server))


@pytest.mark.promise("W-58")
async def test_requests_notices_that_a_server_stopped(tmp_path: Path) -> None:
    def read(server: ServerProcess) -> bytes:
        body = b""
        response = requests.post(
            server.url + "/v1/agent/completions", json=RUN, headers={"x-api-key": KEY}, stream=True, timeout=30
        )
        try:
            for content in response.iter_content(None):
                body += content
                if _all_words(body):
                    server.process.send_signal(signal.SIGTERM)
        except requests.RequestException:
            return body
        pytest.fail("a clean end")

    with anyio.fail_after(60):
        async with stopping_server(tmp_path) as server:
            assert _all_words(await asyncio.to_thread(read, server))


async def test_a_client_of_http_1_0_is_reset_after_the_bytes_that_were_sent(tmp_path: Path) -> None:
    with anyio.fail_after(60):
        async with stopping_server(tmp_path) as server, raw_client(server.url) as raw:
            await raw.send(_http_1_0(payload(stream=True).replace(b"demo/A", b"gpt-4.1"), on_disconnect=True))
            body = await raw.read_until(b"word%d " % (SPOKEN - 1))
            server.process.send_signal(signal.SIGTERM)
            rest, was_reset = await raw.rest()
    assert was_reset
    assert _all_words(body + rest)


def _http_1_0(body: bytes, *, on_disconnect: bool = False) -> bytes:
    if on_disconnect:
        body = body[:-1] + b', "on_disconnect": "continue"}'
    return post(body).replace(b" HTTP/1.1", b" HTTP/1.0")


async def test_a_client_of_http_1_0_gets_no_chunks_and_a_clean_end_at_the_end() -> None:
    async with serving(models={"demo": ScriptedModel({"A": ["a1", "a2"]})}) as url:
        with anyio.fail_after(30):
            async with raw_client(url) as raw:
                await raw.send(_http_1_0(payload(stream=True)))
                answer, was_reset = await raw.rest()
            async with raw_client(url) as raw:
                await raw.send(_http_1_0(payload()))
                document, _ = await raw.rest()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status_of(answer) == 200
    assert b"transfer-encoding" not in head
    assert not was_reset
    events = list(Parser().feed(body))
    assert [event.event for event in events][-1] == "end"
    assert body.startswith(b"retry: 3000\n")
    assert b"content-length: " in document


async def test_a_client_that_resets_a_stream_with_a_pipelined_request_counts_as_disconnected() -> None:
    """uvicorn informs the newest request only, and writes to a closed handle would go on."""
    model = ScriptedModel({"A": ["a1", "a2"]}, order="AXA")
    async with serving(models={"demo": model}, disconnect_grace_seconds=0.0) as url, client(url) as http:
        with anyio.fail_after(30):
            async with raw_client(url) as raw:
                await raw.send(post(payload(stream=True)) + GET + b"\r\n")
                answer = await raw.read_until(b"event: agent_start")
                raw.reset()
            path = answer.partition(b"location: ")[2].partition(b"/stream")[0].decode()
            async with http.stream("GET", f"{path}/stream") as response:
                events = await response.aread()
    assert b'"status":"cancelled"' in events


def _long_answer() -> ScriptedModel:
    """An answer larger than sockets hold."""
    return ScriptedModel({"A": ["x" * (1 << 19)] * 24})


LONG = 24 << 19


async def test_a_json_answer_that_is_not_read_is_reset() -> None:
    clock = DrivenClock()
    async with serving(models={"demo": _long_answer()}, clock=clock, send_seconds=30.0) as url:
        with anyio.fail_after(60):
            async with raw_client(url) as raw:
                await raw.send(post(payload()))
                await clock.waiting(30)
                await clock.advance(30)
                answer, was_reset = await raw.rest()
    assert was_reset
    assert status_of(answer) == 200
    assert len(answer) < LONG


async def test_a_client_that_reads_a_json_answer_slowly_gets_it_whole() -> None:
    clock = DrivenClock()
    async with serving(models={"demo": _long_answer()}, clock=clock, send_seconds=30.0) as url:
        with anyio.fail_after(60):
            async with raw_client(url) as raw:
                await raw.send(post(payload(), b"connection: close"))
                await clock.waiting(30)
                await clock.advance(29)
                answer = await raw.read(LONG // 2)
                await clock.advance(29)
                rest, was_reset = await raw.rest()
    assert not was_reset
    assert len(answer + rest) > LONG


@pytest.mark.skipif(sys.platform != "linux", reason="a Linux option")
async def test_accepted_connections_inherit_the_tcp_user_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        set_user_timeout([listener], 2.5)
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2500


@asynccontextmanager
async def _network_of_its_own() -> AsyncGenerator[tuple[str, str, str]]:
    """Yield a network namespace, our address in front of it, and the name of its end of the cable."""
    name, ours, theirs = (f"{kind}{os.getpid()}" for kind in ("ss", "sa", "sb"))
    prefix = f"10.{200 + os.getpid() % 50}.{os.getpid() % 250}"
    commands = [
        f"netns add {name}",
        f"link add {ours} type veth peer name {theirs} netns {name}",
        f"addr add {prefix}.1/24 dev {ours}",
        f"link set {ours} up",
        f"-n {name} addr add {prefix}.2/24 dev {theirs}",
        f"-n {name} link set {theirs} up",
    ]
    try:
        for command in commands:
            await anyio.run_process(["ip", *command.split()])
        yield name, f"{prefix}.1", theirs
    finally:
        await anyio.run_process(["ip", "netns", "del", name], check=False)


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None, reason="makes a network namespace"
)
async def test_a_client_whose_network_is_gone_counts_as_disconnected() -> None:
    """No packet announces it; only acknowledgements are missing."""
    quiet = payload(stream=True).replace(b"demo/A", b"gpt-4.1")
    read = "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
    read += f"s.sendall({post(quiet)!r})\nwhile b'word19' not in (got := s.recv(65536)): pass\n"
    read += "print('all read', flush=True)\nsys.stdin.read()"
    settings = {
        "SWARMSTREAM_SEND_SECONDS": "0.5",
        "SWARMSTREAM_HEARTBEAT_SECONDS": "0.2",
        "SWARMSTREAM_DISCONNECT_GRACE_SECONDS": "0",
    }
    with anyio.fail_after(60):
        async with (
            _network_of_its_own() as (namespace, address, cable),
            provider(_speak_and_wait) as upstream,
            server_process("--host", address, environ=openai_environ(upstream, **settings)) as server,
        ):
            command = ["ip", "netns", "exec", namespace, sys.executable, "-c", read, address, server.url.split(":")[-1]]
            async with await anyio.open_process(command) as reader:
                assert reader.stdout is not None
                assert await reader.stdout.receive() == b"all read\n"
                await anyio.run_process(["ip", "-n", namespace, "link", "set", cable, "down"])
                await upstream.exchanges[0].closed_by_client.wait()
                reader.kill()
