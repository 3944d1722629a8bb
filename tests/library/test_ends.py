"""Runs that are cancelled, take too long or fail: first their events, then the exception."""

from typing import Any

import anyio
import pytest
from anyio import create_task_group, fail_after

from swarmstream import (
    Cancelled,
    ConcurrentWorkflow,
    Failed,
    RunFailure,
    SequentialWorkflow,
    TimedOut,
)
from swarmstream.errors import (
    InvalidRequest,
    ProviderAuth,
    ProviderError,
)
from tests.fakes.clock import DrivenClock
from tests.fakes.upstream import Exchange, hello
from tests.library.teams import (
    TEAMS,
    Serve,
    agent,
    closed,
    every_team,
    every_way,
    frames_of,
    refusing,
    run,
    runs,
    stream,
    unending,
)

pytestmark = pytest.mark.anyio


@every_team
async def test_a_cancelled_run_ends_its_stream_before_cancelled_is_raised(kind: str, openai: Serve) -> None:
    seen: list[str] = []
    all_speak = anyio.Event()
    speakers = 2 if kind == "concurrent" else 1

    async def read_events() -> None:
        async for frame in handle.stream_events():
            seen.append(frame["event"])
            if seen.count("chunk") == speakers:
                all_speak.set()

    async def wait() -> None:
        with pytest.raises(Cancelled) as caught:
            await handle
        seen.append(caught.value.code)
        assert caught.value.elapsed_seconds >= 0

    async with openai(unending) as upstream:
        handle = TEAMS[kind]().start("go")
        async with create_task_group() as tasks:
            tasks.start_soon(read_events)
            tasks.start_soon(wait)
            with fail_after(30):
                await all_speak.wait()
            handle.cancel()
        await closed(upstream, speakers)
    assert seen[-4:] == ["error", "usage", "end", "cancelled"]


async def test_a_run_that_is_cancelled_at_once_has_a_whole_stream_and_calls_no_model(openai: Serve) -> None:
    async with openai(unending) as upstream:
        handle = agent().start("go")
        handle.cancel()
        frames = await frames_of(handle)
        with pytest.raises(Cancelled):
            await handle
    assert [frame["event"] for frame in frames] == ["metadata", "start", "error", "usage", "end"]
    assert frames[-1]["data"]["status"] == "cancelled"
    assert not upstream.exchanges


@pytest.mark.promise("W-73")
async def test_cancelling_an_ended_run_changes_nothing(openai: Serve) -> None:
    async with openai(hello):
        handle = agent().start("go")
        await handle
        handle.cancel()
        assert await handle == "A says hello"


async def test_a_run_that_takes_too_long_names_its_timeout_and_its_active_agents(openai: Serve) -> None:
    class Driven(ConcurrentWorkflow):
        _clock = clock = DrivenClock()

    async with openai(unending) as upstream:
        handle = Driven([agent("A"), agent("B")]).start("go", timeout=20)
        await upstream.asked(2)
        await Driven.clock.advance(20)
        frames = await frames_of(handle)
        with pytest.raises(TimedOut) as caught:
            await handle
        await closed(upstream, 2)
    assert (caught.value.timeout, caught.value.active_agents) == (20, ("A", "B"))
    assert caught.value.elapsed_seconds == 20
    error = frames[-3]["data"]
    assert (error["code"], error["timeout"], error["active_agents"]) == ("timed_out", 20, ["A", "B"])
    assert frames[-1]["data"]["status"] == "timed_out"


async def test_a_workflows_timeout_counts_if_the_call_sets_no_timeout(openai: Serve) -> None:
    class Driven(SequentialWorkflow):
        _clock = clock = DrivenClock()

    async def ask() -> None:
        with pytest.raises(TimedOut) as caught:
            await Driven([agent()], timeout=20).arun("go")
        ends.append(caught.value)

    ends: list[TimedOut] = []
    async with openai(unending) as upstream, create_task_group() as tasks:
        tasks.start_soon(ask)
        await upstream.asked(1)
        await Driven.clock.advance(20)
    [end] = ends
    assert end.active_agents == ("A",)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
async def test_a_timeout_that_is_not_positive_is_refused(timeout: float, openai: Serve) -> None:
    async with openai(hello) as upstream:
        with pytest.raises(InvalidRequest, match="timeout must be greater than 0"):
            agent().start("go", timeout=timeout)
        assert not runs()
    assert not upstream.exchanges


@pytest.mark.noisy
async def test_a_failed_run_names_the_agent_the_error_and_the_attempts(openai: Serve) -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.system == "B":
            await exchange.refuse(503, b"{}", **{"retry-after": "0"})
        else:
            await hello(exchange)

    async with openai(script) as upstream:
        handle = SequentialWorkflow([agent("A"), agent("B", num_retries=1), agent("C")]).start("go")
        frames = await frames_of(handle)
        with pytest.raises(Failed) as caught:
            await handle
    failed = caught.value
    assert (failed.agent, failed.attempts, failed.code) == ("B", 2, "provider_error")
    assert isinstance(failed.exception, ProviderError)
    assert str(failed) == "B: the provider failed (503)" or str(failed).startswith("B: ")
    assert failed.elapsed_seconds >= 0
    assert len(upstream.exchanges) == 3, "C is not asked"
    turn, run_end = frames[-4], frames[-1]
    assert (turn["event"], turn["data"]["agent"], turn["data"]["attempts"]) == ("error", "B", 2)
    assert (run_end["data"]["status"], run_end["data"]["failed_agents"]) == ("failed", ["B"])


@pytest.mark.noisy
@every_way
async def test_a_stream_of_a_failing_run_yields_everything_before_it_raises(way: str, openai: Serve) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("word ")
        await exchange.end()

    tokens: list[str] = []
    events: list[dict[str, Any]] = []
    async with openai(script):
        with pytest.raises(Failed, match="cut off"):
            await stream(way, agent(), "go", into=tokens)
        with pytest.raises(Failed, match="cut off"):
            await stream(way, agent(), "go", into=events, with_events=True)
    assert tokens == ["word "]
    assert [event["type"] for event in events[-5:]] == ["token", "error", "agent_end", "usage", "end"]


@pytest.mark.noisy
@every_way
async def test_a_run_that_fails_raises_its_error(way: str, openai: Serve) -> None:
    async with openai(refusing):
        with pytest.raises(Failed) as caught:
            await run(way, agent(), "go")
    assert isinstance(caught.value.exception, ProviderAuth)
    assert isinstance(caught.value, RunFailure)
    assert caught.value.attempts == 1


@pytest.mark.noisy
async def test_a_workflow_may_go_on_without_an_agent_that_failed(openai: Serve) -> None:
    async def script(exchange: Exchange) -> None:
        await (refusing if exchange.system == "A" else hello)(exchange)

    async with openai(script):
        assert await SequentialWorkflow([agent("A"), agent("B")], on_error="continue").arun("go") == "B says hello"
