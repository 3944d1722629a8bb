"""Agents and teams for tests, the three ways to run them, and scripts of their provider."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeAlias, get_args, get_type_hints

import anyio
import pytest
from anyio import fail_after, to_thread
from pydantic import TypeAdapter

from swarmstream import (
    Agent,
    AgentRearrange,
    ConcurrentWorkflow,
    SequentialWorkflow,
)
from tests.fakes.upstream import Exchange, Upstream

Serve: TypeAlias = Callable[..., AbstractAsyncContextManager[Upstream]]

Team: TypeAlias = Agent | SequentialWorkflow | AgentRearrange | ConcurrentWorkflow


def loops() -> list[str]:
    """The threads in which synchronous runs have their event loops."""
    return [thread.name for thread in threading.enumerate() if "portal" in thread.name]


def runs() -> list[str]:
    """The tasks of this event loop that belong to runs."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith(("run ", "agent "))]


def agent(name: str = "A", **more: Any) -> Agent:
    fields: dict[str, Any] = {"agent_name": name, "system_prompt": name, "print_on": False, **more}
    return Agent(**fields)


def ignore(*_: object) -> None:
    """A callback that does nothing."""


TEAMS: dict[str, Callable[[], Team]] = {
    "agent": agent,
    "sequential": lambda: SequentialWorkflow([agent("A"), agent("B")]),
    "rearranged": lambda: AgentRearrange([agent("A"), agent("B"), agent("C")], "A -> B, C"),
    "concurrent": lambda: ConcurrentWorkflow([agent("A"), agent("B")]),
}

RESULTS: dict[str, Any] = {
    "agent": "A says hello",
    "sequential": "B says hello",
    "rearranged": "C says hello",
    "concurrent": [{"role": "A", "content": "A says hello"}, {"role": "B", "content": "B says hello"}],
}

SPEAKERS = {"agent": "A", "sequential": "AB", "rearranged": "ABC", "concurrent": "AB"}

every_team = pytest.mark.parametrize("kind", TEAMS)

every_way = pytest.mark.parametrize("way", ["outside", "inside", "awaited"])
"""A synchronous run in a thread without an event loop, one in the midst of a running loop, and an asynchronous run."""


async def run(way: str, team: Team, *arguments: Any, **more: Any) -> Any:
    async def inside() -> Any:
        return team.run(*arguments, **more)

    with fail_after(30):
        if way == "outside":
            return await to_thread.run_sync(partial(team.run, *arguments, **more))
        if way == "inside":
            return await to_thread.run_sync(asyncio.run, inside())
        return await team.arun(*arguments, **more)


async def stream(
    way: str, team: Team, task: str, *, with_events: bool = False, into: list[Any] | None = None
) -> list[Any]:
    """Return what the team's stream yields; `into` has it even if the stream raises."""
    got: list[Any] = [] if into is None else into

    def outside() -> None:
        for item in team.run_stream(task, with_events=True) if with_events else team.run_stream(task):
            got.append(item)  # noqa: PERF402  # where it raises, what came before counts

    async def inside() -> None:
        outside()

    with fail_after(30):
        if way == "outside":
            await to_thread.run_sync(outside)
        elif way == "inside":
            await to_thread.run_sync(asyncio.run, inside())
        else:
            async for item in team.arun_stream(task, with_events=True) if with_events else team.arun_stream(task):
                got.append(item)  # noqa: PERF401
    return got


async def unending(exchange: Exchange) -> None:
    await exchange.open()
    await exchange.say("word ")
    await anyio.sleep_forever()


async def refusing(exchange: Exchange) -> None:
    await exchange.refuse(401, b"{}")


async def closed(upstream: Upstream, count: int = 1) -> None:
    """Wait until the provider has seen its clients hang up."""
    with fail_after(30):
        await upstream.idle()
    assert [exchange.closed_by_client.is_set() for exchange in upstream.exchanges] == [True] * count


def check_types(events: Sequence[Any], union: Any) -> None:
    """Check events against their declared types: no field is missing, wrong or unknown."""
    kinds = {get_args(get_type_hints(each)["type"])[0]: each for each in get_args(union)}
    for event in events:
        kind = kinds[event["type"]]
        assert event.keys() <= get_type_hints(kind).keys()
        TypeAdapter(kind).validate_python(event, strict=True)


here: contextvars.ContextVar[str] = contextvars.ContextVar("here", default="nowhere")


class Stop(BaseException):
    """An interrupt such as Ctrl-C."""


async def frames_of(handle: Any, **more: Any) -> list[dict[str, Any]]:
    with fail_after(30):
        return [frame async for frame in handle.stream_events(**more)]
