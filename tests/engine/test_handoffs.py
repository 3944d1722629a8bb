"""Agents that hand off to others, over HTTP (docs/engine.md, "One turn")."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from swarmstream.engine.handoff import MAX_HANDOFFS_IN_A_ROW
from swarmstream.engine.run_context import RunContext
from swarmstream.engine.stages import Execution
from swarmstream.engine.timeouts import TurnTimeouts
from swarmstream.engine.turn import TurnRunner
from swarmstream.errors import ProviderAuth
from swarmstream.events import TurnEnded, TurnStarted
from swarmstream.llm.base import Finished, ToolCallDelta
from swarmstream.swarm.plan import Stage
from tests.clients.runs import answer_of, named, run, swarm_of
from tests.clients.sse import ServerEvent
from tests.engine.carrying_out import carry_out
from tests.fakes.answers import by_agent, call, calling, in_turn, offered, refusing, results, saying
from tests.fakes.clock import DrivenClock
from tests.fakes.recorder import KeptEvents
from tests.fakes.scripted_model import ScriptedModel, swarm
from tests.fakes.tools import performed, under_way
from tests.fakes.upstream import Exchange

pytestmark = pytest.mark.anyio


def spec(name: str, *receivers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An agent that tells the provider its name."""
    handoffs = {"handoffs": list(receivers)} if receivers else {}
    return {"agent_name": name, "system_prompt": name, "description": f"knows {name}", **handoffs, **fields}


def passing(to: str, message: str | None = None, *, text: str = "", index: int = 0) -> Any:
    arguments = {"agent": to} if message is None else {"agent": to, "message": message}
    return calling(call("handoff", arguments, index=index), text=text)


def turns(events: list[ServerEvent]) -> list[tuple[str, str, int]]:
    return [
        (event.event, event.data["agent"], event.data["turn"]) for event in named(events, "agent_start", "agent_end")
    ]


def asked(exchanges: list[Exchange], name: str) -> Exchange:
    return next(exchange for exchange in exchanges if exchange.system == name)


def messages_to(exchanges: list[Exchange], name: str) -> list[tuple[str, str]]:
    """What an agent was told after its system prompt."""
    return [(each["role"], each["content"]) for each in asked(exchanges, name).body["messages"][1:]]


@pytest.mark.parametrize("lane", ["direct", "litellm"])
async def test_the_receiver_of_a_handoff_answers_instead(lane: str, tmp_path: Path) -> None:
    agents = swarm_of(spec("A", spec("B"), spec("C")), spec("Z"))
    script = by_agent(A=passing("B", "Mind the rain.", text="B knows that."), B=saying("It ", "rains"), Z=saying("z"))
    events, exchanges = await run(script, tmp_path, settings={"lane": lane}, **agents)
    assert turns(events) == [
        *(("agent_start", "A", 1), ("agent_end", "A", 1)),
        *(("agent_start", "B", 2), ("agent_end", "B", 2)),
        *(("agent_start", "Z", 3), ("agent_end", "Z", 3)),
    ]
    tool = asked(exchanges, "A").body["tools"][0]["function"]
    assert tool["name"] == "handoff"
    assert tool["parameters"]["properties"]["agent"]["enum"] == ["B", "C"]
    assert "B: knows B; C: knows C" in tool["parameters"]["properties"]["agent"]["description"]
    assert messages_to(exchanges, "B") == [("user", "go"), ("user", "A: B knows that.\n\nMind the rain.")]
    assert not offered(asked(exchanges, "B"))
    assert messages_to(exchanges, "Z") == [("user", "go"), ("user", "B: It rains")]
    (ended,) = named(events, "tool_end")
    assert (ended.data["tool"], ended.data["is_error"]) == ("handoff", False)
    first, second, _ = (event.data for event in named(events, "agent_end"))
    assert (first["output"], first["finish_reason"], first["status"]) == ("B knows that.", "tool_calls", "success")
    assert (second["output"], second["usage"]["input_tokens"]) == ("It rains", 7)
    assert events[-1].data["output"] == [
        {"role": "A", "content": "B knows that."},
        {"role": "B", "content": "It rains"},
        {"role": "Z", "content": "z"},
    ]


async def test_the_last_receiver_answers_for_all(tmp_path: Path) -> None:
    agent = spec("A", spec("B", spec("C")))
    script = by_agent(A=passing("B", "first"), B=passing("C", "second"), C=saying("c"))
    events, exchanges = await run(script, tmp_path, agent)
    assert [each[1:] for each in turns(events)] == [("A", 1), ("A", 1), ("B", 2), ("B", 2), ("C", 3), ("C", 3)]
    assert messages_to(exchanges, "C") == [("user", "go"), ("user", "A: first"), ("user", "B: second")]
    assert [output["content"] for output in events[-1].data["outputs"]] == ["", "", "c"]
    answer = await answer_of(script, tmp_path, {"agent_config": agent})
    assert [(each["role"], each["content"]) for each in answer.json()["outputs"]] == [("A", ""), ("B", ""), ("C", "c")]


async def test_a_handoff_without_a_message_adds_nothing_to_the_prompt(tmp_path: Path) -> None:
    _, exchanges = await run(by_agent(A=passing("B"), B=saying("b")), tmp_path, spec("A", spec("B")))
    assert messages_to(exchanges, "B") == [("user", "go")]


async def test_a_handoff_in_a_parallel_stage_does_not_delay_the_siblings(tmp_path: Path) -> None:
    """B speaks only once its sibling has, and the sibling ends only once B has."""
    spoken = {name: anyio.Event() for name in "BSZ"}

    def on(event: ServerEvent) -> None:
        if event.event == "chunk":
            spoken[event.data["agent"]].set()

    async def receiver(exchange: Exchange) -> None:
        await spoken["S"].wait()
        await saying("b")(exchange)

    async def sibling(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("s")
        await spoken["B"].wait()
        await exchange.finish()

    agents = swarm_of(spec("A", spec("B")), spec("S"), spec("Z"), rearrange_flow="A, S -> Z")
    script = by_agent(A=passing("B"), B=receiver, S=sibling, Z=saying("z"))
    events, exchanges = await run(script, tmp_path, on=on, **agents)
    assert messages_to(exchanges, "Z") == [("user", "go"), ("user", "B: b"), ("user", "S: s")]
    assert {event.data["agent"]: event.data["stage"] for event in named(events, "agent_start")} == {
        "A": 1,
        "S": 1,
        "B": 1,
        "Z": 2,
    }
    assert sorted(event.data["turn"] for event in named(events, "agent_start")) == [1, 2, 3, 4]


async def test_a_wrong_name_is_an_error_and_the_agent_goes_on(tmp_path: Path) -> None:
    script = in_turn(passing("X"), calling(call("handoff", {"agent": 7})), saying("myself, then"))
    events, exchanges = await run(script, tmp_path, spec("A", spec("B"), max_loops=3))
    assert [event.data["is_error"] for event in named(events, "tool_end")] == [True, True]
    assert results(exchanges[2]) == ["agent must be one of B"] * 2
    assert turns(events) == [("agent_start", "A", 1), ("agent_end", "A", 1)]
    assert events[-1].data["outputs"][0]["content"] == "myself, then"


async def test_the_first_of_two_handoffs_counts_and_tools_beside_it_run(tmp_path: Path) -> None:
    before = performed["add"]
    several = calling(
        call("handoff", {"agent": "B"}, index=0),
        call("handoff", {"agent": "C"}, index=1),
        call("add", {"a": 1, "b": 2}, index=2),
    )
    agent = spec("A", spec("B"), spec("C"), selected_tools=["add"])
    events, _ = await run(by_agent(A=several, B=saying("b")), tmp_path, agent)
    assert [event.data["agent"] for event in named(events, "agent_start")] == ["A", "B"]
    ended = {event.data["tool_call_id"]: event.data for event in named(events, "tool_end")}
    assert [ended[f"call_{name}"]["is_error"] for name in ("handoff_0", "handoff_1", "add_2")] == [False, True, False]
    assert ended["call_handoff_1"]["output"] == "B has the word already"
    assert performed["add"] == before + 1


async def test_an_agent_can_hand_off_after_using_tools(tmp_path: Path) -> None:
    agent = spec("A", spec("B", selected_tools=["add"], max_loops=2), selected_tools=["add"], max_loops=3)
    sums = call("add", {"a": 1, "b": 2})
    script = by_agent(
        A=in_turn(calling(sums, text="Hm."), passing("B", "do it")), B=in_turn(calling(sums), saying("3"))
    )
    events, exchanges = await run(script, tmp_path, agent)
    assert [event.data["output"] for event in named(events, "agent_end")] == ["", "3"]
    assert messages_to(exchanges, "B") == [("user", "go"), ("user", "A: do it")], "no earlier step is handed on"


@pytest.mark.noisy
async def test_a_receiver_that_fails_fails_the_stage(tmp_path: Path) -> None:
    agents = swarm_of(spec("A", spec("B")), spec("Z"))
    script = by_agent(A=passing("B", text="B knows."), B=refusing(400), Z=saying("z"))
    events, _ = await run(script, tmp_path, **agents)
    assert [event.data["agent"] for event in named(events, "agent_start")] == ["A", "B"]
    assert [(event.data["agent"], event.data["code"]) for event in named(events, "error")] == [
        ("B", "provider_rejected")
    ]
    assert (events[-1].data["status"], events[-1].data["failed_agents"]) == ("failed", ["B"])


@pytest.mark.noisy
async def test_with_on_error_continue_the_next_stage_reads_that_the_receiver_failed(tmp_path: Path) -> None:
    agents = swarm_of(spec("A", spec("B")), spec("Z"), on_error="continue")
    script = by_agent(A=passing("B", text="B knows."), B=refusing(400), Z=saying("z"))
    events, exchanges = await run(script, tmp_path, **agents)
    assert messages_to(exchanges, "Z") == [("user", "go"), ("user", "B failed: provider_rejected")]
    assert (events[-1].data["status"], events[-1].data["failed_agents"]) == ("success", ["B"])


@pytest.mark.noisy
async def test_a_turn_that_fails_makes_no_handoff(tmp_path: Path) -> None:
    """The turn's time is over while another tool runs beside the handoff."""
    both = calling(call("handoff", {"agent": "B"}, index=0), call("forever", {"what": "beside"}, index=1))
    agent = spec("A", spec("B"), selected_tools=["forever"], timeout=20)
    clock = DrivenClock()

    async def time_passes() -> None:
        await under_way("beside")
        await clock.advance(20)

    script = by_agent(A=both, B=saying("b"))
    events, _ = await run(script, tmp_path, agent, settings={"clock": clock}, meanwhile=time_passes)
    assert [event.data["agent"] for event in named(events, "agent_start")] == ["A"]
    assert [event.data["code"] for event in named(events, "error")] == ["turn_timeout"]


async def test_a_clients_tool_comes_before_a_handoff(tmp_path: Path) -> None:
    function: dict[str, Any] = {"name": "ask", "parameters": {"type": "object", "properties": {}}}
    both = calling(call("handoff", {"agent": "B"}, index=0), call("ask", index=1))
    agent = spec("A", spec("B"), tools_list_dictionary=[function])
    events, _ = await run(by_agent(A=both, B=saying("b")), tmp_path, agent)
    assert [event.data["agent"] for event in named(events, "agent_start")] == ["A"]
    assert [each["function"]["name"] for each in named(events, "agent_end")[0].data["tool_calls"]] == ["ask"]


async def test_each_loop_begins_with_the_agents_of_the_flow(tmp_path: Path) -> None:
    script = by_agent(A=in_turn(passing("B", "one"), saying("a")), B=saying("b"))
    events, exchanges = await run(script, tmp_path, max_loops=2, **swarm_of(spec("A", spec("B"))))
    assert [(event.data["agent"], event.data["loop"]) for event in named(events, "agent_start")] == [
        ("A", 1),
        ("B", 1),
        ("A", 2),
    ]
    assert [message["content"] for message in exchanges[-1].body["messages"]] == ["A", "go", "B: b"]


async def test_at_most_eight_handoffs_follow_each_other() -> None:
    """Longer chains than a payload can hold: whoever has the ninth word cannot pass it on."""
    names = [f"A{number}" for number in range(MAX_HANDOFFS_IN_A_ROW + 2)]
    compiled = swarm(", ".join(names))
    agents = list(compiled.plan.stages[0].agents)
    for number in range(len(agents) - 1, 0, -1):
        agents[number - 1] = replace(agents[number - 1], handoffs=(agents[number],))
    compiled = replace(compiled, plan=replace(compiled.plan, stages=(Stage((agents[0],)),)))

    def passes(number: int) -> list[Any]:
        return [ToolCallDelta(0, f"c{number}", "handoff", f'{{"agent": "A{number + 1}"}}'), Finished("tool_calls")]

    model = ScriptedModel({name: [passes(number), ["alone"]] for number, name in enumerate(names)})
    succeeded, events = await carry_out(compiled, model)
    assert succeeded
    spoke = [event.agent for event in events if isinstance(event, TurnStarted)]
    assert spoke == names[: MAX_HANDOFFS_IN_A_ROW + 1]
    assert [bool(asked.tools) for asked in model.calls] == [True] * 8 + [False, False]
    last = events[-1]
    assert isinstance(last, TurnEnded)
    assert (last.agent, last.output) == ("A8", "alone")


async def test_a_cancelled_run_makes_no_handoff() -> None:
    """`before_turn` is where a run waits that nobody reads: no receiver starts meanwhile."""
    compiled = swarm(agents=[{"agent_name": "A", "model_name": "A", "handoffs": [{"agent_name": "B"}]}])
    model = ScriptedModel({"A": [ToolCallDelta(0, "c", "handoff", '{"agent": "B"}')], "default": [ProviderAuth("no")]})
    waits = 0

    async def before_turn() -> None:
        nonlocal waits
        waits += 1
        if waits == 2:
            scope.cancel()
            await anyio.sleep_forever()

    notes = KeptEvents()
    with anyio.CancelScope() as scope:
        await Execution(
            compiled.plan, TurnRunner({"scripted": model}, TurnTimeouts()), RunContext(notes), "fail", before_turn
        ).carry_out()
    assert [event.agent for event in notes.events if isinstance(event, TurnStarted)] == ["A"]
