"""Tools that the client runs: their calls are the answer of the turn (docs/engine.md, "One turn")."""

from pathlib import Path
from typing import Any

import pytest

from swarmstream.engine.timeouts import Deadline
from swarmstream.engine.tool_calls import ToolCalls
from swarmstream.engine.toolsets import ClientTools, without_taken
from swarmstream.tools.functions import tool
from tests.clients.runs import answer_of, named, run, swarm_of
from tests.conftest import client
from tests.fakes.answers import by_agent, call, calling, calls, in_turn, offered, results, saying
from tests.fakes.clock import DrivenClock
from tests.fakes.local_models import local_models
from tests.fakes.recorder import KeptEvents
from tests.fakes.tools import add, fail, performed
from tests.fakes.upstream import Exchange, provider

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["direct", "litellm"])
def lane(request: pytest.FixtureRequest) -> str:
    return request.param


PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "Tell the weather.", "parameters": PARAMETERS}
WEATHER = call("get_weather", {"city": "Ulm"}, call_id="call_w")


@pytest.mark.promise("W-39")
@pytest.mark.parametrize(
    "definition",
    [
        {"type": "function", "function": FUNCTION},
        FUNCTION,
        {"type": "function", **FUNCTION},
        {"type": None, "function": {**FUNCTION, "strict": None}},
    ],
)
async def test_clients_are_asked_to_run_their_tools(definition: dict[str, Any], lane: str, tmp_path: Path) -> None:
    agent = {"tools_list_dictionary": [definition], "max_loops": 4}
    events, exchanges = await run(calling(WEATHER, text="Let me see."), tmp_path, agent, settings={"lane": lane})
    assert exchanges[0].body["tools"] == [{"type": "function", "function": FUNCTION}]
    assert len(exchanges) == 1, "the turn ends there"
    assert not named(events, "tool_start", "tool_end")
    asked = [{"id": "call_w", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Ulm"}'}}]
    end = named(events, "agent_end")[0].data
    assert end["tool_calls"] == asked
    assert (end["output"], end["finish_reason"], end["status"]) == ("Let me see.", "tool_calls", "success")
    assert events[-1].data["outputs"][0]["content"] == asked
    answer = await answer_of(calling(WEATHER), tmp_path, {"agent_config": {"agent_name": "A", **agent}}, lane=lane)
    assert answer.json()["outputs"][0]["content"] == asked


async def test_a_client_goes_on_with_the_results_of_its_tools(lane: str, tmp_path: Path) -> None:
    asked = {"id": "call_w", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Ulm"}'}}
    history: list[dict[str, Any]] = [
        {"role": "user", "content": "How is it in Ulm?"},
        {"role": "assistant", "content": None, "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "call_w", "content": "rain"},
    ]
    events, exchanges = await run(
        saying("It rains"),
        tmp_path,
        {"tools_list_dictionary": [FUNCTION]},
        settings={"lane": lane},
        history=history,
        task=None,
    )
    without_nulls = [{key: value for key, value in message.items() if value is not None} for message in history]
    assert exchanges[0].body["messages"] == (history if lane == "direct" else without_nulls)
    assert exchanges[0].body["tools"] == [{"type": "function", "function": FUNCTION}]
    assert events[-1].data["outputs"][0]["content"] == "It rains"


async def test_the_clients_tools_come_before_the_servers(tmp_path: Path) -> None:
    before = performed["add"]
    agent = {"tools_list_dictionary": [FUNCTION], "selected_tools": ["add"], "max_loops": 4}
    mixed = calling(call("add", {"a": 1, "b": 2}, index=0), {**WEATHER, "index": 1})
    script = in_turn(calling(call("add", {"a": 2, "b": 2}), text="Hm. "), mixed)
    events, exchanges = await run(script, tmp_path, agent)
    assert [sorted(offered(exchange)) for exchange in exchanges] == [["add", "get_weather"]] * 2
    assert performed["add"] == before + 1, "the first answer's, not the mixed one's"
    (asked,) = named(events, "agent_end")[0].data["tool_calls"]
    assert asked["id"] == "call_w"


def test_no_name_is_offered_twice() -> None:
    """A tool of an MCP server may be named as one of the client's: the client's counts."""
    client_tools = ClientTools([{"type": "function", "function": {"name": "add", "description": "Theirs."}}])
    mcp_tools, taken = without_taken([tool(add), tool(fail)], [client_tools])
    assert taken == ["add"]
    clock = DrivenClock()
    tools = ToolCalls("A", 1, KeptEvents(), Deadline(1, clock), clock, [mcp_tools, client_tools])
    assert [schema["function"] for schema in tools.schemas() if "Theirs." in str(schema)] == [
        {"name": "add", "description": "Theirs."}
    ]
    assert len(tools.schemas()) == 2


async def test_tool_calls_for_the_client_are_the_content_of_one_output_of_a_swarm(tmp_path: Path) -> None:
    agents = swarm_of({"agent_name": "A", "tools_list_dictionary": [FUNCTION]}, {"agent_name": "B"})
    script = by_agent(A=calling(WEATHER, text="I need the weather."), B=saying("b"))
    events, exchanges = await run(script, tmp_path, **agents)
    asked, final_text = (output["content"] for output in events[-1].data["output"])
    assert (asked[0]["function"]["name"], final_text) == ("get_weather", "b")
    assert exchanges[1].body["messages"][-1] == {"role": "user", "content": "A: I need the weather."}
    answer = await answer_of(by_agent(A=calling(WEATHER), B=saying("b")), tmp_path, agents)
    assert [output["content"] for output in answer.json()["output"]] == [asked, "b"]


async def test_calls_of_unknown_tools_are_not_left_to_the_client(tmp_path: Path) -> None:
    """Without tools the model calls one: it is told, and asked once more."""
    events, exchanges = await run(in_turn(calling(call("add")), saying("ok")), tmp_path, {})
    assert results(exchanges[1]) == ['there is no tool "add"; there are none']
    assert events[-1].data["outputs"][0]["content"] == "ok"


@pytest.mark.promise("W-39")
async def test_the_text_beside_a_tool_call_for_the_client_is_in_the_answer(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await calls(exchange, call("look_up", {"q": "x"}), text="Looking. ")

    asked = [{"name": "look_up", "parameters": {"type": "object"}}]
    payload = {"agent_config": {"agent_name": "A", "tools_list_dictionary": asked}, "task": "go"}
    async with provider(script) as upstream, local_models(upstream, tmp_path) as url, client(url) as http:
        [output] = (await http.post("/v1/agent/completions", json=payload)).json()["outputs"]
        history = [{"role": "tool", "tool_call_id": "no", "content": "x"}]
        refused = await http.post("/v1/agent/completions", json={**payload, "history": history})
    assert output["text"] == "Looking. "
    assert output["content"][0]["function"]["name"] == "look_up"
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["loc"] == ["history", 0, "tool_call_id"]
