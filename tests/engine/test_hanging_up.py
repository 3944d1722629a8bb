"""Clients that leave runs with tools at any moment."""

import asyncio
import random
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.clients.runs import AGENT, SWARM
from tests.conftest import client
from tests.fakes.answers import call, offered
from tests.fakes.local_models import local_models
from tests.fakes.tools import TOOLS, inside, performed
from tests.fakes.upstream import Exchange, Script, provider

pytestmark = pytest.mark.anyio


_HANG_UPS = 200
_AT_ONCE = 20


async def _fall_silent(exchange: Exchange) -> None:
    """Wait to be hung up on. A connection that is reset, as one is that holds what nobody has read, is noticed by
    writing only."""
    while True:
        await exchange.raw(b"")
        await anyio.sleep(0.01)


def _whim(dice: random.Random) -> Script:
    """A provider that calls tools, plans, hands off and talks as it likes, and often falls silent."""
    acts = [
        call("add", {"a": 1, "b": 2}),
        call("forever", {"what": "whim"}),
        call("forever_in_a_thread", {"what": "whim"}),
        call("report", {"rows": 3}),
        call("report_from_a_thread"),
    ]

    async def act(exchange: Exchange) -> None:
        names = offered(exchange)
        fate = dice.random()
        if fate < 0.05:
            await _fall_silent(exchange)
        await exchange.open()
        await exchange.say(*["some words "] * dice.randrange(4))
        if fate < 0.15:
            await _fall_silent(exchange)
        chosen: list[dict[str, Any]] = []
        if "create_plan" in names:
            chosen = [call("create_plan", {"subtasks": [{"id": 1, "title": "a"}, {"id": 2, "title": "b"}]})]
        elif "handoff" in names and fate < 0.6:
            chosen = [call("handoff", {"agent": "B"}), *dice.sample(acts, dice.randrange(2))]
        elif names and fate < 0.9:
            chosen = dice.sample(acts, dice.randrange(1, 4))
        elif "subtask_done" in names:
            chosen = [call("subtask_done")]
        if chosen:
            await exchange.delta(tool_calls=[{**each, "index": index} for index, each in enumerate(chosen)])
        await exchange.finish("tool_calls" if chosen else "stop")

    async def script(exchange: Exchange) -> None:
        with suppress(RuntimeError):  # uvloop's, when a connection that was reset is written to
            await act(exchange)

    return script


def _any_payload(dice: random.Random) -> tuple[str, dict[str, Any]]:
    tools = {"selected_tools": ["add", "forever", "forever_in_a_thread", "report", "report_from_a_thread"]}
    acting = {"agent_name": "A", "max_loops": 4, **tools}
    planning = {"agent_name": "P", "max_loops": "auto", **tools}
    passing = {"agent_name": "H", "max_loops": 2, "handoffs": [{**acting, "agent_name": "B"}], **tools}
    agent = dice.choice([acting, planning, passing])
    if dice.random() < 0.5:
        return AGENT, {"agent_config": agent, "task": "go", "stream": dice.random() < 0.8}
    agents = [acting, planning, passing, {"agent_name": "Z"}]
    return SWARM, {"agents": agents, "rearrange_flow": "A, P, H -> Z", "task": "go", "stream": True}


async def test_two_hundred_clients_hang_up_and_nothing_is_left(tmp_path: Path) -> None:
    dice = random.Random(20260721)
    whole = cut = 0

    async def hang_up(http: httpx.AsyncClient, limit: int, patience: int) -> None:
        """Leave after so many bytes, or when nothing more has come for so many milliseconds in which the event loop was
        free: on a busy machine that is longer."""
        nonlocal whole, cut
        path, payload = _any_payload(dice)
        received = quiet = 0
        is_whole = False

        async def lose_patience() -> None:
            nonlocal quiet
            while quiet < patience:
                await anyio.sleep(0.005)
                quiet += 5
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lose_patience)
            async with http.stream("POST", path, json=payload) as response:
                async for part in response.aiter_raw():
                    received += len(part)
                    quiet = 0
                    if received >= limit:
                        break
                else:
                    is_whole = True
            tasks.cancel_scope.cancel()
        whole += is_whole
        cut += not is_whole

    async with (
        provider(_whim(dice)) as upstream,
        local_models(upstream, tmp_path, disconnect_grace_seconds=0, **TOOLS) as url,
    ):
        ours, threads = asyncio.all_tasks(), set(threading.enumerate())
        async with client(url) as http:
            for _ in range(_HANG_UPS // _AT_ONCE):
                async with anyio.create_task_group() as tasks:
                    for _ in range(_AT_ONCE):
                        tasks.start_soon(hang_up, http, dice.randrange(1, 12_000), dice.randrange(50, 200))
        with anyio.fail_after(30):
            await upstream.idle()
            while inside["whim"] or asyncio.all_tasks() - ours:  # noqa: ASYNC110  # whoever leaves last tells nobody
                await anyio.sleep(0.01)
        left = {thread.name for thread in set(threading.enumerate()) - threads}
        assert left <= {"AnyIO worker thread"}, "idle ones, for the next tool"
    assert upstream.unfinished == 0
    assert cut > _HANG_UPS // 2
    assert performed["whim"], "some left while tools ran"
    assert whole + cut == _HANG_UPS
