"""Agents that call tools, over HTTP: what the provider is asked, what the client sees (docs/engine.md, "One turn")."""

import asyncio
import json
import random
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import anyio
import httpx
import pytest
from anyio import from_thread

from swarmstream.engine.model_calls import ModelCalls
from swarmstream.engine.timeouts import TurnTimeouts
from swarmstream.engine.tool_calls import ToolUse
from swarmstream.errors import ProviderAuth, ProviderError, UpstreamTruncated
from swarmstream.events import ToolEnded
from swarmstream.llm.base import Finished, ToolCallDelta
from swarmstream.tools.functions import MAX_OUTPUT_BYTES, ToolContext, tool
from tests.clients.sse import ServerEvent, check_stream, events_of
from tests.conftest import client
from tests.engine.test_stages import Notes
from tests.engine.test_turn import end_of, failure_of, soon, take_turn
from tests.fakes.clock import DrivenClock
from tests.fakes.local_models import local_models
from tests.fakes.scripted_model import ScriptedModel, swarm
from tests.fakes.upstream import Exchange, Script, provider

pytestmark = pytest.mark.anyio

AGENT = "/v1/agent/completions"
SWARM = "/v1/swarm/completions"


@pytest.fixture(params=["direct", "litellm"])
def lane(request: pytest.FixtureRequest) -> str:
    return request.param


# --- Tools ------------------------------------------------------------------------------------------------------------

performed: Counter[str] = Counter()
"""How often each tool was begun, by what the test called it."""
inside: Counter[str] = Counter()
"""How many calls are under way."""
marks: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)


@contextmanager
def noted(what: str) -> Generator[None]:
    performed[what] += 1
    inside[what] += 1
    try:
        yield
    finally:
        inside[what] -= 1


def add(a: int, b: int) -> int:
    """Add two integers and return the result."""
    performed["add"] += 1
    return a + b


async def meet(mine: str, theirs: str) -> str:
    """Say that I am here, and wait for another one."""
    marks[mine].set()
    await marks[theirs].wait()
    return f"{mine} met {theirs}"


_barrier = threading.Barrier(2)


def meet_in_threads() -> str:
    """Wait for another call."""
    _barrier.wait(5)
    return "in the event loop" if threading.current_thread() is threading.main_thread() else "in a thread"


async def where() -> str:
    """Tell where this runs."""
    return "in the event loop" if threading.current_thread() is threading.main_thread() else "in a thread"


def fail(message: str) -> str:
    """Fail."""
    performed[message] += 1
    raise ValueError(message)


async def leave(message: str) -> str:
    """Try to stop the server."""
    performed[message] += 1
    sys.exit(3)


def leave_in_a_thread(message: str) -> str:
    """Try to stop the server."""
    performed[message] += 1
    sys.exit(3)


def much(kilobytes: int) -> str:
    """Say much."""
    return "x" * 1024 * kilobytes


@tool(timeout_seconds=45)
async def slow() -> str:
    """Take too long."""
    with noted("slow"):
        await anyio.sleep_forever()
    return "never"


async def forever(what: str) -> str:
    """Take forever."""
    with noted(what):
        await anyio.sleep_forever()
    return "never"


def forever_in_a_thread(what: str) -> str:
    """Take forever, but look whether anybody waits."""
    with noted(what):
        while True:
            from_thread.check_cancelled()
            threading.Event().wait(0.005)


async def report(context: ToolContext, rows: Annotated[int, "How many."]) -> str:
    """Read rows and say how far that is."""
    for row in range(1, rows + 1):
        await context.report_progress(row, rows)
    await context.write_event_to_stream("rows", {"count": rows, "by": context.agent})
    return f"{rows} rows"


def report_from_a_thread(context: ToolContext) -> str:
    """Write from a thread."""
    from_thread.run(context.write_event_to_stream, "thread", [1, "ü"])
    return "written"


late: list[str] = []


async def write_later(context: ToolContext) -> str:
    """Go on writing when it is over."""

    async def write() -> None:
        await marks["the call is over"].wait()
        try:
            await context.write_event_to_stream("late")
        except RuntimeError as error:
            late.append(str(error))
        marks["late"].set()

    marks["writer"].set()
    _writers.append(asyncio.ensure_future(write()))
    return "done"


_writers: list[asyncio.Future[None]] = []

TOOLS = {
    "tools": tuple(
        f"{__name__}:{name}"
        for name in (
            *("add", "meet", "meet_in_threads", "where", "fail", "leave", "leave_in_a_thread", "much", "slow"),
            *("forever", "forever_in_a_thread", "report", "report_from_a_thread", "write_later"),
        )
    )
}

# --- What the provider says -------------------------------------------------------------------------------------------


def call(name: str, arguments: Any = "{}", *, index: int = 0, call_id: str | None = None) -> dict[str, Any]:
    """A whole tool call as a provider sends it."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    function = {"name": name, "arguments": text}
    return {"index": index, "id": call_id or f"call_{name}_{index}", "type": "function", "function": function}


async def calls(exchange: Exchange, *tool_calls: dict[str, Any], text: str = "") -> None:
    """An answer that says something and calls tools."""
    await exchange.open()
    if text:
        await exchange.say(text)
    await exchange.delta(tool_calls=list(tool_calls))
    await exchange.finish("tool_calls")


async def says(exchange: Exchange, *texts: str) -> None:
    await exchange.open()
    await exchange.say(*texts)
    await exchange.finish()


def calling(*tool_calls: dict[str, Any], text: str = "") -> Script:
    return lambda exchange: calls(exchange, *tool_calls, text=text)


def saying(*texts: str) -> Script:
    return lambda exchange: says(exchange, *texts)


def refusing(status: int) -> Script:
    return lambda exchange: exchange.refuse(status, b"{}")


def in_turn(*answers: Script) -> Script:
    """One answer after the other; the last one ever after."""
    waiting = list(answers)

    async def script(exchange: Exchange) -> None:
        await (waiting.pop(0) if len(waiting) > 1 else waiting[0])(exchange)

    return script


def by_agent(**scripts: Script) -> Script:
    """Whatever the agent of that system prompt is to say."""

    async def script(exchange: Exchange) -> None:
        await scripts[exchange.system](exchange)

    return script


def results(exchange: Exchange) -> list[str]:
    """What the tools answered, as the model is told."""
    return [message["content"] for message in exchange.body["messages"] if message["role"] == "tool"]


def offered(exchange: Exchange) -> list[str]:
    return [tool["function"]["name"] for tool in exchange.body.get("tools", [])]


# --- What the client does ---------------------------------------------------------------------------------------------

Listener = Callable[[ServerEvent], None]


def swarm_of(*agents: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A swarm of agents that tell the provider their names."""
    return {"agents": [{"system_prompt": agent["agent_name"], **agent} for agent in agents], **fields}


async def run(
    script: Script,
    tmp_path: Path,
    agent: dict[str, Any] | None = None,
    *,
    settings: dict[str, Any] | None = None,
    on: Listener | None = None,
    meanwhile: Callable[[], Coroutine[Any, Any, None]] | None = None,
    **fields: Any,
) -> tuple[list[ServerEvent], list[Exchange]]:
    """The events of a run of one agent, or of a swarm, and what their provider was asked. `on` is told of each event
    as it comes; `meanwhile` goes on beside it."""
    path = SWARM if agent is None else AGENT
    config = {} if agent is None else {"agent_config": {"agent_name": "A", **agent}}
    payload = {**config, "task": "go", "stream": True, **fields}
    events: list[ServerEvent] = []
    async with (
        provider(script) as upstream,
        local_models(upstream, tmp_path, **{**TOOLS, **(settings or {})}) as url,
        client(url) as http,
    ):
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                if meanwhile is not None:
                    tasks.start_soon(meanwhile)
                async with http.stream("POST", path, json=payload) as response:
                    assert response.status_code == 200, (await response.aread()).decode()
                    async for event in events_of(response):
                        events.append(event)
                        if on is not None:
                            on(event)
            await upstream.idle()
    check_stream(events)
    return events, upstream.exchanges


async def answer_of(script: Script, tmp_path: Path, payload: dict[str, Any], **settings: Any) -> httpx.Response:
    """The answer to a request that does not stream."""
    path = AGENT if "agent_config" in payload else SWARM
    async with (
        provider(script) as upstream,
        local_models(upstream, tmp_path, **TOOLS, **settings) as url,
        client(url) as http,
    ):
        with anyio.fail_after(30):
            return await http.post(path, json={"task": "go", **payload})


def named(events: list[ServerEvent], *names: str) -> list[ServerEvent]:
    return [event for event in events if event.event in names]


def outline(events: list[ServerEvent]) -> list[str]:
    """The events between the first two and the last two."""
    return [event.event for event in events[2:-2]]


# --- The loop ---------------------------------------------------------------------------------------------------------


async def test_the_result_of_a_tool_comes_back_once(lane: str, tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        if not results(exchange):
            await calls(exchange, call("add", {"a": 17, "b": 25}), text="Let me add. ")
        else:
            await says(exchange, "17 + 25 = ", results(exchange)[0])

    agent = {"selected_tools": ["add"], "max_loops": 3}
    events, exchanges = await run(script, tmp_path, agent, settings={"lane": lane})
    assert outline(events) == ["agent_start", "chunk", "tool_start", "tool_end", "chunk", "chunk", "agent_end"]
    started, ended = named(events, "tool_start", "tool_end")
    assert (started.data["tool"], started.data["arguments"]) == ("add", {"a": 17, "b": 25})
    assert (ended.data["output"], ended.data["is_error"]) == ("42", False)
    assert started.data["tool_call_id"] == ended.data["tool_call_id"] == "call_add_0"
    assert (started.data["agent"], started.data["turn"]) == (ended.data["agent"], ended.data["turn"]) == ("A", 1)
    assert [chunk.data.get("step") for chunk in named(events, "chunk")] == [None, 2, 2]
    assert named(events, "chunk")[-1].data["output"] == "Let me add. 17 + 25 = 42"
    end = named(events, "agent_end")[0].data
    assert (end["output"], end["finish_reason"], end["status"]) == ("17 + 25 = 42", "stop", "success")
    assert (end["usage"]["input_tokens"], end["usage"]["output_tokens"]) == (14, 6), "of both calls"
    assert [offered(exchange) for exchange in exchanges] == [["add"], ["add"]]
    told = {"id": "call_add_0", "type": "function", "function": {"name": "add", "arguments": '{"a": 17, "b": 25}'}}
    assert exchanges[1].body["messages"] == [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "Let me add. ", "tool_calls": [told]},
        {"role": "tool", "tool_call_id": "call_add_0", "content": "42"},
    ]


async def test_a_streamed_run_ends_with_what_the_json_answer_says(lane: str, tmp_path: Path) -> None:
    agent = {"selected_tools": ["add"], "max_loops": 3}

    def script() -> Script:
        return in_turn(calling(call("add", {"a": 1, "b": 2}), text="Hm. "), saying("3"))

    events, _ = await run(script(), tmp_path, agent, settings={"lane": lane})
    answer = await answer_of(script(), tmp_path, {"agent_config": {"agent_name": "A", **agent}}, lane=lane)
    body, end = answer.json(), events[-1].data
    assert [(each["role"], each["content"]) for each in body["outputs"]] == [("A", "3")]
    assert [(each["role"], each["content"]) for each in end["outputs"]] == [("A", "3")]
    assert body["usage"] == end["usage"]
    assert body["usage"]["total_tokens"] == 20


async def test_calls_of_one_answer_run_at_once_and_are_answered_in_their_order(tmp_path: Path) -> None:
    chain = [("a", "c"), ("b", "a"), ("c", "b")]
    asked = [call("meet", {"mine": m, "theirs": t}, index=n) for n, (m, t) in enumerate(chain)]
    events, exchanges = await run(
        in_turn(calling(*asked), saying("met")), tmp_path, {"selected_tools": "meet", "max_loops": 2}
    )
    assert outline(events)[1:7] == ["tool_start"] * 3 + ["tool_end"] * 3
    ended = [event.data["tool_call_id"] for event in named(events, "tool_end")]
    assert ended != sorted(ended), "the first one ends later than another"
    assert results(exchanges[1]) == ["a met c", "b met a", "c met b"]
    ids = [message["tool_call_id"] for message in exchanges[1].body["messages"] if message["role"] == "tool"]
    assert ids == ["call_meet_0", "call_meet_1", "call_meet_2"]


async def test_plain_functions_run_in_threads_and_async_ones_in_the_event_loop(tmp_path: Path) -> None:
    asked = [call("meet_in_threads", index=0), call("meet_in_threads", index=1), call("where", index=2)]
    agent = {"selected_tools": ["meet_in_threads", "where"], "max_loops": 2}
    _, exchanges = await run(in_turn(calling(*asked), saying("ok")), tmp_path, agent)
    assert results(exchanges[1]) == ["in a thread", "in a thread", "in the event loop"]


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "raises": (call("fail", {"message": "raised"}), "fail failed: ValueError: raised"),
    "exits": (call("leave", {"message": "left"}), "leave failed: SystemExit: 3"),
    "exits in a thread": (
        call("leave_in_a_thread", {"message": "left a thread"}),
        "leave_in_a_thread failed: SystemExit: 3",
    ),
    "is not there": (call("nothing"), 'there is no tool "nothing"; there are '),
    "gets no JSON": (call("add", '{"a": 1, "b"'), "the arguments are not valid JSON"),
    "gets no object": (call("add", "[1, 2]"), "the arguments must be a JSON object"),
    "gets infinity": (call("add", '{"a": Infinity, "b": 1}'), "the arguments are not valid JSON"),
    "gets a wrong type": (call("add", {"a": "one", "b": 2}), 'the arguments do not fit: "a"'),
    "misses an argument": (call("add", {"a": 1}), '"b" is missing'),
    "gets one too many": (call("add", {"a": 1, "b": 2, "c": 3}), 'there is no parameter "c"'),
    "has no name": (call(""), 'there is no tool ""'),
    "takes too long": (call("slow"), "slow took longer than 45 s and was given up"),
}


@pytest.mark.noisy
@pytest.mark.parametrize("fault", FAULTS)
async def test_the_model_is_told_once_of_a_tool_that(fault: str, tmp_path: Path) -> None:
    asked, words = FAULTS[fault]
    before = performed.total()
    clock = DrivenClock()

    async def time_passes() -> None:
        if asked["function"]["name"] == "slow":
            await clock.waiting(45)
            await clock.advance(45)

    agent = {"selected_tools": "all", "max_loops": 3}
    script = in_turn(calling(asked), saying("sorry"))
    events, exchanges = await run(script, tmp_path, agent, settings={"clock": clock}, meanwhile=time_passes)
    (ended,) = named(events, "tool_end")
    assert ended.data["is_error"] is True
    assert words in ended.data["output"]
    assert results(exchanges[1]) == [ended.data["output"]]
    assert performed.total() - before <= 1, "nothing is run again behind the model's back"
    assert len(exchanges) == 2
    assert (events[-1].data["status"], events[-1].data["outputs"][0]["content"]) == ("success", "sorry")
    assert not inside.total()


@pytest.mark.noisy
async def test_a_tool_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    asked = [call("leave", {"message": "x"}, index=0), call("add", {"a": 1, "b": 2}, index=1), call("slow", index=2)]
    clock = DrivenClock()

    async def time_passes() -> None:
        await clock.waiting(45)
        await clock.advance(45)

    agent = {"selected_tools": "all", "max_loops": 2}
    script = in_turn(calling(*asked), saying("ok"))
    events, exchanges = await run(script, tmp_path, agent, settings={"clock": clock}, meanwhile=time_passes)
    assert results(exchanges[1])[1] == "3"
    assert [each.data["is_error"] for each in named(events, "tool_end")].count(True) == 2


async def test_much_output_is_cut_and_no_error(tmp_path: Path) -> None:
    script = in_turn(calling(call("much", {"kilobytes": 33})), saying("ok"))
    events, exchanges = await run(script, tmp_path, {"selected_tools": "much", "max_loops": 2})
    (ended,) = named(events, "tool_end")
    assert ended.data["is_error"] is False
    assert len(ended.data["output"].encode()) <= MAX_OUTPUT_BYTES
    assert "[cut: these are the first 32 kB" in ended.data["output"]
    assert results(exchanges[1]) == [ended.data["output"]]


@pytest.mark.parametrize("bound", [1, 3])
async def test_a_model_that_never_stops_is_asked_once_more_without_tools(bound: int, tmp_path: Path) -> None:
    again = calling(call("add", {"a": 1, "b": 1}), text="more ")
    agent = {"selected_tools": ["add"], "max_loops": bound, "llm_args": {"parallel_tool_calls": False}}
    events, exchanges = await run(again, tmp_path, agent)
    assert [offered(exchange) for exchange in exchanges] == [["add"]] * bound + [[]]
    assert "tools" not in exchanges[-1].body
    assert [exchange.body.get("parallel_tool_calls") for exchange in exchanges] == [False] * bound + [None]
    assert len(named(events, "tool_start")) == bound, "what was not offered is not run"
    assert len(results(exchanges[-1])) == bound
    end = named(events, "agent_end")[0].data
    assert (end["status"], end["output"], end["usage"]["input_tokens"]) == ("success", "more ", 7 * (bound + 1))


async def test_a_bound_is_no_number_of_calls_to_make(tmp_path: Path) -> None:
    for agent in ({"max_loops": 5}, {"max_loops": 5, "selected_tools": ["add"]}):
        _, exchanges = await run(saying("at once"), tmp_path, agent)
        assert len(exchanges) == 1
    assert "tools" in exchanges[0].body  # pyright: ignore[reportPossiblyUnboundVariable]


async def test_the_next_agent_hears_the_answer_alone(tmp_path: Path) -> None:
    thoughtful = in_turn(calling(call("add", {"a": 1, "b": 2}), text="Let me see. "), saying("It is 3"))
    agents = swarm_of({"agent_name": "A", "selected_tools": "add", "max_loops": 2}, {"agent_name": "B"})
    events, exchanges = await run(by_agent(A=thoughtful, B=saying("b")), tmp_path, **agents)
    assert [message["content"] for message in exchanges[-1].body["messages"]] == ["B", "go", "A: It is 3"]
    assert [output["content"] for output in events[-1].data["output"]] == ["It is 3", "b"]
    assert "tools" not in exchanges[-1].body


# --- Streaming --------------------------------------------------------------------------------------------------------


async def test_tokens_of_every_call_arrive_while_the_provider_still_sends(lane: str, tmp_path: Path) -> None:
    """The provider goes on only when the client has read what it said so far."""
    heard: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)

    async def first(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("Hm.")
        await heard["Hm."].wait()
        await exchange.delta(tool_calls=[call("add", {"a": 1, "b": 2})])
        await exchange.finish("tool_calls")

    async def second(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("It is")
        await heard["It is"].wait()
        await exchange.say(" 3")
        await heard[" 3"].wait()
        await exchange.finish()

    def on(event: ServerEvent) -> None:
        if event.event == "chunk":
            heard[event.data["content"]].set()

    agent = {"selected_tools": ["add"], "max_loops": 2}
    events, _ = await run(in_turn(first, second), tmp_path, agent, settings={"lane": lane}, on=on)
    assert events[-1].data["outputs"][0]["content"] == "It is 3"


async def test_a_tool_is_announced_while_it_runs(tmp_path: Path) -> None:
    def on(event: ServerEvent) -> None:
        if event.event == "tool_start":
            marks["announced"].set()

    script = in_turn(calling(call("meet", {"mine": "x", "theirs": "announced"})), saying("ok"))
    events, _ = await run(script, tmp_path, {"selected_tools": "meet", "max_loops": 2}, on=on)
    assert named(events, "tool_end")[0].data["output"] == "x met announced"


# --- Tool calls in pieces ---------------------------------------------------------------------------------------------


def piece(
    index: int | None, arguments: str = "", *, name: str | None = None, call_id: str | None = None
) -> dict[str, Any]:
    """A piece of a call; what is None is not sent."""
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    given = {"index": index, "id": call_id, "function": function}
    return {key: value for key, value in given.items() if value is not None}


PIECES: dict[str, tuple[list[list[dict[str, Any]]], list[tuple[str, dict[str, int]]]]] = {
    "split arguments": (
        [[piece(0, name="add", call_id="a")], *([piece(0, char)] for char in '{"a": 1, "b": 2}')],
        [("a", {"a": 1, "b": 2})],
    ),
    "interleaved": (
        [
            [piece(0, name="add", call_id="a"), piece(1, name="add", call_id="b")],
            [piece(1, '{"a": 3,'), piece(0, '{"a": 1,')],
            [piece(0, ' "b": 2}')],
            [piece(1, ' "b": 4}')],
        ],
        [("a", {"a": 1, "b": 2}), ("b", {"a": 3, "b": 4})],
    ),
    "all numbered 0": (
        [
            [piece(0, '{"a": 1,', name="add", call_id="a")],
            [piece(0, ' "b": 2}')],
            [piece(0, '{"a": 3,', name="add", call_id="b")],
            [piece(0, ' "b": 4}', call_id="b")],
        ],
        [("a", {"a": 1, "b": 2}), ("b", {"a": 3, "b": 4})],
    ),
    "without ids": (
        [[piece(0, '{"a": 1, "b": 2}', name="add"), piece(1, '{"a": 3, "b": 4}', name="add")]],
        [("call_1_1", {"a": 1, "b": 2}), ("call_1_2", {"a": 3, "b": 4})],
    ),
    "with one id for all": (
        [
            [piece(0, '{"a": 1, "b": 2}', name="add", call_id="a")],
            [piece(1, '{"a": 3, "b": 4}', name="add", call_id="a")],
        ],
        [("a", {"a": 1, "b": 2}), ("call_1_2_a", {"a": 3, "b": 4})],
    ),
    "name and id repeated": (
        [[piece(0, '{"a": 1,', name="add", call_id="a")], [piece(0, ' "b": 2}', name="add", call_id="a")]],
        [("a", {"a": 1, "b": 2})],
    ),
}


@pytest.mark.parametrize("case", PIECES)
async def test_calls_are_put_together(case: str, lane: str, tmp_path: Path) -> None:
    pieces, whole = PIECES[case]

    async def in_pieces(exchange: Exchange) -> None:
        await exchange.open()
        for each in pieces:
            await exchange.delta(tool_calls=each)
        await exchange.finish("tool_calls")

    agent = {"selected_tools": ["add"], "max_loops": 2}
    events, exchanges = await run(in_turn(in_pieces, saying("ok")), tmp_path, agent, settings={"lane": lane})
    started = named(events, "tool_start")
    assert [(event.data["tool_call_id"], event.data["arguments"]) for event in started] == whole
    assert {event.data["tool"] for event in started} == {"add"}
    assert results(exchanges[1]) == [str(sum(arguments.values())) for _, arguments in whole]
    asked = next(message for message in exchanges[1].body["messages"] if message["role"] == "assistant")
    assert [each["id"] for each in asked["tool_calls"]] == [call_id for call_id, _ in whole]


async def test_pieces_without_a_number_are_of_the_call_before(tmp_path: Path) -> None:
    async def unnumbered(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.delta(tool_calls=[piece(None, '{"a": 1,', name="add", call_id="a")])
        await exchange.delta(tool_calls=[piece(None, ' "b": 2}')])
        await exchange.finish("tool_calls")

    agent = {"selected_tools": ["add"], "max_loops": 2}
    _, exchanges = await run(in_turn(unnumbered, saying("ok")), tmp_path, agent)
    assert results(exchanges[1]) == ["3"]


async def test_what_a_provider_would_refuse_to_hear_again_is_not_repeated(tmp_path: Path) -> None:
    """Arguments that are no JSON object, and names that no tool can have, came from the model all the same."""
    asked = [
        call("functions.add", {"a": 1, "b": 2}, index=0, call_id="a"),
        call("", index=1, call_id="b"),
        call("add", '{"a": ', index=2, call_id="c"),
        call("add", '{"a": NaN, "b": 1}', index=3, call_id="d"),
        call("x" * 90, index=4, call_id="e"),
    ]
    agent = {"selected_tools": ["add"], "max_loops": 2}
    events, exchanges = await run(in_turn(calling(*asked), saying("ok")), tmp_path, agent)
    assert all(event.data["is_error"] for event in named(events, "tool_end"))
    assert named(events, "tool_start")[0].data["tool"] == "functions.add", "readers see what was asked for"
    repeated = [each["function"] for each in exchanges[1].body["messages"][1]["tool_calls"]]
    assert [each["name"] for each in repeated] == ["functions_add", "unknown", "add", "add", "x" * 64]
    assert [json.loads(each["arguments"]) for each in repeated] == [{"a": 1, "b": 2}, {}, {}, {}, {}]


async def test_an_id_that_carries_something_comes_back_whole(tmp_path: Path) -> None:
    """litellm puts Gemini's thought signatures into the ids of calls, and takes them out again."""
    call_id = f"call_1__thought__{'Q' * 5000}"
    script = in_turn(calling(call("add", {"a": 1, "b": 2}, call_id=call_id)), saying("ok"))
    _, exchanges = await run(script, tmp_path, {"selected_tools": ["add"], "max_loops": 2})
    assert exchanges[1].body["messages"][2]["tool_call_id"] == call_id


async def test_calls_without_number_end_the_turn() -> None:
    model = ScriptedModel({"A": [ToolCallDelta(number, f"c{number}", "calculator", "{}") for number in range(129)]})
    notes = await take_turn(model, selected_tools=["calculator"])
    assert failure_of(notes).failure.code == "upstream_invalid"


# --- When the model misbehaves after its first call -------------------------------------------------------------------

CALCULATE = ToolCallDelta(0, "c1", "calculator", '{"expression": "1 + 1"}')
ACTS: dict[str, Any] = {"selected_tools": ["calculator"], "max_loops": 3}


async def test_a_later_call_is_tried_again_too() -> None:
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


async def test_a_later_call_that_fails_fails_the_turn_with_what_it_has() -> None:
    model = ScriptedModel({"A": [["first ", CALCULATE], ["second", UpstreamTruncated("no")]]})
    notes = await take_turn(model, **ACTS)
    end = end_of(notes)
    assert (failure_of(notes).failure.code, end.status, end.output) == ("upstream_truncated", "failed", "second")
    assert end.usage.input_tokens > 10, "of both calls"
    assert end.usage.output_tokens == 2 + 2
    assert end.usage.estimated, "the second one told no figures"


@pytest.mark.noisy
async def test_a_run_that_fails_after_a_tool_says_what_it_cost(lane: str, tmp_path: Path) -> None:
    script = in_turn(calling(call("add", {"a": 1, "b": 2}), text="Hm. "), refusing(400))
    agent = {"selected_tools": ["add"], "max_loops": 2}
    events, exchanges = await run(script, tmp_path, agent, settings={"lane": lane})
    assert [event.data["code"] for event in named(events, "error")] == ["provider_rejected"]
    assert len(exchanges) == 2
    assert events[-1].data["usage"]["total_tokens"] == 10


@pytest.mark.parametrize("name", ["forever", "forever_in_a_thread"])
async def test_the_turns_time_is_over_while_a_tool_runs(name: str, tmp_path: Path) -> None:
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
    await _left_alone("timed")


async def test_a_tool_that_is_done_in_time_is_heard_although_the_turn_has_a_clock() -> None:
    model = ScriptedModel({"A": [[CALCULATE], ["two"]]})
    end = end_of(await take_turn(model, TurnTimeouts(turn_seconds=5), **ACTS))
    assert (end.output, end.status) == ("two", "success")


async def test_the_runs_time_is_over_while_tools_run(tmp_path: Path) -> None:
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
    await _left_alone("r")


async def _left_alone(what: str) -> None:
    await under_way(what, 0)


async def under_way(what: str, count: int = 1) -> None:
    """Wait until so many calls are under way."""
    with anyio.fail_after(30):
        while inside[what] != count:  # noqa: ASYNC110  # a thread tells by nothing else how far it is
            await anyio.sleep(0.005)


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
            await _left_alone(what)
            answer = await http.get(response.headers["location"])
    events = [line for line in answer.text.splitlines() if line.startswith("event: ")]
    assert events[-2:] == ["event: usage", "event: end"]
    assert events.count("event: tool_end") == events.count("event: tool_start")
    assert len(upstream.exchanges) == (1 if policy == "cancel" else 2), "what was cancelled asks no more"
    assert f'"status":"{"cancelled" if policy == "cancel" else "success"}"' in answer.text.splitlines()[-2]


# --- Tools that write to the stream -----------------------------------------------------------------------------------


async def test_a_tool_tells_the_reader_how_far_it_is(tmp_path: Path) -> None:
    asked = [call("report", {"rows": 2}, index=0)]
    script = in_turn(calling(*asked), calling(call("report_from_a_thread")), saying("ok"))
    agent = {"selected_tools": ["report", "report_from_a_thread"], "max_loops": 3}
    agents = swarm_of({"agent_name": "Z"}, {"agent_name": "A", **agent})
    events, exchanges = await run(by_agent(Z=saying("z"), A=script), tmp_path, **agents)
    assert "rows" in str(exchanges[1].body["tools"])
    assert "context" not in str(exchanges[1].body["tools"]), "models do not see it"
    wrote = named(events, "tool_start", "custom", "tool_end")
    assert [event.event for event in wrote] == [
        *("tool_start", "custom", "custom", "custom", "tool_end"),
        *("tool_start", "custom", "tool_end"),
    ]
    customs = named(events, "custom")
    assert {(event.data["agent"], event.data["turn"]) for event in customs} == {("A", 2)}
    assert [(event.data["name"], event.data["data"]) for event in customs] == [
        ("progress", {"tool": "report", "done": 1, "total": 2}),
        ("progress", {"tool": "report", "done": 2, "total": 2}),
        ("rows", {"count": 2, "by": "A"}),
        ("thread", [1, "ü"]),
    ]


async def test_a_tool_cannot_write_when_its_call_is_over(tmp_path: Path) -> None:
    def on(event: ServerEvent) -> None:
        if event.event == "tool_end":
            marks["the call is over"].set()

    async def second(exchange: Exchange) -> None:
        await marks["late"].wait()
        await says(exchange, "ok")

    script = in_turn(calling(call("write_later")), second)
    events, _ = await run(script, tmp_path, {"selected_tools": "write_later", "max_loops": 2}, on=on)
    assert late == ["the call call_write_later_0 of write_later is over"]
    assert not named(events, "custom")


# --- Tools that the caller runs ---------------------------------------------------------------------------------------

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "Tell the weather.", "parameters": PARAMETERS}
WEATHER = call("get_weather", {"city": "Ulm"}, call_id="call_w")


@pytest.mark.parametrize(
    "given",
    [
        {"type": "function", "function": FUNCTION},
        FUNCTION,
        {"type": "function", **FUNCTION},
        {"type": None, "function": {**FUNCTION, "strict": None}},
    ],
)
async def test_callers_are_asked_to_run_their_tools(given: dict[str, Any], lane: str, tmp_path: Path) -> None:
    agent = {"tools_list_dictionary": [given], "max_loops": 4}
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


async def test_a_caller_goes_on_with_what_its_tools_answered(lane: str, tmp_path: Path) -> None:
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


async def test_a_callers_tool_comes_before_the_servers(tmp_path: Path) -> None:
    before = performed["add"]
    agent = {"tools_list_dictionary": [FUNCTION], "selected_tools": ["add"], "max_loops": 4}
    mixed = calling(call("add", {"a": 1, "b": 2}, index=0), {**WEATHER, "index": 1})
    script = in_turn(calling(call("add", {"a": 2, "b": 2}), text="Hm. "), mixed)
    events, exchanges = await run(script, tmp_path, agent)
    assert [sorted(offered(exchange)) for exchange in exchanges] == [["add", "get_weather"]] * 2
    assert performed["add"] == before + 1, "the first answer's, not the mixed one's"
    (asked,) = named(events, "agent_end")[0].data["tool_calls"]
    assert asked["id"] == "call_w"


async def test_no_name_is_offered_twice() -> None:
    """A tool of an MCP server may be named as one of the caller's: the caller's counts."""
    notes, agent = Notes(), swarm().plan.stages[0].agents[0]
    use = ToolUse("A", 1, notes, ModelCalls(agent, 1, notes, {}, TurnTimeouts()))
    use.add([tool(add), tool(fail)])
    use.add_callers([{"type": "function", "function": {"name": "add", "description": "Theirs."}}])
    assert [schema["function"] for schema in use.schemas() if "Theirs." in str(schema)] == [
        {"name": "add", "description": "Theirs."}
    ]
    assert len(use.schemas()) == 2


async def test_a_callers_tool_in_a_swarm_is_one_outputs_content(tmp_path: Path) -> None:
    agents = swarm_of({"agent_name": "A", "tools_list_dictionary": [FUNCTION]}, {"agent_name": "B"})
    script = by_agent(A=calling(WEATHER, text="I need the weather."), B=saying("b"))
    events, exchanges = await run(script, tmp_path, **agents)
    asked, said = (output["content"] for output in events[-1].data["output"])
    assert (asked[0]["function"]["name"], said) == ("get_weather", "b")
    assert exchanges[1].body["messages"][-1] == {"role": "user", "content": "A: I need the weather."}
    answer = await answer_of(by_agent(A=calling(WEATHER), B=saying("b")), tmp_path, agents)
    assert [output["content"] for output in answer.json()["output"]] == [asked, "b"]


async def test_calls_that_nobody_offered_are_nobodys_to_answer(tmp_path: Path) -> None:
    """Without tools the model calls one: it is told, and asked once more."""
    events, exchanges = await run(in_turn(calling(call("add")), saying("ok")), tmp_path, {})
    assert results(exchanges[1]) == ['there is no tool "add"; there are none']
    assert events[-1].data["outputs"][0]["content"] == "ok"


async def test_an_answer_without_figures_counts_what_was_asked_for() -> None:
    model = ScriptedModel({"A": [[CALCULATE, Finished("tool_calls")], ["two"]]})
    end = end_of(await take_turn(model, **ACTS))
    assert end.usage.estimated
    assert end.usage.output_tokens >= len(CALCULATE.arguments) // 4


# --- Hanging up at any time -------------------------------------------------------------------------------------------

_HANG_UPS = 200
_AT_ONCE = 20


async def _fall_silent(exchange: Exchange) -> None:
    """Wait to be hung up on. A connection that is reset, as one is that holds what nobody has read, is noticed by
    writing only."""
    while True:
        await exchange.raw(b"")
        await anyio.sleep(0.01)


def _whim(dice: random.Random) -> Script:
    """A provider that calls tools, plans, hands off and talks as it likes, and often falls silent."""
    acts = [
        call("add", {"a": 1, "b": 2}),
        call("forever", {"what": "whim"}),
        call("forever_in_a_thread", {"what": "whim"}),
        call("report", {"rows": 3}),
        call("report_from_a_thread"),
    ]

    async def act(exchange: Exchange) -> None:
        names = offered(exchange)
        fate = dice.random()
        if fate < 0.05:
            await _fall_silent(exchange)
        await exchange.open()
        await exchange.say(*["some words "] * dice.randrange(4))
        if fate < 0.15:
            await _fall_silent(exchange)
        chosen: list[dict[str, Any]] = []
        if "create_plan" in names:
            chosen = [call("create_plan", {"subtasks": [{"id": 1, "title": "a"}, {"id": 2, "title": "b"}]})]
        elif "handoff" in names and fate < 0.6:
            chosen = [call("handoff", {"agent": "B"}), *dice.sample(acts, dice.randrange(2))]
        elif names and fate < 0.9:
            chosen = dice.sample(acts, dice.randrange(1, 4))
        elif "subtask_done" in names:
            chosen = [call("subtask_done")]
        if chosen:
            await exchange.delta(tool_calls=[{**each, "index": index} for index, each in enumerate(chosen)])
        await exchange.finish("tool_calls" if chosen else "stop")

    async def script(exchange: Exchange) -> None:
        with suppress(RuntimeError):  # uvloop's, when a connection that was reset is written to
            await act(exchange)

    return script


def _any_payload(dice: random.Random) -> tuple[str, dict[str, Any]]:
    tools = {"selected_tools": ["add", "forever", "forever_in_a_thread", "report", "report_from_a_thread"]}
    acting = {"agent_name": "A", "max_loops": 4, **tools}
    planning = {"agent_name": "P", "max_loops": "auto", **tools}
    passing = {"agent_name": "H", "max_loops": 2, "handoffs": [{**acting, "agent_name": "B"}], **tools}
    agent = dice.choice([acting, planning, passing])
    if dice.random() < 0.5:
        return AGENT, {"agent_config": agent, "task": "go", "stream": dice.random() < 0.8}
    agents = [acting, planning, passing, {"agent_name": "Z"}]
    return SWARM, {"agents": agents, "rearrange_flow": "A, P, H -> Z", "task": "go", "stream": True}


async def test_two_hundred_clients_hang_up_and_nothing_is_left(tmp_path: Path) -> None:
    dice = random.Random(20260721)
    whole = cut = 0

    async def hang_up(http: httpx.AsyncClient, limit: int, patience: int) -> None:
        """Leave after so many bytes, or when nothing more has come for so many milliseconds in which the event loop was
        free: on a busy machine that is longer."""
        nonlocal whole, cut
        path, payload = _any_payload(dice)
        received = quiet = 0
        is_whole = False

        async def lose_patience() -> None:
            nonlocal quiet
            while quiet < patience:
                await anyio.sleep(0.005)
                quiet += 5
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lose_patience)
            async with http.stream("POST", path, json=payload) as response:
                async for part in response.aiter_raw():
                    received += len(part)
                    quiet = 0
                    if received >= limit:
                        break
                else:
                    is_whole = True
            tasks.cancel_scope.cancel()
        whole += is_whole
        cut += not is_whole

    async with (
        provider(_whim(dice)) as upstream,
        local_models(upstream, tmp_path, disconnect_grace_seconds=0, **TOOLS) as url,
    ):
        ours, threads = asyncio.all_tasks(), set(threading.enumerate())
        async with client(url) as http:
            for _ in range(_HANG_UPS // _AT_ONCE):
                async with anyio.create_task_group() as tasks:
                    for _ in range(_AT_ONCE):
                        tasks.start_soon(hang_up, http, dice.randrange(1, 12_000), dice.randrange(50, 200))
        with anyio.fail_after(30):
            await upstream.idle()
            while inside["whim"] or asyncio.all_tasks() - ours:  # noqa: ASYNC110  # whoever leaves last tells nobody
                await anyio.sleep(0.01)
        left = {thread.name for thread in set(threading.enumerate()) - threads}
        assert left <= {"AnyIO worker thread"}, "idle ones, for the next tool"
    assert upstream.unfinished == 0
    assert cut > _HANG_UPS // 2
    assert performed["whim"], "some left while tools ran"
    assert whole + cut == _HANG_UPS
