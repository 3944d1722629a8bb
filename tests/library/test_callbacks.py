"""Callbacks: their arguments, their thread and context, and what their exceptions do."""

import asyncio
import threading
from typing import Any

import anyio
import pytest
from anyio import fail_after, to_thread

from swarmstream import (
    Failed,
    SequentialWorkflow,
)
from tests.fakes.upstream import hello
from tests.library.teams import (
    SPEAKERS,
    TEAMS,
    Serve,
    Stop,
    agent,
    closed,
    every_team,
    every_way,
    here,
    loops,
    refusing,
    run,
    runs,
    unending,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", ["agent", "sequential", "rearranged"])
@pytest.mark.parametrize("way", ["outside", "inside"])
async def test_callbacks_are_called_in_the_callers_thread_and_context(way: str, kind: str, openai: Serve) -> None:
    got: list[tuple[str, str, int]] = []
    thread = 0

    def callback(token: str) -> None:
        got.append((token, here.get(), threading.get_ident()))
        here.set("in the callback")

    def outside() -> str:
        nonlocal thread
        thread = threading.get_ident()
        here.set("at the caller's")
        TEAMS[kind]().run("go", streaming_callback=callback)
        return here.get()

    async def inside() -> str:
        return outside()

    async with openai(hello):
        with fail_after(30):
            left = await (to_thread.run_sync(asyncio.run, inside()) if way == "inside" else to_thread.run_sync(outside))
    assert left == "in the callback"
    assert sorted(token for token, _, _ in got) == sorted(
        token for name in SPEAKERS[kind] for token in (f"{name} says ", "hello")
    )
    assert [context for _, context, _ in got] == ["at the caller's"] + ["in the callback"] * (len(got) - 1)
    assert {ident for *_, ident in got} == {thread}


@every_way
async def test_callbacks_of_a_concurrent_workflow_get_the_agents_name_and_its_end(way: str, openai: Serve) -> None:
    got: list[tuple[object, ...]] = []

    def callback(*arguments: object) -> None:
        got.append(arguments)

    async with openai(hello):
        await run(way, TEAMS["concurrent"](), "go", streaming_callback=callback)
    for name in "AB":
        assert [arguments for arguments in got if arguments[0] == name] == [
            *((name, f"{name} says ", False), (name, "hello", False), (name, "", True))
        ]


@every_way
async def test_with_stream_callbacks_get_a_dict_for_each_token(way: str, openai: Serve) -> None:
    got: list[dict[str, Any]] = []
    async with openai(hello):
        await run(way, SequentialWorkflow([agent("A", stream=True), agent("B")]), "go", streaming_callback=got.append)
    assert got[:2] == [
        {"content": "A says ", "token": "A says ", "token_index": 0, "type": "token", "agent": "A"},
        {"content": "hello", "token": "hello", "token_index": 1, "type": "token", "agent": "A"},
    ]
    assert [(call["agent"], call["type"]) for call in got] == [
        *(("A", "token"), ("A", "token"), ("A", "agent_end"), ("B", "token"), ("B", "token"), ("B", "agent_end"))
    ]
    for end in (got[2], got[5]):
        assert end["finish_reason"] == "stop"
        assert end["usage"]["total_tokens"] == 10
        assert end["content"] == ""


@pytest.mark.noisy
async def test_a_turn_without_a_finish_reason_has_no_key_for_it(openai: Serve) -> None:
    got: list[dict[str, Any]] = []
    async with openai(refusing):
        with pytest.raises(Failed):
            await agent(stream=True).arun("go", streaming_callback=got.append)
    assert [call["type"] for call in got] == ["agent_end"]
    assert "finish_reason" not in got[0]


@every_way
@every_team
@pytest.mark.parametrize("raised", [ValueError("enough"), Stop()], ids=["exception", "interrupt"])
async def test_an_exception_in_a_callback_ends_the_run_and_closes_the_connection(
    way: str, kind: str, raised: BaseException, openai: Serve
) -> None:
    def callback(*_: object) -> None:
        raise raised

    async with openai(unending) as upstream:
        with pytest.raises(type(raised)) as caught:
            await run(way, TEAMS[kind](), "go", streaming_callback=callback)
        assert caught.value is raised
        assert not runs()
        assert not loops()
        await closed(upstream, 2 if kind == "concurrent" else 1)


async def test_async_callbacks_are_awaited_before_the_next_token(openai: Serve) -> None:
    got: list[str] = []

    async def callback(token: str) -> None:
        got.append(f"<{token}")
        await anyio.lowlevel.checkpoint()
        got.append(f"{token}>")

    async with openai(hello):
        assert await agent().arun("go", streaming_callback=callback) == "A says hello"
    assert got == ["<A says ", "A says >", "<hello", "hello>"]


async def test_a_task_returned_by_a_callback_is_awaited(openai: Serve) -> None:
    got: list[str] = []

    async def send(token: str) -> None:
        got.append(f"<{token}")
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        got.append(f"{token}>")

    def callback(token: str) -> asyncio.Task[None]:
        return asyncio.create_task(send(token))

    async with openai(hello):
        await agent().arun("go", streaming_callback=callback)
    assert got == ["<A says ", "A says >", "<hello", "hello>"]


async def test_an_async_callback_of_a_synchronous_run_is_refused(openai: Serve) -> None:
    async def callback(_: str) -> None:
        raise AssertionError("nobody can await this")

    async with openai(unending) as upstream:
        with pytest.raises(TypeError, match="takes arun"):
            await run("outside", agent(), "go", streaming_callback=callback)
        await closed(upstream)
