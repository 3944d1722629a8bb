"""Streams that are left early, and callers that are cancelled: nothing of the run is left."""

import asyncio
import gc
import threading
from contextlib import ExitStack
from typing import Any

import anyio
import pytest
from anyio import fail_after, to_thread

from swarmstream import (
    RunHandle,
)
from tests.fakes.upstream import Exchange, hello
from tests.library.teams import TEAMS, Serve, Stop, agent, closed, every_team, loops, run, runs, stream, unending

pytestmark = pytest.mark.anyio


@every_team
@pytest.mark.parametrize("how", ["close", "forget", "throw"])
async def test_leaving_a_stream_cancels_the_run_and_closes_the_connection(how: str, kind: str, openai: Serve) -> None:
    def leave() -> None:
        tokens = TEAMS[kind]().run_stream("go")
        assert next(tokens) == "word "
        if how == "close":
            tokens.close()
        elif how == "throw":
            with pytest.raises(Stop):
                tokens.throw(Stop())
        else:
            del tokens
        assert not loops()

    async with openai(unending) as upstream:
        with fail_after(30):
            await to_thread.run_sync(leave)
        await closed(upstream, 2 if kind == "concurrent" else 1)


@every_team
@pytest.mark.parametrize("how", ["close", "throw"])
async def test_leaving_an_async_stream_leaves_nothing_of_the_run(how: str, kind: str, openai: Serve) -> None:
    async with openai(unending) as upstream:
        tokens = TEAMS[kind]().arun_stream("go")
        with fail_after(30):
            assert await anext(tokens) == "word "
            if how == "close":
                await tokens.aclose()
            else:
                with pytest.raises(Stop):
                    await tokens.athrow(Stop())
        assert not runs()
        await closed(upstream, 2 if kind == "concurrent" else 1)


async def test_breaking_out_of_an_async_stream_cancels_the_run(openai: Serve) -> None:
    async with openai(unending) as upstream:
        async for token in agent().arun_stream("go"):
            assert token == "word "
            break
        gc.collect()
        await closed(upstream)


async def test_a_forgotten_stream_may_be_collected_by_a_tool_of_its_own_run(openai: Serve) -> None:
    """In the thread of its event loop, which cannot wait for its own end."""
    is_left = threading.Event()
    collected = threading.Event()

    async def collect() -> str:
        """Collect garbage."""
        await to_thread.run_sync(is_left.wait)
        gc.collect()
        collected.set()
        return "collected"

    async def call_once(exchange: Exchange) -> None:
        if exchange.system == "B":
            await hello(exchange)
            return
        if any(message["role"] == "tool" for message in exchange.body["messages"]):
            await unending(exchange)
            return
        await exchange.open()
        await exchange.say("word ")
        function = {"name": "collect", "arguments": "{}"}
        await exchange.delta(tool_calls=[{"index": 0, "id": "call_0", "type": "function", "function": function}])
        await exchange.finish("tool_calls")

    def leave() -> None:
        holder: list[Any] = []
        tokens = agent(tools=[collect], max_loops=3).run_stream("go")
        holder += [holder, tokens]  # found by the garbage collector only
        assert next(tokens) == "word "

    async with openai(call_once) as upstream:
        gc.disable()
        try:
            await to_thread.run_sync(leave)
            is_left.set()
            with fail_after(30):
                assert await to_thread.run_sync(collected.wait, 4)
                await upstream.idle()
        finally:
            gc.enable()
        assert await run("outside", agent("B"), "go") == "B says hello"
        assert not loops(), "the next run closes what that one could not"


@pytest.mark.parametrize("how", ["scope", "task"])
async def test_cancelling_the_caller_ends_the_run_first(how: str, openai: Serve) -> None:
    async with openai(unending) as upstream:
        with fail_after(30):
            if how == "scope":
                with anyio.CancelScope() as scope:

                    def leave(_: str) -> None:
                        scope.cancel()

                    await agent().arun("go", streaming_callback=leave)
                assert scope.cancelled_caught
            else:

                def hang_up(_: str) -> None:
                    task.cancel()

                task = asyncio.create_task(agent().arun("go", streaming_callback=hang_up))
                await asyncio.wait([task])
                assert task.cancelled()
        assert not runs()
        await closed(upstream)


async def test_no_object_of_a_synchronous_run_is_kept(openai: Serve) -> None:
    def kept() -> int:
        gc.collect()
        return sum(isinstance(each, RunHandle | ExitStack) for each in gc.get_objects())

    async with openai(hello):
        await run("outside", agent(), "go")
        before = kept()
        await run("outside", agent(), "go")
        await stream("outside", agent(), "go")
    assert kept() == before
