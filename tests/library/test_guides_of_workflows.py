"""The guides to streams of workflows: their samples print one agent after another, or all at once."""

from pathlib import Path

import anyio
import pytest

from tests.fakes.upstream import Exchange
from tests.library.play import HELLO, Held, playing

pytestmark = pytest.mark.anyio


class Pipeline:
    """Three agents told apart by their prompts, each held back at its second word."""

    def __init__(self) -> None:
        self.go = {name: anyio.Event() for name in ("Research", "Take the brief", "Take the analysis")}
        self.prompts: list[list[str]] = []

    async def __call__(self, exchange: Exchange) -> None:
        speaker = next(name for name in self.go if exchange.system.startswith(name))
        self.prompts.append([message["content"] for message in exchange.body["messages"][1:]])
        await exchange.open()
        await exchange.say(f"<{speaker} ")
        await self.go[speaker].wait()
        await exchange.say("ends>")
        await exchange.finish()


@pytest.mark.parametrize("sample", ["sequential_sync", "sequential_async"])
async def test_sequential_streaming_prints_agent_after_agent_as_tokens_arrive(sample: str, tmp_path: Path) -> None:
    task = "the rise of solid-state batteries"
    async with playing(sample, script := Pipeline(), tmp_path) as play:
        for name, go in script.go.items():
            await play.shows(f"<{name} ")
            go.set()
        printed = await play.ended()
    answers = [f"<{name} ends>" for name in script.go]
    assert printed == "".join(answers)
    assert script.prompts == [
        [task],
        [task, f"Researcher: {answers[0]}"],
        [task, f"Researcher: {answers[0]}", f"Analyst: {answers[1]}"],
    ]


async def test_sequential_streaming_with_events_reports_when_agents_start_and_end(tmp_path: Path) -> None:
    async with playing("sequential_events", script := Pipeline(), tmp_path) as play:
        for name, go in script.go.items():
            await play.shows(f" starting ---\n<{name} ")
            go.set()
        printed = await play.ended()
    assert printed == "".join(
        f"\n--- {agent} starting ---\n<{name} ends>\n--- {agent} finished ({len(name) + 7} chars) ---\n"
        for agent, name in zip(("Researcher", "Analyst", "Writer"), script.go, strict=True)
    )


ANALYSTS = ("Market-Researcher", "Financial-Analyst", "Technical-Analyst")


async def test_the_dashboard_of_a_concurrent_workflow_shows_all_agents_at_once(tmp_path: Path) -> None:
    script = Held()
    async with playing("concurrent_dashboard", script, tmp_path, on_terminal=True) as play:
        with anyio.fail_after(30):
            await play.upstream.asked(3)
        for name in ANALYSTS:
            await play.shows(f" {name} ")
        await play.shows(" alpha ")
        script.go.set()
        await play.ended()
        await play.shows("[{'role': 'Market-Researcher'")
    assert play.out.index("market-analysis-workflow") < play.out.index(" Market-Researcher ")


async def test_the_dashboard_is_plain_text_where_there_is_no_terminal(tmp_path: Path) -> None:
    script = Held("alpha\n")
    async with playing("concurrent_dashboard", script, tmp_path) as play:
        for name in ANALYSTS:
            await play.shows(f"{name}: alpha\n")
        script.go.set()
        printed = await play.ended()
    assert "\x1b" not in printed
    result = str([{"role": name, "content": "alpha\nomega"} for name in ANALYSTS])
    assert printed.endswith(f"\n{result}\n")


async def test_a_sequential_workflow_draws_each_agent_in_its_turn(tmp_path: Path) -> None:
    async with playing("sequential_run", script := Held(), tmp_path) as play:
        await play.shows("--- Researcher ---\nalpha ")
        assert "Writer" not in play.out
        script.go.set()
        assert f"{HELLO}\n\n--- Writer ---\n{HELLO}\n" in await play.ended()
