"""The guide to streams of agents: its samples print what models send while they send it."""

import re
from pathlib import Path

import anyio
import pytest

from tests.fakes.upstream import Exchange
from tests.library.play import HELLO, SAMPLES, Held, call, playing, tool_results

pytestmark = pytest.mark.anyio


def test_every_sample_is_run_here() -> None:
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_guides_of_*.py"))
    played = set(re.findall(r'(?:playing\(|\["?|, )"([a-z_]+)"', tests))
    assert {path.stem for path in SAMPLES.glob("*.py")} <= played


async def test_agent_streaming_sync_prints_the_tool_call_turn_and_the_synthesis_as_they_come(tmp_path: Path) -> None:
    called, summed_up = anyio.Event(), anyio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        if not tool_results(exchange):
            await exchange.say("Let me ", "add. ")
            await called.wait()
            await call(exchange, "add", a=17, b=25)
        else:
            await exchange.say("It is ")
            await summed_up.wait()
            await exchange.say(tool_results(exchange)[0], ".")
            await exchange.finish()

    async with playing("agent_sync", script, tmp_path) as play:
        await play.shows("Let me add. ")
        called.set()
        await play.shows("It is ")
        summed_up.set()
        assert await play.ended() == "Let me add. It is 42."
    first, second = play.upstream.exchanges
    assert [tool["function"]["name"] for tool in first.body["tools"]] == ["add"]
    assert tool_results(second) == ["42"], "once"
    assert first.body["model"] == "gpt-4.1-mini"


async def test_agent_streaming_async_prints_as_tokens_come(tmp_path: Path) -> None:
    async with playing("agent_async", script := Held(), tmp_path) as play:
        await play.shows("alpha ")
        script.go.set()
        assert await play.ended() == HELLO


async def test_agent_streaming_auto_prints_plan_execution_and_summary_as_they_come(tmp_path: Path) -> None:
    planned, worked, summed_up = anyio.Event(), anyio.Event(), anyio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        offered = {tool["function"]["name"] for tool in exchange.body.get("tools", ())}
        if "create_plan" in offered:
            await exchange.say("I plan. ")
            await planned.wait()
            await call(exchange, "create_plan", subtasks=[{"id": "s1", "title": "add them", "depends_on": []}])
        elif "add" in offered and len(tool_results(exchange)) < 2:
            await exchange.say("I add. ")
            await worked.wait()
            await call(exchange, "add", a=99, b=1)
        elif "subtask_done" in offered:
            await call(exchange, "subtask_done", result=tool_results(exchange)[-1])
        else:
            await exchange.say("It is ")
            await summed_up.wait()
            await exchange.say(f"{tool_results(exchange)[1]}.")
            await exchange.finish()

    async with playing("agent_auto", script, tmp_path) as play:
        for text, go_on in (("I plan. ", planned), ("I add. ", worked), ("It is ", summed_up)):
            await play.shows(text)
            go_on.set()
        assert await play.ended() == "I plan. I add. It is 100."
    assert len(play.upstream.exchanges) == 4
