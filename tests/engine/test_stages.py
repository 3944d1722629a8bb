"""Plans carried out: the order of turns, and the earlier turns that each agent reads (docs/engine.md, "Hand-off")."""

import pytest

from swarmstream.errors import ProviderAuth
from swarmstream.events import Event, TextDelta, TurnEnded, TurnFailed, TurnStarted
from tests.engine.carrying_out import carry_out
from tests.fakes.scripted_model import ScriptedModel, swarm

pytestmark = pytest.mark.anyio


def texts(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.agent, event.text) for event in events if isinstance(event, TextDelta)]


async def test_agents_of_a_stage_interleave_and_the_next_stage_reads_them_all() -> None:
    model = ScriptedModel({"A": ["a1", "a2"], "B": ["b1", "b2"], "C": ["c"]}, order="ABBAC")
    succeeded, events = await carry_out(swarm("A, B -> C"), model)
    assert succeeded
    assert texts(events) == [("A", "a1"), ("B", "b1"), ("B", "b2"), ("A", "a2"), ("C", "c")]
    assert model.prompts("A") == [[("user", "go")]]
    assert model.prompts("B") == [[("user", "go")]]
    assert model.prompts("C") == [[("user", "go"), ("user", "A: a1a2"), ("user", "B: b1b2")]]


@pytest.mark.promise("W-38")
async def test_answers_are_handed_on_in_flow_order_and_not_in_the_order_of_their_ends() -> None:
    model = ScriptedModel({"A": ["late"], "B": ["early"], "C": ["c"]}, order="BAC")
    _, events = await carry_out(swarm("A, B -> C"), model)
    assert next(event.agent for event in events if isinstance(event, TurnEnded)) == "B"
    assert model.prompts("C")[0][1:] == [("user", "A: late"), ("user", "B: early")]


async def test_an_agent_reads_its_own_earlier_answer_as_the_assistants() -> None:
    model = ScriptedModel({"A": [["one"], ["two"]], "B": ["b"]})
    _, events = await carry_out(swarm("A -> B -> A"), model)
    assert model.prompts("A")[1] == [("user", "go"), ("assistant", "one"), ("user", "B: b")]
    assert [event.turn for event in events if isinstance(event, TurnStarted)] == [1, 2, 3]
    assert [event.stage for event in events if isinstance(event, TurnStarted)] == [1, 2, 3]


async def test_loops_repeat_the_flow_on_the_growing_conversation() -> None:
    model = ScriptedModel({"A": [["a1"], ["a2"]], "B": [["b1"], ["b2"]]})
    _, events = await carry_out(swarm("A -> B", max_loops=2), model)
    assert model.prompts("B")[1] == [("user", "go"), ("user", "A: a1"), ("assistant", "b1"), ("user", "A: a2")]
    places = [(event.turn, event.loop, event.stage) for event in events if isinstance(event, TurnStarted)]
    assert places == [(1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 2, 2)]


async def test_concurrent_agents_read_only_the_loop_before() -> None:
    model = ScriptedModel({"A": [["a1"], ["a2"], ["a3"]], "B": [["b1"], ["b2"], ["b3"]]})
    await carry_out(swarm("A, B", swarm_type="ConcurrentWorkflow", max_loops=3), model)
    assert model.prompts("A") == [
        [("user", "go")],
        [("user", "go"), ("assistant", "a1"), ("user", "B: b1")],
        [("user", "go"), ("assistant", "a2"), ("user", "B: b2")],
    ]


async def test_each_of_several_tasks_begins_a_fresh_conversation() -> None:
    model = ScriptedModel({"A": [["a1"], ["a2"]], "B": [["b1"], ["b2"]]})
    _, events = await carry_out(swarm("A -> B", task=None, tasks=["first", "second"]), model)
    assert model.prompts("B") == [[("user", "first"), ("user", "A: a1")], [("user", "second"), ("user", "A: a2")]]
    assert [event.task_index for event in events if isinstance(event, TurnStarted)] == [0, 0, 1, 1]


async def test_siblings_of_a_failed_agent_finish_and_later_stages_do_not_run() -> None:
    model = ScriptedModel({"A": ["a", ProviderAuth("no")], "B": ["b1", "b2"], "C": ["c"]}, order="ABB")
    succeeded, events = await carry_out(swarm("A, B -> C"), model)
    assert not succeeded
    ends = {event.agent: event for event in events if isinstance(event, TurnEnded)}
    assert {agent: (end.status, end.output) for agent, end in ends.items()} == {
        "A": ("failed", "a"),
        "B": ("success", "b1b2"),
    }
    failed = next(event for event in events if isinstance(event, TurnFailed))
    assert (failed.agent, failed.failure.code, failed.attempts) == ("A", "provider_auth", 1)
    assert events.index(failed) + 1 == events.index(ends["A"])


async def test_with_on_error_continue_the_next_stage_reads_which_agents_failed() -> None:
    model = ScriptedModel({"A": ["a"], "B": [ProviderAuth("no")], "C": ["c"]})
    succeeded, _ = await carry_out(swarm("A, B -> C"), model, on_error="continue")
    assert succeeded
    assert model.prompts("C") == [[("user", "go"), ("user", "A: a"), ("user", "B failed: provider_auth")]]
