"""Results, tokens and events of every kind of team, run in every way."""

import pytest
from anyio import fail_after, to_thread

from swarmstream import (
    AgentEvent,
    SequentialWorkflow,
    TeamEvent,
)
from tests.fakes.upstream import hello
from tests.library.teams import (
    RESULTS,
    SPEAKERS,
    TEAMS,
    Serve,
    agent,
    check_types,
    every_team,
    every_way,
    run,
    stream,
    unending,
)

pytestmark = pytest.mark.anyio


@every_way
@every_team
async def test_a_run_comes_to_its_result(way: str, kind: str, openai: Serve) -> None:
    async with openai(hello):
        assert await run(way, TEAMS[kind](), "go") == RESULTS[kind]


@every_way
@every_team
async def test_a_stream_yields_every_agents_tokens(way: str, kind: str, openai: Serve) -> None:
    async with openai(hello):
        tokens = await stream(way, TEAMS[kind](), "go")
    assert sorted(tokens) == sorted(token for name in SPEAKERS[kind] for token in (f"{name} says ", "hello"))


@every_way
@every_team
async def test_events_name_the_agent_of_each_token(way: str, kind: str, openai: Serve) -> None:
    async with openai(hello):
        events = await stream(way, TEAMS[kind](), "go", with_events=True)
    assert [event["type"] for event in (*events[:2], *events[-2:])] == ["metadata", "start", "usage", "end"]
    for turn, name in enumerate(SPEAKERS[kind], start=1):
        turn_events = [event for event in events if event.get("turn") == turn]
        assert {event["agent"] for event in turn_events} == {name}
        assert [event["type"] for event in turn_events] == ["agent_start", "token", "token", "agent_end"]
        assert [event["token"] for event in turn_events if event["type"] == "token"] == [f"{name} says ", "hello"]
        assert turn_events[-1]["output"] == f"{name} says hello"
    check_types(events, AgentEvent if kind == "agent" else TeamEvent)


async def test_tokens_come_while_the_provider_is_still_sending(openai: Serve) -> None:
    async with openai(unending) as upstream:

        def first_token() -> str:
            tokens = agent().run_stream("go")
            try:
                assert upstream.unfinished == 0, "nothing is asked before the first token is"
                return next(tokens)
            finally:
                assert upstream.unfinished == 1
                tokens.close()

        with fail_after(30):
            assert await to_thread.run_sync(first_token) == "word "


async def test_an_image_is_sent_with_the_task(openai: Serve) -> None:
    async with openai(hello) as upstream:
        await agent().arun("what is it?", "https://example.com/cat.png")
        await SequentialWorkflow([agent()]).arun("what is it?", "https://example.com/cat.png")
    for exchange in upstream.exchanges:
        content = exchange.body["messages"][-1]["content"]
        assert content[1]["image_url"] == {"url": "https://example.com/cat.png"}


async def test_arguments_reach_the_model(openai: Serve) -> None:
    tuned = agent(model_name="gpt-4o-mini", temperature=0.5, max_tokens=99, llm_args={"top_p": 0.9})
    async with openai(hello) as upstream:
        await tuned.arun("go")
        tuned.temperature = None
        await tuned.arun("go")
    first, second = (exchange.body for exchange in upstream.exchanges)
    assert (first["model"], first["temperature"], first["max_tokens"], first["top_p"]) == ("gpt-4o-mini", 0.5, 99, 0.9)
    assert "temperature" not in second, "attributes may be changed between runs"


async def test_rules_and_loops_of_a_workflow_reach_its_agents(openai: Serve) -> None:
    async with openai(hello) as upstream:
        result = await SequentialWorkflow([agent()], max_loops=2, rules="be brief").arun("go")
    assert result == "be brief\n\nA says hello"
    assert [len(exchange.body["messages"]) for exchange in upstream.exchanges] == [2, 3]
