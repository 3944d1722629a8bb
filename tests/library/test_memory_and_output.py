"""Memory, standard output and saved answers: only where they are asked for."""

import json
import sys
from pathlib import Path

import pytest

from swarmstream import (
    Agent,
    Failed,
    SequentialWorkflow,
)
from tests.fakes.upstream import Exchange, Script, hello
from tests.library.teams import TEAMS, Serve, agent, every_team, every_way, ignore, refusing, run, stream

pytestmark = pytest.mark.anyio


@every_way
@pytest.mark.parametrize("remembers", [True, False])
async def test_an_agent_remembers_earlier_tasks_only_with_persistent_memory(
    way: str, remembers: bool, openai: Serve
) -> None:
    async with openai(hello) as upstream:
        remembering = agent(persistent_memory=remembers)
        await run(way, remembering, "one")
        await stream(way, remembering, "two")
        if way == "awaited":
            await remembering.start("two and a half")
        await run(way, remembering, "three")
    before = ["one", "two", "two and a half"] if way == "awaited" else ["one", "two"]
    remembered = [(role, text) for task in before for role, text in (("user", task), ("assistant", "A says hello"))]
    asked = [(message["role"], message["content"]) for message in upstream.exchanges[-1].body["messages"][1:]]
    assert asked == [*(remembered if remembers else []), ("user", "three")]


@pytest.mark.noisy
async def test_a_failed_task_is_not_remembered(openai: Serve) -> None:
    script: list[Script] = [refusing, hello]

    async def one_after_another(exchange: Exchange) -> None:
        await script.pop(0)(exchange)

    async with openai(one_after_another) as upstream:
        remembering = agent(persistent_memory=True)
        with pytest.raises(Failed):
            await remembering.arun("one")
        await remembering.arun("two")
    assert [message["content"] for message in upstream.exchanges[1].body["messages"]] == ["A", "two"]


@every_way
@pytest.mark.parametrize("streaming_on", [True, False])
async def test_without_a_terminal_an_agent_prints_plain_text_or_nothing_without_print_on(
    way: str, streaming_on: bool, openai: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    async with openai(hello):
        await run(way, agent(print_on=True, streaming_on=streaming_on), "go")
        printed = capsys.readouterr().out
        await run(way, agent(streaming_on=streaming_on), "go")
        assert capsys.readouterr().out == ""
    assert printed.startswith("--- A ---\nA says hello\n\n[success · 10 tokens · ")
    assert "\x1b" not in printed


async def test_without_a_terminal_nothing_is_printed_by_default(
    openai: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with openai(hello):
        await Agent("A", "A").arun("go")
        assert capsys.readouterr().out == ""
        await Agent("A", "A", streaming_on=True).arun("go")
        assert "A says hello" in capsys.readouterr().out
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("TERM", "dumb")
        await Agent("A", "A").arun("go")
        assert "A says hello" in capsys.readouterr().out


def test_the_repr_of_agents_and_teams_names_them() -> None:
    one, other = Agent("Ann", model_name="demo/swarm"), Agent("Bob")
    assert repr(one) == "Agent('Ann', model_name='demo/swarm')"
    assert repr(SequentialWorkflow([one, other], name="team")) == "SequentialWorkflow([Ann, Bob], name='team')"


@every_way
async def test_a_dashboard_shows_all_agents_and_else_only_those_that_print(
    way: str, openai: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    async with openai(hello):
        await run(way, SequentialWorkflow([agent("A"), agent("B")], show_dashboard=True, name="board"), "go")
        dashboard = capsys.readouterr().out
        await run(way, SequentialWorkflow([agent("A", print_on=True), agent("B")]), "go")
        chosen = capsys.readouterr().out
        await run(way, SequentialWorkflow([agent("A"), agent("B")]), "go")
        nothing = capsys.readouterr().out
    assert dashboard.startswith("board\n--- A ---\nA says hello\n\n--- B ---\nB says hello\n\n[success · 20 tokens")
    assert chosen.startswith("--- A ---\nA says hello\n\n[success · 20 tokens")
    assert nothing == ""


@every_way
@every_team
async def test_nothing_is_printed_with_a_callback_or_a_stream(
    way: str, kind: str, openai: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    team = TEAMS[kind]()
    for one in [team] if isinstance(team, Agent) else team.agents:
        one.print_on = one.streaming_on = True
    if not isinstance(team, Agent):
        team.show_dashboard = True
    async with openai(hello):
        await run(way, team, "go", streaming_callback=ignore)
        await stream(way, team, "go")
        await team.start("go")
    assert capsys.readouterr().out == ""


@every_way
async def test_autosave_writes_each_runs_answer(way: str, openai: Serve, tmp_path: Path) -> None:
    async with openai(hello):
        team = SequentialWorkflow([agent("A"), agent("B")], autosave=tmp_path / "runs", name="pair")
        await run(way, team, "one")
        await stream(way, team, "two")
        if way == "awaited":
            await team.start("three")
    saved = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("swarms-*.json")]
    assert {one["task"] for one in saved} == {"one", "two", "three"} - ({"three"} if way != "awaited" else set())
    for one in saved:
        assert (one["swarm_name"], one["status"], one["output"][-1]["content"]) == ("pair", "success", "B says hello")


@pytest.mark.noisy
async def test_autosave_writes_a_run_that_failed_and_writes_no_run_where_it_is_off(
    openai: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with openai(refusing):
        for autosave in (False, True):
            with pytest.raises(Failed):
                await SequentialWorkflow([agent("A")], autosave=autosave).arun("go")
    (saved,) = (tmp_path / "swarmstream-runs").iterdir()
    assert json.loads(saved.read_text())["status"] == "failed"
