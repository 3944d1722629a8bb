"""What agents meet that act: tools that misbehave badly, models that keep to no form, flows with handoffs."""

import logging
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from swarmstream import Agent, AgentRearrange, ConcurrentWorkflow, Failed, SequentialWorkflow
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolError
from swarmstream.tools.functions import tool
from swarmstream.tools.threads import MAX_THREADS
from tests.clients.runs import named, run
from tests.conftest import client
from tests.fakes.answers import call, calls, offered, results, says
from tests.fakes.clock import DrivenClock
from tests.fakes.local_models import local_models
from tests.fakes.upstream import Exchange, provider

pytestmark = pytest.mark.anyio


class Panic(BaseException):
    """As a library in another language raises it."""


def panic(secret: str) -> str:
    """Fail as badly as can be."""
    raise Panic(secret)


async def interrupt(secret: str) -> str:
    """Fail like Ctrl-C."""
    raise KeyboardInterrupt(secret)


def _nowhere(name: str, data: object) -> None:
    pass


@pytest.mark.noisy
@pytest.mark.parametrize("name", ["panic", "interrupt"])
async def test_no_tool_stops_the_server_and_its_words_are_not_logged(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(exchange: Exchange) -> None:
        if results(exchange):
            await says(exchange, "went on")
        else:
            await calls(exchange, call(name, {"secret": "my number is 078-05-1120"}))

    with caplog.at_level(logging.INFO):
        settings = {"tools": (f"{__name__}:{name}",)}
        events, _ = await run(script, tmp_path, {"selected_tools": [name], "max_loops": 2}, settings=settings)
    [ended] = named(events, "tool_end")
    assert ended.data["is_error"]
    assert "078-05-1120" in ended.data["output"], "the model is told"
    assert events[-1].data["status"] == "success"
    assert "078-05-1120" not in caplog.text
    assert f"tool {name} failed" in caplog.text


async def test_threads_that_were_given_up_count_until_they_end() -> None:
    go_on = threading.Event()
    running = 0
    lock = threading.Lock()

    @tool(timeout_seconds=20)
    def hang() -> str:
        """Hang."""
        nonlocal running
        with lock:
            running += 1
        go_on.wait(30)
        return "late"

    async def ask() -> None:
        context = ToolContext(agent="A", turn=1, tool_call_id="1", tool="hang", sink=_nowhere)
        with pytest.raises(ToolError, match="took longer"):
            await hang.call("{}", context, clock)

    clock = DrivenClock()
    with anyio.fail_after(30):
        try:
            for _ in range(2):
                async with anyio.create_task_group() as tasks:
                    for _ in range(MAX_THREADS):
                        tasks.start_soon(ask)
                    while running < MAX_THREADS:  # noqa: ASYNC110  # threads tell by nothing else that they have begun
                        await anyio.sleep(0.005)
                    await clock.advance(20)
            assert running == MAX_THREADS, "the second forty found no thread"
        finally:
            go_on.set()
        context = ToolContext(agent="A", turn=1, tool_call_id="1", tool="hang", sink=_nowhere)
        assert await hang.call("{}", context, clock) == "late", "once they have ended, others may begin"


async def test_a_model_that_calls_tools_to_the_end_is_told_once_to_answer(tmp_path: Path) -> None:
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


async def test_what_tool_calls_were_called_before_is_understood(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        if results(exchange):
            await says(exchange, results(exchange)[0])
            return
        await exchange.open()
        await exchange.delta(function_call={"name": "calculator", "arguments": '{"expression": '})
        await exchange.delta(function_call={"arguments": '"17 + 25"}'})
        await exchange.finish("function_call")

    events, _ = await run(script, tmp_path, {"selected_tools": ["calculator"], "max_loops": 2})
    assert named(events, "agent_end")[0].data["output"] == "42"


@pytest.mark.parametrize(
    "arguments",
    [
        {"steps": [{"step_id": 1, "description": "first"}, {"step_id": 2, "name": "second", "dependencies": [1]}]},
        {"subtasks": '[{"id": "1", "title": "first"}, {"id": "2", "title": "second", "depends_on": "1"}]'},
        {"subtasks": ["first", "second"]},
    ],
)
async def test_plans_are_understood_as_models_write_them(arguments: Any, tmp_path: Path) -> None:
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


@pytest.mark.promise("W-39")
async def test_the_text_beside_a_callers_tool_call_is_in_the_answer(tmp_path: Path) -> None:
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


# --- The Python face ------------------------------------------------------------------------------------------------


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
async def test_answers_come_in_flow_order_whoever_the_word_was_passed_to(local: None) -> None:
    agents = [agent("A", handoffs=[agent("Expert")]), agent("B")]
    assert await AgentRearrange(agents=agents, flow="A, B").arun("go") == "I am B"
    answers = await ConcurrentWorkflow(agents=agents).arun("go")
    assert answers == [{"role": "Expert", "content": "I am Expert"}, {"role": "B", "content": "I am B"}]


@pytest.mark.noisy
async def test_who_failed_is_not_hidden_where_the_run_goes_on(local: None) -> None:
    agents = [agent("A"), agent("B", system_prompt="fail")]
    assert await SequentialWorkflow(agents=agents, on_error="continue").arun("go") == "I am A"
    answers = await ConcurrentWorkflow(agents=agents, on_error="continue").arun("go")
    assert answers[1] == {"role": "B", "content": "", "error": "provider_rejected"}
    with pytest.raises(Failed) as failed:
        await SequentialWorkflow(agents=agents[1:], on_error="continue").arun("go")
    assert (failed.value.agent, failed.value.code) == ("B", "provider_rejected")


async def test_an_answer_that_cannot_be_saved_is_not_begun(local: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    team = SequentialWorkflow(agents=[agent("A")], autosave=tmp_path / "file")
    with pytest.raises(OSError, match="file"):
        await team.arun("go")
