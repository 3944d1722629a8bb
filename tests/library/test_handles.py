"""Handles: readers of a run, and the run without them."""

import asyncio
from typing import Any

import anyio
import pytest
from anyio import create_task_group, fail_after, to_thread

from swarmstream import (
    RunHandle,
    SequentialWorkflow,
)
from tests.clients.process import OPENAI_KEY
from tests.fakes.upstream import Exchange, hello
from tests.library.teams import RESULTS, TEAMS, Serve, agent, closed, every_team, frames_of, unending

pytestmark = pytest.mark.anyio


@every_team
async def test_a_handles_readers_all_get_the_same_stream_early_or_late(kind: str, openai: Serve) -> None:
    begun, go = anyio.Event(), anyio.Event()

    async def script(exchange: Exchange) -> None:
        begun.set()
        await go.wait()
        await hello(exchange)

    read: list[list[dict[str, Any]]] = []

    async def read_events(**more: Any) -> None:
        read.append(await frames_of(handle, **more))

    async with openai(script):
        handle = TEAMS[kind]().start("go")
        async with create_task_group() as readers:
            readers.start_soon(read_events)
            await begun.wait()
            readers.start_soon(read_events)
            go.set()
        assert await handle == RESULTS[kind]
        await read_events()
        late = await frames_of(handle, after=4)
        assert await frames_of(handle, after=1000) == []
        assert await handle == RESULTS[kind], "as often as one likes"
    first, *others = read
    assert [frame["id"] for frame in first] == list(range(1, len(first) + 1))
    assert first[-1]["event"] == "end"
    assert others == [first, first]
    assert late == first[4:]
    spoken = [frame for frame in first if frame["event"] == "chunk" and frame["data"]["content"] == "hello"]
    assert spoken[0]["data"]["output"].endswith(" says hello"), "as on the wire"


async def test_a_reader_that_stops_leaves_the_run_alone(openai: Serve) -> None:
    go = anyio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("word ")
        await go.wait()
        await exchange.finish()

    async with openai(script):
        handle = agent().start("go")
        async for frame in handle.stream_events():
            if frame["event"] == "chunk":
                break
        with anyio.move_on_after(0):
            await handle
        go.set()
        with fail_after(30):
            assert await handle == "word "


async def test_a_reader_that_stops_before_the_run_begins_leaves_it_alone(openai: Serve) -> None:
    async with openai(hello):
        handle: RunHandle[str] | None = None
        with anyio.CancelScope() as scope:
            scope.cancel()  # first in the loop's queue, before the run
            handle = agent().start("go")
            await anext(handle.stream_events())
        assert handle
        assert (await frames_of(handle))[-1]["event"] == "end"
        assert await handle == "A says hello"


async def test_runs_end_with_their_event_loop(openai: Serve) -> None:
    async def main() -> None:
        handle = SequentialWorkflow([agent("A"), agent("B")]).start("go")
        async for frame in handle.stream_events():
            if frame["event"] == "chunk":
                return

    async with openai(unending) as upstream:
        with fail_after(30):
            await to_thread.run_sync(asyncio.run, main())
        await closed(upstream)


def test_a_handle_needs_a_running_loop(openai: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", OPENAI_KEY)
    with pytest.raises(RuntimeError, match="needs a running event loop: call it in an async function, or call run"):
        agent().start("go")
