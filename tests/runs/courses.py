"""The same run with and without a crash, in this process: what it recorded, and what its models were sent."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from swarmstream.errors import ProviderRejected
from swarmstream.events import (
    RunEnded,
    TurnEnded,
    UsageTotalled,
)
from swarmstream.journal.base import NO_CALLBACKS
from swarmstream.journal.records import Entry
from swarmstream.journal.sqlite.journal import SqliteJournal
from swarmstream.llm.base import ToolCallDelta
from swarmstream.runs.job import Job
from swarmstream.runs.limits import RunLimits
from swarmstream.swarm.compile import Compiled
from tests.fakes.clock import DrivenClock
from tests.fakes.scripted_model import ScriptedModel, swarm
from tests.journal.sample_runs import read_all, record
from tests.runs.supervisors import supervisor_of


def passes(name: str) -> list[Any]:
    return ["over ", ToolCallDelta(0, "c", "handoff", f'{{"agent": "X", "message": "from {name}"}}')]


def passer(name: str) -> dict[str, Any]:
    return {"agent_name": name, "model_name": name, "handoffs": [{"agent_name": "X", "model_name": "X"}]}


def speaking(**others: Any) -> ScriptedModel:
    return ScriptedModel({**{name: [f"{name}1 ", f"{name}2 "] for name in "ABCX"}, **others})


HANDOFFS = {"agents": [passer("A"), passer("B"), {"agent_name": "C", "model_name": "C"}]}
REFUSED = {"B": ["b1 ", ProviderRejected("no")]}
CASES: dict[str, tuple[Compiled, Any, dict[str, Any]]] = {
    "parallel": (swarm("A, B -> C"), "fail", {}),
    "loops": (swarm("A -> B", max_loops=2), "fail", {}),
    "tasks": (swarm("A, B", task=None, tasks=["t1", "t2"]), "fail", {}),
    "one agent twice": (swarm("A -> B -> A"), "fail", {}),
    "handoffs": (swarm("A, B -> C", **HANDOFFS), "fail", {"A": passes("A"), "B": passes("B")}),
    "a failure that counts": (swarm("A, B -> C"), "fail", REFUSED),
    "a failure that does not": (swarm("A -> B -> C"), "continue", REFUSED),
}


@dataclass
class Course:
    """What a run came to, and what its models were told for it."""

    entries: Sequence[Entry]
    model: ScriptedModel

    @property
    def answers(self) -> list[tuple[Any, ...]]:
        ended = {event.turn: event for _, event in self.entries if isinstance(event, TurnEnded)}
        return sorted(
            (turn.agent, turn.output, turn.status, turn.task_index or 0, turn.handed_to or "")
            for turn in ended.values()
        )

    @property
    def end(self) -> RunEnded:
        [end] = [event for _, event in self.entries if isinstance(event, RunEnded)]
        assert self.entries[-1][1] is end
        return end

    @property
    def usage(self) -> tuple[int, int, int]:
        [usage] = [event for _, event in self.entries if isinstance(event, UsageTotalled)]
        return usage.total.input_tokens, usage.total.output_tokens, sum(agent.turns for agent in usage.agents)

    def prompts(self) -> list[str]:
        """What each call was, in the order of the turns."""
        return [f"{call.model.target} {call.messages}" for call in self.model.calls]


def team(case: str, **fields: Any) -> tuple[Job, ScriptedModel]:
    compiled, on_error, lines = CASES[case]
    fields = {"on_disconnect": "continue", "on_error": on_error, **fields}
    return Job(kind="swarm", plan=compiled.plan, owner="o", swarm_type="AgentRearrange", **fields), speaking(**lines)


@asynccontextmanager
async def opened(folder: Path) -> AsyncGenerator[SqliteJournal]:
    # The clock stands still, so that numbers after a crash are the same each time.
    journal = SqliteJournal(folder, retain_seconds=60, retain_bytes=1 << 30, clock=DrivenClock())
    await journal.open()
    yield journal
    await journal.close()


async def uncut(folder: Path, case: str, **fields: Any) -> Course:
    job, model = team(case, **fields)
    with anyio.fail_after(5):
        async with opened(folder) as journal, supervisor_of(journal, {"scripted": model}, RunLimits()) as supervisor:
            run = await supervisor.start(job)
            return Course(await read_all(await journal.open_cursor(run.job_id)), model)


async def crashed(folder: Path, *lives: Sequence[Entry], **fields: Any) -> None:
    """Leave behind what processes that crashed have written of a run, one after the other."""
    for number, entries in enumerate(lives):
        async with opened(folder) as journal:
            if number:
                [found] = await journal.claim_interrupted()
                await found.load()
                log = found.resume(NO_CALLBACKS)
            else:
                log = await journal.submit(
                    record(kind="swarm", **{"on_disconnect": "continue", **fields}), NO_CALLBACKS
                )
            for _, event in entries:
                log.append(event)
            await log.hand_over()


async def recovered(folder: Path, case: str, **fields: Any) -> Course:
    job, model = team(case, **fields)
    with anyio.fail_after(5):
        async with opened(folder) as journal, supervisor_of(journal, {"scripted": model}, RunLimits()) as supervisor:
            await supervisor.recover(lambda _: job)
            return Course(await read_all(await journal.open_cursor("run-1")), model)
