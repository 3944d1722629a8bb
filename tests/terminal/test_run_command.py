"""`swarmstream run` against a real server, from its arguments to its exit code."""

import json
import re
from pathlib import Path

import anyio
import pytest

from tests.conftest import KEY
from tests.fakes.local_models import local_models
from tests.fakes.upstream import Exchange, hello, provider
from tests.terminal.command import AGENT, own_provider, run, running

pytestmark = pytest.mark.anyio


async def test_piped_output_is_plain_text_and_a_success_exits_0(swarm: str, tmp_path: Path) -> None:
    async with provider(hello) as upstream, local_models(upstream, tmp_path) as url:
        ran = await run(swarm, "--server", url, SWARMSTREAM_KEY=KEY)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert sorted(lines[:2]) == ["A: A says hello", "B: B says hello"]
    assert lines[2:] == ["--- C ---", "C says hello", ""]
    assert re.fullmatch(r"\[success · 30 tokens · \$0\.000039 · \d+\.\d s\]\n", ran.err)
    assert "\x1b" not in ran.out


async def test_a_task_is_answered_by_one_agent_and_the_answer_can_be_had_alone() -> None:
    async with provider(hello) as upstream:
        ran = await run("Why do cats purr?", "--model", "gpt-4.1", "--output", "last", **own_provider(upstream))
    [exchange] = upstream.exchanges
    assert exchange.body["model"] == "gpt-4.1"
    assert exchange.body["messages"][-1] == {"role": "user", "content": "Why do cats purr?"}
    assert (ran.code, ran.out) == (0, f"{exchange.system} says hello\n")
    assert re.fullmatch(r"\[success · .*\]\n", ran.err)


async def test_the_model_option_is_for_every_agent(swarm: str) -> None:
    async with provider(hello) as upstream:
        ran = await run(swarm, "--model", "gpt-4.1", **own_provider(upstream))
    assert ran.code == 0, ran.err
    assert [exchange.body["model"] for exchange in upstream.exchanges] == ["gpt-4.1"] * 3


async def test_json_output_is_one_frame_per_line(agent: str, tmp_path: Path) -> None:
    async with provider(hello) as upstream, local_models(upstream, tmp_path) as url:
        ran = await run(agent, "--server", f"{url}/", "--key", KEY, "--json")
    assert (ran.code, ran.err) == (0, "")
    frames = [json.loads(line) for line in ran.out.splitlines()]
    assert all(list(frame) == ["id", "event", "data"] for frame in frames)
    assert [frame["id"] for frame in frames] == list(range(1, len(frames) + 1))
    assert frames[0]["data"]["job_id"].startswith("agent-"), "an agent_config goes to the agent route"
    assert [frame["data"]["content"] for frame in frames if frame["event"] == "chunk"] == ["A says ", "hello"]
    assert all("output" not in frame["data"] for frame in frames if frame["event"] == "chunk")
    assert frames[-1]["event"] == "end"


async def test_the_payload_comes_from_standard_input_and_the_task_from_the_command_line(tmp_path: Path) -> None:
    payload = b"\xef\xbb\xbf" + json.dumps({**AGENT, "stream_options": {"coalesce_ms": 10}}).encode()
    async with provider(hello) as upstream, local_models(upstream, tmp_path) as url:
        ran = await run("-", "--task", "another task", "--server", url, "--key", KEY, stdin=payload)
    assert ran.code == 0
    assert upstream.exchanges[0].body["messages"][-1]["content"] == "another task"


@pytest.mark.noisy
async def test_a_run_that_fails_exits_1_and_says_why(agent: str, tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.refuse(401, b"{}")

    async with provider(script) as upstream, local_models(upstream, tmp_path) as url:
        ran = await run(agent, "--server", url, "--key", KEY)
    assert ran.code == 1
    assert "(provider_auth)]" in ran.out
    assert ran.err.startswith("[failed (A) · ")


async def test_on_a_terminal_panels_are_drawn_and_the_cursor_comes_back(swarm: str, tmp_path: Path) -> None:
    drawn = anyio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say(f"{exchange.system} says ")
        await drawn.wait()
        await exchange.say("hello")
        await exchange.finish()

    async with (
        provider(script) as upstream,
        local_models(upstream, tmp_path) as url,
        running(swarm, "--server", url, "--key", KEY, on_terminal=True) as ran,
    ):
        await ran.shows("╭─.* A .*╮.*╭─.* B .*╮\x1b\\[0m.*\r\n.* A says .* B says ")
        drawn.set()
        result = await ran.ended(20)
        await ran.shows(r"(?s)\x1b\[\?25h.*success · 30 tokens · \$")
    assert result.code == 0
    assert ran.out.count("\x1b[?25l") == ran.out.count("\x1b[?25h") == 1
    for name in "ABC":
        assert f" {name} says hello " in ran.out


async def test_a_dumb_terminal_gets_plain_text(agent: str, tmp_path: Path) -> None:
    async with (
        provider(hello) as upstream,
        local_models(upstream, tmp_path) as url,
        running(agent, "--server", url, "--key", KEY, on_terminal=True, TERM="dumb") as ran,
    ):
        await ran.shows("success · ")
        assert (await ran.ended()).code == 0
    assert "--- A ---\r\nA says hello" in ran.out
    assert "\x1b" not in ran.out
