"""Ctrl-C: the first cancels a run on a server, the second leaves."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.conftest import KEY
from tests.fakes.local_models import local_models
from tests.fakes.upstream import provider
from tests.terminal.command import one_word_and_silence, running
from tests.terminal.fake_server import METADATA, START, USAGE, ended, line, routes_served, scripted_server

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("on_terminal", [False, True], ids=["pipe", "terminal"])
async def test_ctrl_c_cancels_the_run_and_shows_the_usage_so_far(on_terminal: bool, agent: str, tmp_path: Path) -> None:
    async with (
        provider(one_word_and_silence) as upstream,
        local_models(upstream, tmp_path, disconnect_grace_seconds=60.0) as url,
        running(agent, "--server", url, "--key", KEY, on_terminal=on_terminal) as ran,
    ):
        await ran.shows("word")
        if on_terminal:
            ran.press(b"\x03")
        else:
            ran.process.send_signal(signal.SIGINT)
        result = await ran.ended()
        with anyio.fail_after(30):
            await upstream.exchanges[0].closed_by_client.wait()
            await ran.shows(r"cancelled( \(A\))? · ~?\d+ tokens? · ", "out" if on_terminal else "err")
    assert result.code == 130
    assert ran.out.count("\x1b[?25l") == ran.out.count("\x1b[?25h") == int(on_terminal)
    assert "Left before" not in ran.out + ran.err
    assert "Traceback" not in ran.out + ran.err


async def test_a_server_that_can_cancel_is_asked_to_and_its_last_frames_are_shown(swarm: str) -> None:
    cancelled = anyio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield line(METADATA) + line(START)
        await cancelled.wait()
        yield line(USAGE) + line(ended("cancelled"))

    def on_cancel() -> Response:
        cancelled.set()
        return Response("{}")

    async with scripted_server(body, on_cancel) as url, running(swarm, "--server", url, "--json") as ran:
        await ran.shows("agent_start")
        ran.process.send_signal(signal.SIGINT)
        await ran.shows('"end"')
        assert (await ran.ended()).code == 130
    assert "Cancelling the run" in ran.err
    assert "Left before" not in ran.err


async def test_a_server_that_cannot_cancel_is_left_at_once(swarm: str) -> None:
    gone = anyio.Event()

    async def body() -> AsyncIterator[bytes]:
        try:
            yield line(METADATA) + line(START)
            await anyio.sleep_forever()
        finally:
            gone.set()

    async with scripted_server(body) as url, running(swarm, "--server", url, "--json") as ran:
        await ran.shows("agent_start")
        ran.process.send_signal(signal.SIGTERM)
        result = await ran.ended(3)
        with anyio.fail_after(30):
            await gone.wait()
    assert result.code == 143
    assert "Left before the run's end." in ran.err


async def test_a_second_ctrl_c_leaves_at_once(swarm: str) -> None:
    asked = anyio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield line(METADATA) + line(START)
        await anyio.sleep_forever()

    def on_cancel() -> Response:
        asked.set()
        return Response("{}")

    async with scripted_server(body, on_cancel) as url, running(swarm, "--server", url, "--json") as ran:
        await ran.shows("agent_start")
        ran.process.send_signal(signal.SIGINT)
        with anyio.fail_after(30):
            await asked.wait()
        ran.process.send_signal(signal.SIGINT)
        assert (await ran.ended(3)).code == 130


async def test_ctrl_c_before_the_first_frame_leaves_at_once(swarm: str) -> None:
    asked, left = anyio.Event(), anyio.Event()

    async def silent(_: Request) -> Response:
        asked.set()
        await left.wait()
        return Response()

    async with (
        routes_served(Route("/v1/swarm/completions", silent, methods=["POST"])) as url,
        running(swarm, "--server", url) as ran,
    ):
        with anyio.fail_after(30):
            await asked.wait()
        ran.process.send_signal(signal.SIGINT)
        assert (await ran.ended(3)).code == 130
        left.set()
    assert ran.out == ""
    assert "Traceback" not in ran.err
