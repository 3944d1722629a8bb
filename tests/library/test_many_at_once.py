"""Many tasks at once, served by one object."""

from typing import Any

import anyio
import pytest
from anyio import create_task_group

from tests.fakes.upstream import Exchange
from tests.library.teams import SPEAKERS, TEAMS, Serve, every_team, run

pytestmark = pytest.mark.anyio


class Echo:
    """Answers with the task, in pieces, none to its end before all have begun."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._all = anyio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        task = exchange.body["messages"][1]["content"]
        await exchange.open()
        await exchange.say(f"{exchange.system}:")
        self._count -= 1
        if not self._count:
            self._all.set()
        await self._all.wait()
        await exchange.say(task)
        await exchange.finish()


@every_team
@pytest.mark.parametrize("way", ["threads", "gather"])
async def test_one_object_serves_many_tasks_at_once_without_mixing_them(way: str, kind: str, openai: Serve) -> None:
    team, tasks = TEAMS[kind](), [f"task {number}" for number in range(8)]
    first = [name for name in SPEAKERS[kind] if kind == "concurrent" or name == "A"]
    received: dict[str, list[Any]] = {task: [] for task in tasks}
    results: dict[str, Any] = {}

    async def work(task: str) -> None:
        results[task] = await run(
            "outside" if way == "threads" else "awaited",
            team,
            task,
            streaming_callback=lambda *in_order: received[task].append(in_order),  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
        )

    async with openai(Echo(len(tasks) * len(first))), create_task_group() as group:
        for task in tasks:
            group.start_soon(work, task)
    for task in tasks:
        answers = {name: f"{name}:{task}" for name in SPEAKERS[kind]}
        last = answers[SPEAKERS[kind][-1]]
        in_order = [{"role": name, "content": answer} for name, answer in answers.items()]
        assert results[task] == (in_order if kind == "concurrent" else last)
        text = "".join(part[1] if kind == "concurrent" else part[0] for part in received[task])
        assert text.count(task) == len(answers)
        assert text.count("task") == len(answers)
