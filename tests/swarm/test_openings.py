"""The task of a payload opens its conversations (docs/wire.md, section 2)."""

from typing import Any

import pytest

from swarmstream.errors import NoTask
from tests.swarm.compiling import HI, agent_of, agent_refused, refused, swarm_of


@pytest.mark.promise("W-27")
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"task": None, "tasks": None, "messages": None},
        {"task": ""},
        {"task": " \n\t"},
        {"tasks": []},
        {"messages": []},
        {"task": "", "tasks": [], "messages": []},
        {"img": "https://example.com/a.png"},
    ],
)
def test_a_swarm_with_nothing_to_do_is_refused(fields: dict[str, Any]) -> None:
    refused(NoTask, {"task": None, **fields}, at=("task",))


@pytest.mark.parametrize(("tasks", "index"), [([""], 0), (["one", " "], 1), (["one", "two", "\n", ""], 2)])
def test_an_empty_one_among_several_tasks_is_refused(tasks: list[str], index: int) -> None:
    refused(NoTask, {"task": None, "tasks": tasks}, at=("tasks", index))


def test_a_conversation_opens_with_the_task() -> None:
    plan = swarm_of({"task": " write\n"}).plan
    assert plan.openings == (({"role": "user", "content": " write\n"},),)
    assert plan.posted_as == "task"


@pytest.mark.promise("W-27")
def test_task_wins_over_messages_and_tasks() -> None:
    compiled = swarm_of({"task": "go", "messages": [HI], "tasks": ["one"]})
    assert compiled.plan.openings == (({"role": "user", "content": "go"},),)
    assert compiled.plan.posted_as == "task"
    assert compiled.warnings == ("messages ignored: task wins", "tasks ignored: task wins")
    assert swarm_of({"task": "go", "tasks": ["one"]}).plan.posted_as == "task"


@pytest.mark.promise("W-27")
@pytest.mark.parametrize("task", [None, "", "  "])
def test_messages_win_over_tasks(task: str | None) -> None:
    compiled = swarm_of({"task": task, "messages": [HI, {"role": "assistant", "content": "ho"}], "tasks": ["one"]})
    assert compiled.plan.openings == (({"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}),)
    assert compiled.plan.posted_as == "task"
    assert compiled.warnings == ("tasks ignored: messages wins",)


def test_several_tasks_open_a_conversation_each() -> None:
    plan = swarm_of({"task": None, "tasks": ["one", "two"]}).plan
    assert plan.openings == (({"role": "user", "content": "one"},), ({"role": "user", "content": "two"},))
    assert plan.posted_as == "tasks"
    assert swarm_of({"task": None, "tasks": ["one"]}).plan.posted_as == "tasks"


@pytest.mark.parametrize("fields", [{}, {"task": ""}, {"task": " "}, {"task": None, "history": []}, {"history": {}}])
def test_an_agent_with_nothing_to_do_is_refused(fields: dict[str, Any]) -> None:
    agent_refused(NoTask, {"task": None, **fields}, at=("task",))


@pytest.mark.parametrize("as_sent", ["list", "object"])
def test_an_agents_history_comes_before_its_task(as_sent: str) -> None:
    messages: list[dict[str, Any]] = [HI, {"role": "assistant", "content": "ho"}]
    history = messages if as_sent == "list" else {"second": messages[0], "first": messages[1]}
    (opening,) = agent_of({"history": history}).plan.openings
    assert [(message["role"], message["content"]) for message in opening] == [
        ("user", "hi"),
        ("assistant", "ho"),
        ("user", "go"),
    ]


@pytest.mark.promise("W-26")
@pytest.mark.parametrize("task", [None, " "])
def test_a_history_is_task_enough_for_an_agent(task: str | None) -> None:
    assert agent_of({"history": [HI], "task": task}).plan.openings == (({"role": "user", "content": "hi"},),)


def test_calls_of_tools_and_their_results_stay_in_the_history() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    history = [
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "42", "name": "f"},
    ]
    assert agent_of({"history": history}).plan.openings[0][:2] == (
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "42", "name": "f"},
    )


def test_only_the_known_fields_of_a_message_are_handed_on() -> None:
    (opening,) = swarm_of({"task": None, "messages": [{**HI, "api_base": "https://evil.example"}]}).plan.openings
    assert opening == ({"role": "user", "content": "hi"},)
