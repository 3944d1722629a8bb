"""Autonomous agents, over HTTP: they plan, carry the plan out, and sum up (docs/engine.md, "One turn")."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import anyio
import pytest

from swarmstream.engine.planning import MAX_CALLS, MAX_CALLS_PER_SUBTASK, MAX_PLAN_TRIES
from swarmstream.engine.subtasks import MAX_SUBTASKS
from tests.clients.runs import answer_of, named, outline, run
from tests.clients.sse import ServerEvent
from tests.fakes.answers import call, calling, calls, in_turn, offered, refusing, results, saying, says
from tests.fakes.clock import DrivenClock
from tests.fakes.tools import forever, inside, under_way
from tests.fakes.upstream import Exchange, Script

pytestmark = pytest.mark.anyio

AUTO: dict[str, Any] = {"max_loops": "auto"}
ONE = [{"id": "1", "title": "All of it"}]
DONE = call("subtask_done", {"result": "fine"})


def plan(subtasks: Any = ONE, *, index: int = 0) -> dict[str, Any]:
    return call("create_plan", {"subtasks": subtasks}, index=index)


def customs(events: list[ServerEvent]) -> list[tuple[str, str, str]]:
    """Where the agent was: the event, the subtask, its status."""
    where = [event.data for event in named(events, "custom") if event.data["name"] != "plan"]
    return [(each["name"], each["data"]["id"], each["data"].get("status", "")) for each in where]


def last_message(exchange: Exchange) -> str:
    """What the model was told last."""
    return exchange.body["messages"][-1]["content"]


@pytest.mark.parametrize("lane", ["direct", "litellm"])
async def test_every_phase_streams_while_the_provider_still_sends(lane: str, tmp_path: Path) -> None:
    """The provider goes on only when the client has read what it said so far."""
    received: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)

    def says_and_waits(text: str, *tool_calls: dict[str, Any]) -> Script:
        async def script(exchange: Exchange) -> None:
            await exchange.open()
            await exchange.say(text)
            await received[text].wait()
            if tool_calls:
                await exchange.delta(tool_calls=list(tool_calls))
            await exchange.finish("tool_calls" if tool_calls else "stop")

        return script

    def on(event: ServerEvent) -> None:
        if event.event == "chunk":
            received[event.data["content"]].set()

    written = [{"id": "two", "title": "Tell", "depends_on": ["one"]}, {"id": "one", "title": "Add"}]
    script = in_turn(
        says_and_waits("I plan. ", plan(written)),
        says_and_waits("I add. ", call("add", {"a": 40, "b": 2})),
        says_and_waits("It is added. ", DONE),
        says_and_waits("I tell. ", DONE),
        says_and_waits("It is 42."),
    )
    agent = {**AUTO, "selected_tools": ["add"]}
    events, exchanges = await run(script, tmp_path, agent, on=on, settings={"lane": lane})
    assert [chunk.data.get("step", 1) for chunk in named(events, "chunk")] == [1, 2, 3, 4, 5]
    assert [offered(exchange) for exchange in exchanges] == [["create_plan"], *[["subtask_done", "add"]] * 3, []]
    assert customs(events) == [
        ("subtask_start", "one", ""),
        ("subtask_end", "one", "done"),
        ("subtask_start", "two", ""),
        ("subtask_end", "two", "done"),
    ]
    whole = named(events, "custom")[0].data
    assert (whole["name"], whole["agent"], whole["turn"]) == (
        "plan",
        "A",
        1,
    )
    assert [subtask["id"] for subtask in whole["data"]["subtasks"]] == ["two", "one"]
    assert [event.data["output"] for event in named(events, "tool_end") if event.data["tool"] == "add"] == ["42"]
    end = named(events, "agent_end")[0].data
    assert (end["output"], end["status"], end["finish_reason"]) == ("It is 42.", "success", "stop")
    assert (end["usage"]["input_tokens"], end["usage"]["output_tokens"]) == (35, 15)
    assert events[-1].data["outputs"][0]["content"] == "It is 42."
    kinds = outline(events)
    acts = ["tool_start", "tool_end"]
    assert kinds == [
        *("agent_start", "chunk", *acts, "custom", "custom"),
        *("chunk", *acts, "chunk", *acts, "custom", "custom"),
        *("chunk", *acts, "custom", "chunk", "agent_end"),
    ]


async def test_the_json_answer_is_the_summary(tmp_path: Path) -> None:
    script = in_turn(calling(plan(), text="I plan. "), calling(DONE), saying("All ", "done"))
    answer = await answer_of(script, tmp_path, {"agent_config": {"agent_name": "A", **AUTO}})
    assert [output["content"] for output in answer.json()["outputs"]] == ["All done"]
    assert answer.json()["usage"]["total_tokens"] == 30


async def test_the_prompt_names_the_present_subtask(tmp_path: Path) -> None:
    written = [{"id": "a", "title": "First"}, {"id": "b", "title": "Second", "depends_on": ["a"]}]
    script = in_turn(calling(plan(written)), calling(DONE), calling(DONE), saying("done"))
    _, exchanges = await run(script, tmp_path, {**AUTO, "system_prompt": "S"})
    assert [message["role"] for message in exchanges[0].body["messages"]] == ["system", "user", "user"]
    assert "Call create_plan" in last_message(exchanges[0])
    assert "subtask a now: First" in last_message(exchanges[1])
    assert "subtask b now: Second" in last_message(exchanges[2])
    assert "write the answer to the task itself" in last_message(exchanges[3])
    assert results(exchanges[3]) == ["the plan is accepted", "the subtask is done", "the subtask is done"]


def subtasks(count: int) -> list[dict[str, Any]]:
    return [{"id": str(number), "title": f"Part {number}"} for number in range(count)]


NO_PLANS: dict[str, tuple[Script, str]] = {
    "text": (saying("I would rather not"), ""),
    "nothing": (saying(), ""),
    "another tool": (calling(call("calculator", {"expression": "1"})), 'no tool "calculator"; there are create_plan'),
    "no subtasks": (calling(plan([])), "1 to 20 subtasks"),
    "a circle": (
        calling(
            plan(
                [{"id": "a", "title": "A", "depends_on": ["b"]}, {"id": "b", "title": "B", "depends_on": ["a"]}],
            )
        ),
        "in a circle",
    ),
    "a subtask that waits for itself": (
        calling(plan([{"id": "a", "title": "A", "depends_on": ["a"]}])),
        "in a circle",
    ),
    "an unknown id": (
        calling(plan([{"id": "a", "title": "A", "depends_on": ["x"]}])),
        '"a" depends on "x", which is no subtask',
    ),
    "one id twice": (calling(plan([{"id": "a", "title": "A"}, {"id": "a", "title": "B"}])), "the same id"),
    "too many": (calling(plan(subtasks(MAX_SUBTASKS + 1))), "1 to 20 subtasks"),
    "no title": (calling(plan([{"id": "a", "title": " "}])), 'the subtask "a" has no title'),
    "no list": (calling(plan("all of it")), '"subtasks"'),
    "a list of numbers": (calling(plan([1])), '"subtasks.0"'),
    "no arguments": (calling(call("create_plan", "")), '"subtasks"'),
    "no JSON": (calling(call("create_plan", '{"subtasks": [')), "not valid JSON"),
}


@pytest.mark.parametrize("case", NO_PLANS)
async def test_a_model_that_gives_no_plan_is_reminded_and_its_turn_fails_after_three_tries(
    case: str, tmp_path: Path
) -> None:
    script, reason = NO_PLANS[case]
    events, exchanges = await run(script, tmp_path, {**AUTO, "selected_tools": ["calculator"]})
    assert len(exchanges) == MAX_PLAN_TRIES == 3
    assert [offered(exchange) for exchange in exchanges] == [["create_plan"]] * 3
    (error,) = named(events, "error")
    assert (error.data["code"], error.data["agent"]) == ("plan_failed", "A")
    assert named(events, "agent_end")[0].data["status"] == events[-1].data["status"] == "failed"
    assert not named(events, "custom")
    assert events[-1].data["usage"]["total_tokens"] == 30
    if reason:
        assert all(event.data["is_error"] for event in named(events, "tool_end"))
        assert len(named(events, "tool_end")) == 3
        assert reason in results(exchanges[2])[0]
    else:
        assert "a call of create_plan" in last_message(exchanges[1])


async def test_a_plan_that_fails_is_a_bad_gateway(tmp_path: Path) -> None:
    answer = await answer_of(saying("no"), tmp_path, {"agent_config": {"agent_name": "A", **AUTO}})
    assert (answer.status_code, answer.json()["code"]) == (502, "plan_failed")


async def test_the_third_try_is_good_enough(tmp_path: Path) -> None:
    script = in_turn(saying("Hm."), calling(plan([])), calling(plan()), calling(DONE), saying("done"))
    events, exchanges = await run(script, tmp_path, AUTO)
    assert len(exchanges) == 5
    assert events[-1].data["status"] == "success"
    assert [event.data["is_error"] for event in named(events, "tool_end")] == [True, False, False]


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        ([{"id": 0, "title": "a"}, {"id": 1, "title": "b", "depends_on": [0]}], ["0", "1"]),
        ([{"title": "a"}, {"description": "b", "depends_on": [1]}], ["1", "2"]),
        ([{"id": "x", "title": "a", "depends_on": None, "priority": "high"}], ["x"]),
        (subtasks(MAX_SUBTASKS), [str(number) for number in range(MAX_SUBTASKS)]),
    ],
)
async def test_plans_may_be_written_loosely(written: Any, ids: list[str], tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await (calls(exchange, DONE) if offered(exchange) else says(exchange, "done"))

    events, _ = await run(in_turn(calling(plan(written)), script), tmp_path, AUTO)
    assert [subtask["id"] for subtask in named(events, "custom")[0].data["data"]["subtasks"]] == ids
    assert [each[1] for each in customs(events) if each[0] == "subtask_end"] == ids


async def test_the_first_of_two_plans_counts(tmp_path: Path) -> None:
    other = [{"id": "x", "title": "Else"}]
    script = in_turn(calling(plan(), plan(other, index=1)), calling(DONE), saying("done"))
    events, _ = await run(script, tmp_path, AUTO)
    assert [event.data["is_error"] for event in named(events, "tool_end")] == [False, True, False]
    assert customs(events) == [("subtask_start", "1", ""), ("subtask_end", "1", "done")]


async def test_subtasks_follow_their_dependencies_and_else_the_plans_order(tmp_path: Path) -> None:
    written = [
        {"id": "d", "title": "D", "depends_on": ["c", "b"]},
        {"id": "c", "title": "C", "depends_on": ["a"]},
        {"id": "b", "title": "B"},
        {"id": "a", "title": "A"},
    ]

    async def script(exchange: Exchange) -> None:
        await (calls(exchange, DONE) if offered(exchange) else says(exchange, "done"))

    events, _ = await run(in_turn(calling(plan(written)), script), tmp_path, AUTO)
    assert [each[1] for each in customs(events) if each[0] == "subtask_start"] == ["b", "a", "c", "d"]


async def test_a_subtask_ends_after_its_last_allowed_call(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        if offered(exchange) == []:
            await says(exchange, "as far as I came")
        else:
            await calls(exchange, call("add", {"a": 1, "b": 1}))

    agent = {**AUTO, "selected_tools": ["add"]}
    events, exchanges = await run(in_turn(calling(plan(subtasks(2))), script), tmp_path, agent)
    assert len(exchanges) == 1 + 2 * MAX_CALLS_PER_SUBTASK + 1
    assert [each[2] for each in customs(events)] == ["", "unfinished", "", "unfinished"]
    assert events[-1].data["outputs"][0]["content"] == "as far as I came"


async def test_a_turn_has_a_bound_on_calls_too(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        if offered(exchange) == []:
            await says(exchange, "as far as I came")
        else:
            await calls(exchange, call("nothing"))

    events, exchanges = await run(in_turn(calling(plan(subtasks(MAX_SUBTASKS))), script), tmp_path, AUTO)
    assert len(exchanges) == MAX_CALLS + 1 == 51
    ends = [each[2] for each in customs(events) if each[0] == "subtask_end"]
    begun = -(-(MAX_CALLS - 1) // MAX_CALLS_PER_SUBTASK)
    assert ends == ["unfinished"] * begun + ["skipped"] * (MAX_SUBTASKS - begun)
    assert named(events, "agent_end")[0].data["output"] == "as far as I came"


async def test_a_model_that_does_not_end_its_subtask_is_reminded_once(tmp_path: Path) -> None:
    script = in_turn(calling(plan()), saying("Hm."), saying("It is done."), saying("Summary"))
    events, exchanges = await run(script, tmp_path, AUTO)
    assert "call subtask_done if" in last_message(exchanges[2])
    assert [message["content"] for message in exchanges[3].body["messages"]][-4:-1] == [
        "Hm.",
        last_message(exchanges[2]),
        "It is done.",
    ]
    assert customs(events)[-1] == ("subtask_end", "1", "done")
    assert named(events, "agent_end")[0].data["output"] == "Summary"


async def test_a_reminder_may_be_followed(tmp_path: Path) -> None:
    script = in_turn(calling(plan()), saying("Hm."), calling(DONE), saying("Summary"))
    _, exchanges = await run(script, tmp_path, AUTO)
    assert len(exchanges) == 4


async def test_tools_called_beside_the_end_of_a_subtask_run(tmp_path: Path) -> None:
    both = calling({**DONE, "index": 0}, call("add", {"a": 1, "b": 2}, index=1))
    events, exchanges = await run(
        in_turn(calling(plan()), both, saying("Summary")), tmp_path, {**AUTO, "selected_tools": ["add"]}
    )
    assert results(exchanges[2]) == ["the plan is accepted", "the subtask is done", "3"]
    assert customs(events)[-1] == ("subtask_end", "1", "done")


HOSTED = ["create_plan", "think", "subtask_done", "complete_task", "respond_to_user"]


@pytest.mark.parametrize(
    "fields",
    [
        {"agent": {"selected_tools": [*HOSTED, "calculator"]}},
        {"agent": {"selected_tools": HOSTED}, "tools_enabled": ["calculator", "think"]},
        {"agent": {"selected_tools": "calculator"}, "tools_enabled": HOSTED},
        {"agent": {"selected_tools": "think"}, "tools_enabled": ["calculator", "calculator"]},
    ],
)
async def test_the_hosted_apis_planning_fields_change_nothing(fields: dict[str, Any], tmp_path: Path) -> None:
    script = in_turn(calling(plan()), calling(DONE), saying("ok"))
    agent = {**AUTO, **fields["agent"]}
    events, exchanges = await run(script, tmp_path, agent, tools_enabled=fields.get("tools_enabled", []))
    assert events[-1].data["status"] == "success"
    assert [offered(exchange) for exchange in exchanges] == [["create_plan"], ["subtask_done", "calculator"], []]
    _, exchanges = await run(saying("ok"), tmp_path, fields["agent"], tools_enabled=fields.get("tools_enabled", []))
    assert offered(exchanges[0]) == ["calculator"], "an agent that does not plan has none of them"


@pytest.mark.noisy
async def test_a_call_that_fails_fails_the_turn_and_its_usage_counts(tmp_path: Path) -> None:
    script = in_turn(calling(plan()), refusing(400))
    events, _ = await run(script, tmp_path, AUTO)
    assert [event.data["code"] for event in named(events, "error")] == ["provider_rejected"]
    assert events[-1].data["usage"]["total_tokens"] == 10
    assert customs(events) == [("subtask_start", "1", "")]


async def test_the_deadline_cancels_a_tool_of_a_subtask(tmp_path: Path) -> None:
    what = "autonomous"
    script = in_turn(calling(plan()), calling(call(forever.__name__, {"what": what})))
    agent = {**AUTO, "selected_tools": [forever.__name__], "timeout": 20}
    clock = DrivenClock()

    async def time_passes() -> None:
        await under_way(what)
        await clock.advance(20)

    events, _ = await run(script, tmp_path, agent, settings={"clock": clock}, meanwhile=time_passes)
    assert [event.data["code"] for event in named(events, "error")] == ["turn_timeout"]
    assert [event.data["is_error"] for event in named(events, "tool_end")] == [False, True]
    assert not inside[what]


async def test_only_the_summary_is_held_to_a_format(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    script = in_turn(calling(plan()), calling(DONE), saying("sum: 3"), saying('{"sum": 3}'))
    events, exchanges = await run(script, tmp_path, {**AUTO, "response_format": schema})
    assert ["response_format" in exchange.body for exchange in exchanges] == [False, False, True, True]
    assert json.loads(named(events, "agent_end")[0].data["output"]) == {"sum": 3}


async def test_the_next_agent_reads_only_the_summary(tmp_path: Path) -> None:
    auto = in_turn(calling(plan(), text="I plan. "), calling(DONE, text="I work. "), saying("42"))

    async def script(exchange: Exchange) -> None:
        await (auto if exchange.system == "A" else saying("b"))(exchange)

    agents = [{"agent_name": "A", "system_prompt": "A", **AUTO}, {"agent_name": "B", "system_prompt": "B"}]
    _, exchanges = await run(script, tmp_path, agents=agents)
    assert [message["content"] for message in exchanges[-1].body["messages"]] == ["B", "go", "A: 42"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"steps": [{"step_id": 1, "description": "first"}, {"step_id": 2, "name": "second", "dependencies": [1]}]},
        {"subtasks": '[{"id": "1", "title": "first"}, {"id": "2", "title": "second", "depends_on": "1"}]'},
        {"subtasks": ["first", "second"]},
    ],
)
async def test_plans_in_other_forms_are_understood(arguments: Any, tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        match offered(exchange):
            case ["create_plan"]:
                await calls(exchange, call("create_plan", arguments))
            case []:
                await says(exchange, "summed up")
            case _:
                await calls(exchange, call("subtask_done", {}))

    events, _ = await run(script, tmp_path, {"max_loops": "auto"})
    started = [event.data["data"] for event in named(events, "custom") if event.data["name"] == "subtask_start"]
    assert [subtask["title"] for subtask in started] == ["first", "second"]
    assert named(events, "agent_end")[0].data["output"] == "summed up"
