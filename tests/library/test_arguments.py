"""Arguments and tasks that are refused before any model is called."""

from typing import Any

import pytest

from swarmstream import (
    Agent,
    AgentRearrange,
    ConcurrentWorkflow,
    SequentialWorkflow,
)
from swarmstream.errors import (
    AppError,
    InvalidRequest,
    NoCredentials,
    NoTask,
)
from tests.fakes.upstream import hello
from tests.library.teams import TEAMS, Serve, agent, every_team, every_way, run, runs, stream

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (Agent, {"agent_nam": "A"}, "Agent has no argument 'agent_nam'; did you mean 'agent_name'?"),
        (Agent, {"streamingon": True}, "Agent has no argument 'streamingon'; did you mean 'streaming_on'?"),
        (Agent, {"xyz": 1}, "Agent has no argument 'xyz'"),
        (Agent, {"user_name": "A"}, "Agent has no argument 'user_name'"),
        (Agent, {"streaming_callback": 1}, "Agent has no argument 'streaming_callback'"),
        (Agent, {"stopping_token": "x"}, "Agent has no argument 'stopping_token'"),
        (Agent, {"self_": 1}, "Agent has no argument 'self_'"),
        (Agent, {"name": "A"}, "Agent has no argument 'name'; did you mean 'agent_name'?"),
        (Agent, {"agent_description": "A"}, "Agent has no argument 'agent_description'; did you mean 'description'?"),
        (Agent, {"fallback_models": []}, "Agent has no argument 'fallback_models'; did you mean 'fallbacks'?"),
        (Agent, {"tools_list_dictionary": []}, "Agent has no argument 'tools_list_dictionary'; did you mean 'tools'?"),
        (AgentRearrange, {"agents": [], "more": 1}, "AgentRearrange has no argument 'more'"),
        (
            *(AgentRearrange, {"agents": [], "rearrange_flow": "A"}),
            "AgentRearrange has no argument 'rearrange_flow'; did you mean 'flow'?",
        ),
        (SequentialWorkflow, {"agent": []}, "SequentialWorkflow has no argument 'agent'; did you mean 'agents'?"),
        (AgentRearrange, {"agents": [], "flwo": "A"}, "AgentRearrange has no argument 'flwo'; did you mean 'flow'?"),
        (
            *(ConcurrentWorkflow, {"agents": [], "show_dashbord": True}),
            "ConcurrentWorkflow has no argument 'show_dashbord'; did you mean 'show_dashboard'?",
        ),
        (
            *(AgentRearrange, {"agents": [], "flow": "A", "max_loop": 2}),
            "AgentRearrange has no argument 'max_loop'; did you mean 'max_loops'?",
        ),
    ],
)
def test_an_unknown_argument_is_an_error_that_names_the_near_miss(
    make: type, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError) as caught:
        make(**arguments)
    assert str(caught.value) == message


def test_a_subclass_may_have_arguments_of_its_own() -> None:
    class Poet(Agent):
        def __init__(self, metre: str, **more: Any) -> None:
            super().__init__(system_prompt=f"Write in {metre}.", **more)

    assert Poet(metre="iambs", agent_name="P").system_prompt == "Write in iambs."
    with pytest.raises(TypeError, match="Poet has no argument 'metr'; did you mean 'metre'"):
        Poet(metr="iambs")  # pyright: ignore[reportCallIssue]


@every_way
@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"max_loops": "many"}, "max_loops"),
        ({"temperature": "hot"}, "temperature"),
        ({"agent_name": " "}, "agent_name"),
    ],
)
async def test_an_argument_of_the_wrong_type_is_refused_by_name(
    way: str, wrong: dict[str, Any], where: str, openai: Serve
) -> None:
    async with openai(hello) as upstream:
        for team in (agent(**wrong), ConcurrentWorkflow([agent("A"), agent(**{"name": "B", **wrong})])):
            with pytest.raises(InvalidRequest, match=where):
                await run(way, team, "go")
    assert not upstream.exchanges


@every_way
@every_team
async def test_missing_credentials_are_an_error_before_any_model_call(
    way: str, kind: str, openai: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with openai(hello) as upstream:
        monkeypatch.delenv("OPENAI_API_KEY")
        team = TEAMS[kind]()
        with pytest.raises(NoCredentials, match="set OPENAI_API_KEY") as caught:
            await run(way, team, "go")
        assert caught.value.detail.startswith("this program has no credentials for the model ")
        assert caught.value.detail.endswith(', or model_name="demo/swarm", which needs none')
        with pytest.raises(AppError):
            await stream(way, team, "go")
        with pytest.raises(AppError):
            team.start("go")
        assert not runs()
    assert not upstream.exchanges


async def test_an_empty_task_is_refused_even_by_an_agent_that_remembers_others(openai: Serve) -> None:
    async with openai(hello) as upstream:
        remembering = agent(persistent_memory=True)
        await remembering.arun("go")
        for team in (remembering, *(make() for make in TEAMS.values())):
            with pytest.raises(NoTask):
                await team.arun(" ")
    assert len(upstream.exchanges) == 1


def test_a_team_is_made_of_agents() -> None:
    members: Any = [agent(), "B"]
    with pytest.raises(TypeError, match="SequentialWorkflow is made of agents, not of str"):
        SequentialWorkflow(members)


async def test_an_agents_llm_has_a_method_stream(openai: Serve) -> None:
    async with openai(hello):
        assert hasattr(agent().llm, "stream")


def test_handoffs_in_a_circle_are_refused() -> None:
    first, second = (Agent(agent_name=name, model_name="demo/swarm", print_on=False) for name in "AB")
    first.handoffs, second.handoffs = [second], [first]
    with pytest.raises(InvalidRequest, match="circle"):
        first.run("go")
