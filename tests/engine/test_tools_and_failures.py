"""Turns that use tools and then fail, run out of time, or lose their client."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from swarmstream.engine.timeouts import TurnTimeouts
from swarmstream.errors import ProviderAuth, ProviderError, UpstreamTruncated
from swarmstream.events import ToolEnded
from swarmstream.llm.base import Finished, ToolCallDelta
from tests.clients.runs import AGENT, named, outline, run
from tests.clients.sse import events_of
from tests.conftest import client
from tests.engine.carrying_out import end_of, failure_of, soon, take_turn
from tests.fakes.answers import call, calling, in_turn, refusing, saying
from tests.fakes.clock import DrivenClock
from tests.fakes.local_models import local_models
from tests.fakes.scripted_model import ScriptedModel
from tests.fakes.tools import TOOLS, marks, none_under_way, under_way
from tests.fakes.upstream import provider

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["direct", "litellm"])
def lane(request: pytest.FixtureRequest) -> str:
    return request.param


CALCULATE = ToolCallDelta(0, "c1", "calculator", '{"expression": "1 + 1"}')
ACTS: dict[str, Any] = {"selected_tools": ["calculator"], "max_loops": 3}


async def test_later_calls_of_a_turn_are_retried_too() -> None:
    model = ScriptedModel({"A": [["x", CALCULATE], [soon(ProviderError)], ["two"]]})
    notes = await take_turn(model, **ACTS)
    assert (end_of(notes).status, end_of(notes).output) == ("success", "two")
    assert model.calls[1].messages == model.calls[2].messages
    assert [event.output for event in notes.events if isinstance(event, ToolEnded)] == ["2"], "the tool is not"


async def test_a_fallback_that_has_answered_stays() -> None:
    model = ScriptedModel({"A": [soon(ProviderAuth)], "B": [[CALCULATE], [soon(ProviderError)], ["two"]]})
    end = end_of(await take_turn(model, fallbacks=["B"], **ACTS))
    assert (end.status, end.model) == ("success", "B")
    assert [asked.model.target for asked in model.calls] == ["A", "B", "B", "B"]


async def test_no_fallback_takes_over_in_the_middle_of_a_turn() -> None:
    model = ScriptedModel({"A": [[CALCULATE], [soon(ProviderAuth)]], "B": ["b"]})
    notes = await take_turn(model, fallbacks=["B"], **ACTS)
    assert (failure_of(notes).failure.code, failure_of(notes).attempts) == ("provider_auth", 1)
    assert [asked.model.target for asked in model.calls] == ["A", "A"]


async def test_a_later_call_that_fails_fails_the_turn_which_keeps_its_text() -> None:
    model = ScriptedModel({"A": [["first ", CALCULATE], ["second", UpstreamTruncated("no")]]})
    notes = await take_turn(model, **ACTS)
    end = end_of(notes)
    assert (failure_of(notes).failure.code, end.status, end.output) == ("upstream_truncated", "failed", "second")
    assert end.usage.input_tokens > 10, "of both calls"
    assert end.usage.output_tokens == 2 + 2
    assert end.usage.estimated, "the second one told no figures"


@pytest.mark.promise("W-41")
@pytest.mark.noisy
async def test_a_run_that_fails_after_a_tool_reports_its_usage(lane: str, tmp_path: Path) -> None:
    script = in_turn(calling(call("add", {"a": 1, "b": 2}), text="Hm. "), refusing(400))
    agent = {"selected_tools": ["add"], "max_loops": 2}
    events, exchanges = await run(script, tmp_path, agent, settings={"lane": lane})
    assert [event.data["code"] for event in named(events, "error")] == ["provider_rejected"]
    assert len(exchanges) == 2
    assert events[-1].data["usage"]["total_tokens"] == 10


@pytest.mark.parametrize("name", ["forever", "forever_in_a_thread"])
async def test_a_turn_that_comes_to_its_deadline_cancels_its_tools(name: str, tmp_path: Path) -> None:
    script = calling(call(name, {"what": "timed"}), text="Hm. ")
    clock = DrivenClock()

    async def time_passes() -> None:
        await under_way("timed")
        await clock.advance(20)

    agent = {"selected_tools": [name], "timeout": 20}
    events, exchanges = await run(script, tmp_path, agent, settings={"clock": clock}, meanwhile=time_passes)
    assert outline(events) == ["agent_start", "chunk", "tool_start", "tool_end", "error", "agent_end"]
    ended, error, end = (event.data for event in events[-5:-2])
    assert (ended["is_error"], ended["output"]) == (True, "the call was cancelled")
    assert error["code"] == "turn_timeout"
    assert (end["status"], end["output"]) == ("failed", "Hm. ")
    assert len(exchanges) == 1
    await none_under_way("timed")


async def test_a_tool_that_ends_before_the_deadline_is_answered() -> None:
    model = ScriptedModel({"A": [[CALCULATE], ["two"]]})
    end = end_of(await take_turn(model, TurnTimeouts(turn_seconds=5), **ACTS))
    assert (end.output, end.status) == ("two", "success")


async def test_a_run_that_times_out_cancels_its_tools(tmp_path: Path) -> None:
    both = [call("forever", {"what": "r"}, index=0), call("forever_in_a_thread", {"what": "r"}, index=1)]
    agent = {"selected_tools": ["forever", "forever_in_a_thread"]}
    clock = DrivenClock()

    async def time_passes() -> None:
        await under_way("r", 2)
        await clock.advance(20)

    settings = {"clock": clock}
    events, _ = await run(calling(*both), tmp_path, agent, settings=settings, meanwhile=time_passes, timeout=20)
    assert events[-1].data["status"] == "timed_out"
    assert [event.data["is_error"] for event in named(events, "tool_end")] == [True, True]
    assert named(events, "error")[0].data["active_agents"] == ["A"]
    assert named(events, "agent_end")[0].data["status"] == "cancelled"
    await none_under_way("r")


@pytest.mark.parametrize("policy", ["cancel", "continue"])
async def test_a_client_that_hangs_up_while_tools_run(policy: str, tmp_path: Path) -> None:
    what = f"client {policy}"
    both = [call("forever", {"what": what}, index=0), call("forever_in_a_thread", {"what": what}, index=1)]
    waits = [call("meet", {"mine": "waiting", "theirs": "client is gone"})]
    script = in_turn(calling(*(both if policy == "cancel" else waits)), saying("ok"))
    agent = {"agent_name": "A", "selected_tools": ["forever", "forever_in_a_thread", "meet"], "max_loops": 2}
    payload = {"agent_config": agent, "task": "go", "stream": True, "on_disconnect": policy}
    async with (
        provider(script) as upstream,
        local_models(upstream, tmp_path, disconnect_grace_seconds=0, **TOOLS) as url,
        client(url) as http,
    ):
        with anyio.fail_after(30):
            async with http.stream("POST", AGENT, json=payload) as response:
                await anext(event async for event in events_of(response) if event.event == "tool_start")
            await anyio.wait_all_tasks_blocked()
            marks["client is gone"].set()
            await none_under_way(what)
            answer = await http.get(response.headers["location"])
    events = [line for line in answer.text.splitlines() if line.startswith("event: ")]
    assert events[-2:] == ["event: usage", "event: end"]
    assert events.count("event: tool_end") == events.count("event: tool_start")
    assert len(upstream.exchanges) == (1 if policy == "cancel" else 2), "what was cancelled asks no more"
    assert f'"status":"{"cancelled" if policy == "cancel" else "success"}"' in answer.text.splitlines()[-2]


async def test_estimated_usage_counts_the_arguments_of_tool_calls() -> None:
    model = ScriptedModel({"A": [[CALCULATE, Finished("tool_calls")], ["two"]]})
    end = end_of(await take_turn(model, **ACTS))
    assert end.usage.estimated
    assert end.usage.output_tokens >= len(CALCULATE.arguments) // 4
