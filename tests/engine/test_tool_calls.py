"""Agents that call tools, over HTTP: what the provider is sent, what the client reads (docs/engine.md, "One turn")."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import anyio
import pytest

from swarmstream.tools.base import MAX_OUTPUT_BYTES
from tests.clients.runs import answer_of, named, outline, run, swarm_of
from tests.clients.sse import ServerEvent
from tests.fakes.answers import by_agent, call, calling, calls, in_turn, offered, results, saying, says
from tests.fakes.clock import DrivenClock
from tests.fakes.tools import inside, marks, performed
from tests.fakes.upstream import Exchange, Script

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["direct", "litellm"])
def lane(request: pytest.FixtureRequest) -> str:
    return request.param


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
    tool_call = {"id": "call_add_0", "type": "function", "function": {"name": "add", "arguments": '{"a": 17, "b": 25}'}}
    assert exchanges[1].body["messages"] == [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "Let me add. ", "tool_calls": [tool_call]},
        {"role": "tool", "tool_call_id": "call_add_0", "content": "42"},
    ]


async def test_a_streamed_run_ends_with_the_content_of_the_json_answer(lane: str, tmp_path: Path) -> None:
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
async def test_the_model_learns_once_about_a_tool_that(fault: str, tmp_path: Path) -> None:
    asked, reason = FAULTS[fault]
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
    assert reason in ended.data["output"]
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


async def test_a_result_that_is_too_large_is_cut(tmp_path: Path) -> None:
    script = in_turn(calling(call("much", {"kilobytes": 33})), saying("ok"))
    events, exchanges = await run(script, tmp_path, {"selected_tools": "much", "max_loops": 2})
    (ended,) = named(events, "tool_end")
    assert ended.data["is_error"] is False
    assert len(ended.data["output"].encode()) <= MAX_OUTPUT_BYTES
    assert "[cut: these are the first 32 kB" in ended.data["output"]
    assert results(exchanges[1]) == [ended.data["output"]]


@pytest.mark.parametrize("bound", [1, 3])
async def test_after_max_loops_the_model_is_called_once_more_without_tools(bound: int, tmp_path: Path) -> None:
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


async def test_a_turn_ends_at_the_first_answer_without_tool_calls(tmp_path: Path) -> None:
    for agent in ({"max_loops": 5}, {"max_loops": 5, "selected_tools": ["add"]}):
        _, exchanges = await run(saying("at once"), tmp_path, agent)
        assert len(exchanges) == 1
    assert "tools" in exchanges[0].body  # pyright: ignore[reportPossiblyUnboundVariable]


async def test_the_next_agent_reads_only_the_final_answer(tmp_path: Path) -> None:
    thoughtful = in_turn(calling(call("add", {"a": 1, "b": 2}), text="Let me see. "), saying("It is 3"))
    agents = swarm_of({"agent_name": "A", "selected_tools": "add", "max_loops": 2}, {"agent_name": "B"})
    events, exchanges = await run(by_agent(A=thoughtful, B=saying("b")), tmp_path, **agents)
    assert [message["content"] for message in exchanges[-1].body["messages"]] == ["B", "go", "A: It is 3"]
    assert [output["content"] for output in events[-1].data["output"]] == ["It is 3", "b"]
    assert "tools" not in exchanges[-1].body


async def test_a_model_that_still_calls_tools_is_asked_once_to_answer(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        if "No tool can be called" in str(exchange.body["messages"][-1]["content"]):
            await says(exchange, "well then")
        else:
            await calls(exchange, call("calculator", {"expression": "1+1"}))

    events, exchanges = await run(script, tmp_path, {"selected_tools": ["calculator"]})
    assert [bool(offered(exchange)) for exchange in exchanges] == [True, False, False]
    assert named(events, "agent_end")[0].data["output"] == "well then"
    assert len({event.data["tool_call_id"] for event in named(events, "tool_start")}) == 1


@pytest.mark.noisy
async def test_a_model_that_never_answers_fails_and_ids_are_never_used_twice(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await calls(exchange, call("calculator", {"expression": "1+1"}))

    events, _ = await run(script, tmp_path, {"selected_tools": ["calculator"], "max_loops": 3})
    assert [event.data["code"] for event in named(events, "error")] == ["invalid_output"]
    ids = [event.data["tool_call_id"] for event in named(events, "tool_start")]
    assert len(set(ids)) == len(ids) == 3


async def test_tokens_of_every_call_arrive_while_the_provider_still_sends(lane: str, tmp_path: Path) -> None:
    """The provider goes on only when the client has read what it said so far."""
    received: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)

    async def first(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("Hm.")
        await received["Hm."].wait()
        await exchange.delta(tool_calls=[call("add", {"a": 1, "b": 2})])
        await exchange.finish("tool_calls")

    async def second(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("It is")
        await received["It is"].wait()
        await exchange.say(" 3")
        await received[" 3"].wait()
        await exchange.finish()

    def on(event: ServerEvent) -> None:
        if event.event == "chunk":
            received[event.data["content"]].set()

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
