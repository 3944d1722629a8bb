"""`swarmstream run` without a server."""

import json
import signal
import subprocess
import sys
from typing import Any

import anyio
import pytest

from tests.fakes.upstream import Exchange, hello, provider
from tests.terminal.command import AGENT, own_provider, run, running

pytestmark = pytest.mark.anyio


async def test_without_a_server_the_swarm_runs_in_this_process(swarm: str) -> None:
    async with provider(hello) as upstream:
        ran = await run(swarm, "--json", **own_provider(upstream))
    assert (ran.code, ran.err) == (0, "")
    frames = [json.loads(line) for line in ran.out.splitlines()]
    assert [frame["id"] for frame in frames] == list(range(1, len(frames) + 1))
    assert [output["content"] for output in frames[-1]["data"]["output"]] == [f"{name} says hello" for name in "ABC"]
    assert all("output" not in frame["data"] for frame in frames if frame["event"] == "chunk")


async def test_the_demo_model_needs_neither_a_server_nor_a_key() -> None:
    payload: dict[str, Any] = {**AGENT, "agent_config": {**AGENT["agent_config"], "max_tokens": 12}}
    ran = await run("-", stdin=json.dumps(payload).encode(), SWARMSTREAM_DEFAULT_MODEL="demo/swarm")
    assert ran.code == 0
    assert ran.out.startswith("--- A ---\nThis is swarmstream's built-in demo model")


async def test_a_run_in_this_process_is_refused_as_by_a_server(agent: str) -> None:
    ran = await run(agent)
    assert (ran.code, ran.out) == (1, "")
    assert "OPENAI_API_KEY" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("on_terminal", [False, True], ids=["pipe", "terminal"])
async def test_ctrl_c_cancels_a_run_in_this_process_up_to_its_end(on_terminal: bool, swarm: str) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("word\n")
        await anyio.sleep_forever()

    async with (
        provider(script) as upstream,
        running(swarm, "--verbose", on_terminal=on_terminal, **own_provider(upstream)) as ran,
    ):
        await ran.shows("word(?s:.*)word")
        if on_terminal:
            ran.press(b"\x03")
        else:
            ran.process.send_signal(signal.SIGINT)
        result = await ran.ended()
        await ran.shows(r"cancelled( \(.*\))? · ~?\d+ tokens? · ", "out" if on_terminal else "err")
        with anyio.fail_after(30):
            await upstream.idle()
    assert result.code == 130
    assert all(exchange.closed_by_client.is_set() for exchange in upstream.exchanges)
    assert ran.out.count("word") >= 2, "what had been said is shown"
    assert ran.out.count("\x1b[?25l") == ran.out.count("\x1b[?25h") == int(on_terminal)
    assert "Traceback" not in ran.out + ran.err


def test_the_command_line_starts_without_rich_and_httpx() -> None:
    code = "import swarmstream.cli.program, sys; sys.exit('rich.live' in sys.modules or 'httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
