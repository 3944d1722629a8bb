"""`swarmstream run` reading a stream that is cut into pieces, breaks off, or that nobody reads on."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from tests.clients.process import COMMAND
from tests.conftest import KEY
from tests.fakes.local_models import local_models
from tests.fakes.upstream import Exchange, provider
from tests.terminal.command import run
from tests.terminal.fake_server import METADATA, START, USAGE, ended, line, scripted_server

pytestmark = pytest.mark.anyio


async def test_lines_may_be_huge_come_in_pieces_and_after_heartbeats(swarm: str) -> None:
    text = "x" * 5_000_000

    async def body() -> AsyncIterator[bytes]:
        content = b"  " + line(METADATA) + b" " + line(START)
        chunk = {"id": 3, "event": "chunk", "data": {"agent": "A", "turn": 1, "content": text, "t": 1}}
        content += b" " * 3 + line(chunk) + line(USAGE) + line(ended("success"))
        for first in range(0, len(content), 100_001):
            yield content[first : first + 100_001]

    async with scripted_server(body) as url:
        ran = await run(swarm, "--server", url)
    assert ran.code == 0
    assert ran.out.count("x") == len(text)


async def test_a_stream_that_breaks_off_exits_1_and_says_so(swarm: str) -> None:
    async def breaks_off(rest: bytes) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield line(METADATA) + line(START) + rest

        async with scripted_server(body) as url:
            ran = await run(swarm, "--server", url)
        assert ran.code == 1
        assert "broke off" in ran.err or "no frame" in ran.err
        assert "Traceback" not in ran.err
        assert ran.err.startswith("[unfinished · ")

    async with anyio.create_task_group() as tasks:
        for rest in (b"", b'{"id":3,"event":"chu', b"garbage\n", b"[]\n", b'{"event":5,"data":{}}\n'):
            tasks.start_soon(breaks_off, rest)


@pytest.mark.noisy
async def test_a_connection_that_is_reset_exits_1_and_says_so(agent: str) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open("application/x-ndjson")
        await exchange.chunk(line(METADATA))
        exchange.reset()

    async with provider(script) as upstream:
        ran = await run(agent, "--server", upstream.base_url.removesuffix("/v1"))
    assert ran.code == 1
    assert "the connection broke off" in ran.err


async def test_a_closed_pipe_ends_the_command_quietly(agent: str, tmp_path: Path) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.open()
        while True:
            await exchange.say("line\n")
            await anyio.lowlevel.checkpoint()

    for option in ("--verbose", "--json"):
        async with (
            provider(endless) as upstream,
            local_models(upstream, tmp_path, disconnect_grace_seconds=0.0) as url,
        ):
            shell = (
                f'"{COMMAND}" run "{agent}" --server {url} --key {KEY} {option} | head -n 3; echo "${{PIPESTATUS[0]}}"'
            )
            process = await asyncio.create_subprocess_exec(
                "bash",
                "-c",
                shell,
                env={"PATH": "/usr/bin:/bin"},  # with PYTHONUNBUFFERED nothing is left to be written at exit
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
            )
            with anyio.fail_after(30):
                out, err = await process.communicate()
                await upstream.idle()
        assert out.splitlines()[3] == b"141"
        assert err == b""
