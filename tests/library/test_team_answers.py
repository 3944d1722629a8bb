"""Answers of teams run by the library: their order, their failures, their files."""

from pathlib import Path
from typing import Any

import pytest

from swarmstream import Agent, AgentRearrange, ConcurrentWorkflow, Failed, SequentialWorkflow
from tests.fakes.answers import call, calls, offered, says
from tests.fakes.upstream import Exchange, provider

pytestmark = pytest.mark.anyio


async def _speak_or_hand_off(exchange: Exchange) -> None:
    if exchange.system == "fail":
        await exchange.refuse(400, b"{}")
    elif offered(exchange) == ["handoff"]:
        await calls(exchange, call("handoff", {"agent": " expert "}))
    else:
        await says(exchange, f"I am {exchange.system}")


@pytest.fixture
async def local(monkeypatch: pytest.MonkeyPatch):
    async with provider(_speak_or_hand_off) as upstream:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
        monkeypatch.setenv("OPENAI_BASE_URL", upstream.base_url)
        yield


def agent(name: str, **more: Any) -> Agent:
    return Agent(agent_name=name, system_prompt=more.pop("system_prompt", name), print_on=False, num_retries=0, **more)


@pytest.mark.promise("W-38")
async def test_answers_come_in_flow_order_after_handoffs_too(local: None) -> None:
    agents = [agent("A", handoffs=[agent("Expert")]), agent("B")]
    assert await AgentRearrange(agents=agents, flow="A, B").arun("go") == "I am B"
    answers = await ConcurrentWorkflow(agents=agents).arun("go")
    assert answers == [{"role": "Expert", "content": "I am Expert"}, {"role": "B", "content": "I am B"}]


@pytest.mark.noisy
async def test_failed_agents_are_named_where_the_run_goes_on(local: None) -> None:
    agents = [agent("A"), agent("B", system_prompt="fail")]
    assert await SequentialWorkflow(agents=agents, on_error="continue").arun("go") == "I am A"
    answers = await ConcurrentWorkflow(agents=agents, on_error="continue").arun("go")
    assert answers[1] == {"role": "B", "content": "", "error": "provider_rejected"}
    with pytest.raises(Failed) as failed:
        await SequentialWorkflow(agents=agents[1:], on_error="continue").arun("go")
    assert (failed.value.agent, failed.value.code) == ("B", "provider_rejected")


async def test_a_run_whose_answer_cannot_be_saved_does_not_begin(local: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    team = SequentialWorkflow(agents=[agent("A")], autosave=tmp_path / "file")
    with pytest.raises(OSError, match="file"):
        await team.arun("go")
