"""Tools that write to the stream of their run."""

from pathlib import Path

import pytest

from tests.clients.runs import named, run, swarm_of
from tests.clients.sse import ServerEvent
from tests.fakes.answers import by_agent, call, calling, in_turn, saying, says
from tests.fakes.tools import late, marks
from tests.fakes.upstream import Exchange

pytestmark = pytest.mark.anyio


async def test_a_tool_reports_its_progress_to_readers(tmp_path: Path) -> None:
    asked = [call("report", {"rows": 2}, index=0)]
    script = in_turn(calling(*asked), calling(call("report_from_a_thread")), saying("ok"))
    agent = {"selected_tools": ["report", "report_from_a_thread"], "max_loops": 3}
    agents = swarm_of({"agent_name": "Z"}, {"agent_name": "A", **agent})
    events, exchanges = await run(by_agent(Z=saying("z"), A=script), tmp_path, **agents)
    assert "rows" in str(exchanges[1].body["tools"])
    assert "context" not in str(exchanges[1].body["tools"]), "models do not see it"
    wrote = named(events, "tool_start", "custom", "tool_end")
    assert [event.event for event in wrote] == [
        *("tool_start", "custom", "custom", "custom", "tool_end"),
        *("tool_start", "custom", "tool_end"),
    ]
    customs = named(events, "custom")
    assert {(event.data["agent"], event.data["turn"]) for event in customs} == {("A", 2)}
    assert [(event.data["name"], event.data["data"]) for event in customs] == [
        ("progress", {"tool": "report", "done": 1, "total": 2}),
        ("progress", {"tool": "report", "done": 2, "total": 2}),
        ("rows", {"count": 2, "by": "A"}),
        ("thread", [1, "ü"]),
    ]


async def test_a_tool_cannot_write_when_its_call_is_over(tmp_path: Path) -> None:
    def on(event: ServerEvent) -> None:
        if event.event == "tool_end":
            marks["the call is over"].set()

    async def second(exchange: Exchange) -> None:
        await marks["late"].wait()
        await says(exchange, "ok")

    script = in_turn(calling(call("write_later")), second)
    events, _ = await run(script, tmp_path, {"selected_tools": "write_later", "max_loops": 2}, on=on)
    assert late == ["the call call_write_later_0 of write_later is over"]
    assert not named(events, "custom")
