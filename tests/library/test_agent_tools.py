"""Functions as tools, in the context of the caller."""

import json
from functools import partial
from typing import Annotated, Any

import anyio
import pytest

from swarmstream import (
    AgentEvent,
    ConcurrentWorkflow,
    SequentialWorkflow,
    ToolContext,
    tool,
)
from swarmstream.errors import (
    DuplicateAgent,
    InvalidTool,
)
from swarmstream.tools.errors import ToolDefinitionError
from tests.fakes.upstream import Exchange, Script, hello
from tests.library.teams import Serve, agent, check_types, every_way, here, run

pytestmark = pytest.mark.anyio


def calling(name: str, **arguments: Any) -> Script:
    """A model that calls this tool once, and then repeats what it was told."""

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        results = [message["content"] for message in exchange.body["messages"] if message["role"] == "tool"]
        if results:
            await exchange.say(f"{exchange.system} heard ", results[-1])
            await exchange.finish()
        else:
            written = json.dumps(arguments)
            await exchange.delta(
                tool_calls=[{"index": 0, "id": "call_1", "function": {"name": name, "arguments": written}}]
            )
            await exchange.finish("tool_calls")

    return script


class Shop:
    """Something with a method."""

    def __init__(self, stock: int) -> None:
        self._stock = stock

    def look(self, item: Annotated[str, "what"]) -> str:
        """How many there are."""
        return f"{self._stock} of {item} {here.get()}"


def look(item: str) -> str:
    """How many there are."""
    return f"a function's {item} {here.get()}"


async def look_async(item: str) -> str:
    await anyio.lowlevel.checkpoint()
    return f"an async function's {item} {here.get()}"


async def look_about(item: str, context: ToolContext) -> str:
    await context.write_event_to_stream("looking", {"for": item})
    return f"{context.agent} looks for {item} {here.get()}"


LOOKERS: dict[str, tuple[Any, str]] = {
    "function": (look, "a function's tea"),
    "async": (tool(look_async, name="look"), "an async function's tea"),
    "context": (tool(look_about, name="look"), "A looks for tea"),
    "method": (Shop(3).look, "3 of tea"),
    "partial": (partial(look), "a function's tea"),
    "lambda": (tool(lambda item: f"a lambda's {item} {here.get()}", name="look"), "a lambda's tea"),  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
}


@every_way
@pytest.mark.parametrize("looker", LOOKERS)
async def test_tools_run_in_the_callers_context(way: str, looker: str, openai: Serve) -> None:
    function, answer = LOOKERS[looker]
    here.set("here")
    async with openai(calling("look", item="tea")) as upstream:
        assert await run(way, agent(tools=[function], max_loops=2), "go") == f"A heard {answer} here"
    (offered,) = upstream.exchanges[0].body["tools"]
    assert offered["function"]["name"] == "look"
    assert [message["content"] for message in upstream.exchanges[1].body["messages"][2:] if message["content"]] == [
        f"{answer} here"
    ], "once"


@every_way
@pytest.mark.parametrize("kind", ["function", "async"])
async def test_an_agent_may_be_another_ones_tool(way: str, kind: str, openai: Serve) -> None:
    helper = agent("helper")

    async def ask_helper(question: str) -> str:
        return await helper.arun(question)

    def ask_in_thread(question: str) -> str:
        return helper.run(question)

    function = tool(ask_helper if kind == "async" else ask_in_thread, name="ask_helper")

    async def script(exchange: Exchange) -> None:
        await (hello if exchange.system == "helper" else calling("ask_helper", question="why?"))(exchange)

    async with openai(script) as upstream:
        answer = await run(way, agent(tools=[function], max_loops=2), "go")
    assert answer == "A heard helper says hello"
    assert upstream.exchanges[1].body["messages"][-1]["content"] == "why?"


async def test_custom_events_of_a_tool_are_in_the_stream(openai: Serve) -> None:
    async with openai(calling("look_about", item="tea")):
        events = [event async for event in agent(tools=[look_about], max_loops=2).arun_stream("go", with_events=True)]
    [called, wrote, ended] = [event for event in events if event["type"] in ("tool_start", "custom", "tool_end")]
    assert called["type"] == "tool_start"
    assert called["arguments"] == {"item": "tea"}
    assert wrote["type"] == "custom"
    assert (wrote["name"], wrote["data"]) == ("looking", {"for": "tea"})
    assert ended["type"] == "tool_end"
    assert ended["is_error"] is False
    assert [event.get("step") for event in events if event["type"] == "token"] == [2, 2]
    check_types(events, AgentEvent)


@pytest.mark.noisy
async def test_a_tools_exception_is_sent_to_the_model_once(openai: Serve) -> None:
    calls: list[str] = []

    def look(item: str) -> str:
        calls.append(item)
        raise ValueError("the shop is closed")

    async with openai(calling("look", item="tea")):
        answer = await agent(tools=[look], max_loops=2).arun("go")
    assert answer == "A heard look failed: ValueError: the shop is closed"
    assert calls == ["tea"]


async def test_agents_have_their_own_functions_under_one_name(openai: Serve) -> None:
    team = ConcurrentWorkflow(
        [agent(f"{name} ", tools=[Shop(stock).look], max_loops=2) for stock, name in enumerate("ABC")]
    )
    here.set("here")
    async with openai(calling("look", item="tea")):
        results = await team.arun("go")
    assert results == [
        {"role": name, "content": f"{name}  heard {stock} of tea here"} for stock, name in enumerate("ABC")
    ]


async def test_an_agent_hands_off_to_another_with_functions_of_its_own(openai: Serve) -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.system == "A":
            await exchange.open()
            (offered,) = exchange.body["tools"]
            arguments = {"agent_name": "B", "message": "over to you"}
            known = {key: arguments.get(key, "B") for key in offered["function"]["parameters"]["properties"]}
            call = {"name": offered["function"]["name"], "arguments": json.dumps(known)}
            await exchange.delta(tool_calls=[{"index": 0, "id": "call_1", "function": call}])
            await exchange.finish("tool_calls")
        else:
            await calling("look", item="tea")(exchange)

    here.set("here")
    async with openai(script):
        answer = await agent("A", handoffs=[agent("B", tools=[look], max_loops=2)]).arun("go")
    assert answer == "B heard a function's tea here"


async def test_two_agents_of_one_name_cannot_have_different_functions(openai: Serve) -> None:
    bosses = [agent(name, handoffs=[agent("X", tools=[Shop(3).look])]) for name in "AB"]
    async with openai(hello) as upstream:
        with pytest.raises(DuplicateAgent, match='two agents with different tools are named "X"'):
            await SequentialWorkflow(bosses).arun("go")
        shared = agent("X", tools=[look])
        for boss in bosses:
            boss.handoffs = [shared]
        assert await SequentialWorkflow(bosses).arun("go") == "B says hello"
    assert len(upstream.exchanges) == 2


async def test_two_tools_of_one_name_are_refused_before_a_model_is_called(openai: Serve) -> None:
    async with openai(hello) as upstream:
        with pytest.raises(InvalidTool, match='the tool name "look" is taken'):
            await agent(tools=[look, Shop(3).look]).arun("go")
    assert not upstream.exchanges


@pytest.mark.parametrize("value", [42, "look", dict, lambda: 0], ids=["number", "name", "type", "lambda"])
def test_an_object_that_cannot_be_a_tool_is_refused_by_the_constructor(value: Any) -> None:
    with pytest.raises(ToolDefinitionError):
        agent(tools=[value])
