"""Agents and teams as Python programs have them: runs, streams, callbacks, handles, and what is left of them."""

import asyncio
import contextvars
import gc
import json
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args, get_type_hints

import anyio
import anyio.abc
import pytest
from anyio import create_task_group, fail_after, to_thread
from pydantic import TypeAdapter

from swarmstream import (
    Agent,
    AgentEvent,
    AgentRearrange,
    Cancelled,
    ConcurrentWorkflow,
    Failed,
    RunFailure,
    RunHandle,
    SequentialWorkflow,
    TeamEvent,
    TimedOut,
    ToolContext,
    tool,
)
from swarmstream.errors import (
    AppError,
    DuplicateAgent,
    InvalidRequest,
    InvalidTool,
    NoCredentials,
    NoTask,
    ProviderAuth,
    ProviderError,
)
from swarmstream.tools.errors import ToolDefinitionError
from tests.clients.process import OPENAI_KEY
from tests.fakes.clock import DrivenClock
from tests.fakes.upstream import Exchange, Script, Upstream, hello, provider

pytestmark = pytest.mark.anyio

Serve: TypeAlias = Callable[..., AbstractAsyncContextManager[Upstream]]
Team: TypeAlias = Agent | SequentialWorkflow | AgentRearrange | ConcurrentWorkflow


@pytest.fixture(autouse=True)
def openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Makes a provider what this process takes for OpenAI. When the test is over, no thread of a run's is left."""

    @asynccontextmanager
    async def serving(script: Script, *, keeps_alive: bool = False) -> AsyncGenerator[Upstream]:
        async with provider(script, keeps_alive=keeps_alive) as upstream:
            monkeypatch.setenv("OPENAI_API_KEY", OPENAI_KEY)
            monkeypatch.setenv("OPENAI_BASE_URL", upstream.base_url)
            yield upstream

    yield serving
    assert not loops()


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
    """What the team's stream yields; `into` has it even where the stream raises."""
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


# --- Results, tokens, events ----------------------------------------------------------------------------------------


@every_way
@every_team
async def test_a_run_comes_to_its_result(way: str, kind: str, openai: Serve) -> None:
    async with openai(hello):
        assert await run(way, TEAMS[kind](), "go") == RESULTS[kind]


def check_types(events: Sequence[Any], union: Any) -> None:
    """Hold events to the types that programs are told they have: no field is missing, wrong or unknown."""
    kinds = {get_args(get_type_hints(each)["type"])[0]: each for each in get_args(union)}
    for event in events:
        kind = kinds[event["type"]]
        assert event.keys() <= get_type_hints(kind).keys()
        TypeAdapter(kind).validate_python(event, strict=True)


@every_way
@every_team
async def test_a_stream_yields_every_agents_tokens(way: str, kind: str, openai: Serve) -> None:
    async with openai(hello):
        tokens = await stream(way, TEAMS[kind](), "go")
    assert sorted(tokens) == sorted(token for name in SPEAKERS[kind] for token in (f"{name} says ", "hello"))


@every_way
@every_team
async def test_events_tell_who_speaks_which_token(way: str, kind: str, openai: Serve) -> None:
    async with openai(hello):
        events = await stream(way, TEAMS[kind](), "go", with_events=True)
    assert [event["type"] for event in (*events[:2], *events[-2:])] == ["metadata", "start", "usage", "end"]
    for turn, name in enumerate(SPEAKERS[kind], start=1):
        its = [event for event in events if event.get("turn") == turn]
        assert {event["agent"] for event in its} == {name}
        assert [event["type"] for event in its] == ["agent_start", "token", "token", "agent_end"]
        assert [event["token"] for event in its if event["type"] == "token"] == [f"{name} says ", "hello"]
        assert its[-1]["output"] == f"{name} says hello"
    check_types(events, AgentEvent if kind == "agent" else TeamEvent)


async def test_tokens_come_while_the_provider_is_still_sending(openai: Serve) -> None:
    async with openai(unending) as upstream:

        def first_token() -> str:
            tokens = agent().run_stream("go")
            try:
                assert upstream.unfinished == 0, "nothing is asked before the first token is"
                return next(tokens)
            finally:
                assert upstream.unfinished == 1
                tokens.close()

        with fail_after(30):
            assert await to_thread.run_sync(first_token) == "word "


async def test_an_image_goes_along(openai: Serve) -> None:
    async with openai(hello) as upstream:
        await agent().arun("what is it?", "https://example.com/cat.png")
        await SequentialWorkflow([agent()]).arun("what is it?", "https://example.com/cat.png")
    for exchange in upstream.exchanges:
        content = exchange.body["messages"][-1]["content"]
        assert content[1]["image_url"] == {"url": "https://example.com/cat.png"}


async def test_arguments_reach_the_model(openai: Serve) -> None:
    its = agent(model_name="gpt-4o-mini", temperature=0.5, max_tokens=99, llm_args={"top_p": 0.9})
    async with openai(hello) as upstream:
        await its.arun("go")
        its.temperature = None
        await its.arun("go")
    first, second = (exchange.body for exchange in upstream.exchanges)
    assert (first["model"], first["temperature"], first["max_tokens"], first["top_p"]) == ("gpt-4o-mini", 0.5, 99, 0.9)
    assert "temperature" not in second, "attributes may be changed between runs"


async def test_rules_and_loops_of_a_workflow_reach_its_agents(openai: Serve) -> None:
    async with openai(hello) as upstream:
        result = await SequentialWorkflow([agent()], max_loops=2, rules="be brief").arun("go")
    assert result == "be brief\n\nA says hello"
    assert [len(exchange.body["messages"]) for exchange in upstream.exchanges] == [2, 3]


# --- Callbacks ------------------------------------------------------------------------------------------------------

here: contextvars.ContextVar[str] = contextvars.ContextVar("here", default="nowhere")


@pytest.mark.parametrize("kind", ["agent", "sequential", "rearranged"])
@pytest.mark.parametrize("way", ["outside", "inside"])
async def test_callbacks_are_called_in_the_callers_thread_and_context(way: str, kind: str, openai: Serve) -> None:
    told: list[tuple[str, str, int]] = []
    thread = 0

    def hear(token: str) -> None:
        told.append((token, here.get(), threading.get_ident()))
        here.set("in the callback")

    def outside() -> str:
        nonlocal thread
        thread = threading.get_ident()
        here.set("at the caller's")
        TEAMS[kind]().run("go", streaming_callback=hear)
        return here.get()

    async def inside() -> str:
        return outside()

    async with openai(hello):
        with fail_after(30):
            left = await (to_thread.run_sync(asyncio.run, inside()) if way == "inside" else to_thread.run_sync(outside))
    assert left == "in the callback"
    assert sorted(token for token, _, _ in told) == sorted(
        token for name in SPEAKERS[kind] for token in (f"{name} says ", "hello")
    )
    assert [context for _, context, _ in told] == ["at the caller's"] + ["in the callback"] * (len(told) - 1)
    assert {ident for *_, ident in told} == {thread}


@every_way
async def test_callbacks_of_a_concurrent_workflow_hear_who_speaks_and_when_he_has_ended(
    way: str, openai: Serve
) -> None:
    told: list[tuple[object, ...]] = []

    def hear(*said: object) -> None:
        told.append(said)

    async with openai(hello):
        await run(way, TEAMS["concurrent"](), "go", streaming_callback=hear)
    for name in "AB":
        assert [said for said in told if said[0] == name] == [
            *((name, f"{name} says ", False), (name, "hello", False), (name, "", True))
        ]


@every_way
async def test_with_stream_callbacks_get_a_dict_a_token_with_nothing_in_it_that_is_not_there(
    way: str, openai: Serve
) -> None:
    told: list[dict[str, Any]] = []
    async with openai(hello):
        await run(way, SequentialWorkflow([agent("A", stream=True), agent("B")]), "go", streaming_callback=told.append)
    assert told[:2] == [
        {"content": "A says ", "token": "A says ", "token_index": 0, "type": "token", "agent": "A"},
        {"content": "hello", "token": "hello", "token_index": 1, "type": "token", "agent": "A"},
    ]
    assert [(its["agent"], its["type"]) for its in told] == [
        *(("A", "token"), ("A", "token"), ("A", "agent_end"), ("B", "token"), ("B", "token"), ("B", "agent_end"))
    ]
    for end in (told[2], told[5]):
        assert end["finish_reason"] == "stop"
        assert end["usage"]["total_tokens"] == 10
        assert end["content"] == ""


@pytest.mark.noisy
async def test_a_turn_without_a_finish_reason_has_no_key_for_it(openai: Serve) -> None:
    told: list[dict[str, Any]] = []
    async with openai(refusing):
        with pytest.raises(Failed):
            await agent(stream=True).arun("go", streaming_callback=told.append)
    assert [its["type"] for its in told] == ["agent_end"]
    assert "finish_reason" not in told[0]


class Stop(BaseException):
    """As Ctrl-C is."""


@every_way
@every_team
@pytest.mark.parametrize("raised", [ValueError("enough"), Stop()], ids=["exception", "interrupt"])
async def test_what_a_callback_raises_ends_the_run_and_closes_the_connection(
    way: str, kind: str, raised: BaseException, openai: Serve
) -> None:
    def hear(*_: object) -> None:
        raise raised

    async with openai(unending) as upstream:
        with pytest.raises(type(raised)) as caught:
            await run(way, TEAMS[kind](), "go", streaming_callback=hear)
        assert caught.value is raised
        assert not runs()
        assert not loops()
        await closed(upstream, 2 if kind == "concurrent" else 1)


async def test_async_callbacks_are_awaited_before_the_next_token(openai: Serve) -> None:
    told: list[str] = []

    async def hear(token: str) -> None:
        told.append(f"<{token}")
        await anyio.lowlevel.checkpoint()
        told.append(f"{token}>")

    async with openai(hello):
        assert await agent().arun("go", streaming_callback=hear) == "A says hello"
    assert told == ["<A says ", "A says >", "<hello", "hello>"]


async def test_a_task_that_a_callback_makes_is_awaited_too(openai: Serve) -> None:
    told: list[str] = []

    async def send(token: str) -> None:
        told.append(f"<{token}")
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        told.append(f"{token}>")

    def hear(token: str) -> asyncio.Task[None]:
        return asyncio.create_task(send(token))

    async with openai(hello):
        await agent().arun("go", streaming_callback=hear)
    assert told == ["<A says ", "A says >", "<hello", "hello>"]


async def test_an_async_callback_of_a_synchronous_run_is_refused(openai: Serve) -> None:
    async def hear(_: str) -> None:
        raise AssertionError("nobody can await this")

    async with openai(unending) as upstream:
        with pytest.raises(TypeError, match="takes arun"):
            await run("outside", agent(), "go", streaming_callback=hear)
        await closed(upstream)


# --- Streams that are left early ------------------------------------------------------------------------------------


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


async def test_a_stream_left_behind_may_be_collected_by_a_tool_of_its_own_run(openai: Serve) -> None:
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
async def test_a_run_whose_caller_is_cancelled_is_over_when_he_is(how: str, openai: Serve) -> None:
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


@pytest.mark.parametrize(
    "program",
    [
        "a.run('go', streaming_callback=say)",
        "for token in a.run_stream('go'): say(token)",
        "asyncio.run(a.arun('go', streaming_callback=say))",
    ],
)
async def test_ctrl_c_ends_a_run_and_the_program(program: str, openai: Serve) -> None:
    async with openai(unending) as upstream, started(program, upstream) as process:
        assert process.stdout
        with fail_after(30):
            assert await process.stdout.receive() == b"word \n"
            process.send_signal(signal.SIGINT)
            assert await process.wait() == -signal.SIGINT
        await closed(upstream)


async def test_a_program_ends_that_leaves_streams_open(openai: Serve) -> None:
    program = "streams = [team.run_stream('go') for team in teams]\nprint([next(tokens) for tokens in streams])"
    async with openai(unending) as upstream:
        assert await printed_by(program, upstream) == f"{['word '] * 4}\n"
        await closed(upstream, 5)


# --- Many at once ---------------------------------------------------------------------------------------------------


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
    heard: dict[str, list[Any]] = {task: [] for task in tasks}
    results: dict[str, Any] = {}

    async def work(task: str) -> None:
        results[task] = await run(
            "outside" if way == "threads" else "awaited",
            team,
            task,
            streaming_callback=lambda *said: heard[task].append(said),  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
        )

    async with openai(Echo(len(tasks) * len(first))), create_task_group() as group:
        for task in tasks:
            group.start_soon(work, task)
    for task in tasks:
        answers = {name: f"{name}:{task}" for name in SPEAKERS[kind]}
        last = answers[SPEAKERS[kind][-1]]
        said = [{"role": name, "content": answer} for name, answer in answers.items()]
        assert results[task] == (said if kind == "concurrent" else last)
        text = "".join(part[1] if kind == "concurrent" else part[0] for part in heard[task])
        assert text.count(task) == len(answers)
        assert text.count("task") == len(answers)


# --- Handles --------------------------------------------------------------------------------------------------------


async def frames_of(handle: Any, **more: Any) -> list[dict[str, Any]]:
    with fail_after(30):
        return [frame async for frame in handle.stream_events(**more)]


@every_team
async def test_a_handles_readers_all_get_the_same_stream_early_or_late(kind: str, openai: Serve) -> None:
    begun, go = anyio.Event(), anyio.Event()

    async def script(exchange: Exchange) -> None:
        begun.set()
        await go.wait()
        await hello(exchange)

    read: list[list[dict[str, Any]]] = []

    async def listen(**more: Any) -> None:
        read.append(await frames_of(handle, **more))

    async with openai(script):
        handle = TEAMS[kind]().start("go")
        async with create_task_group() as readers:
            readers.start_soon(listen)
            await begun.wait()
            readers.start_soon(listen)
            go.set()
        assert await handle == RESULTS[kind]
        await listen()
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


@every_team
async def test_a_cancelled_run_says_so_in_its_stream_before_it_is_raised(kind: str, openai: Serve) -> None:
    told: list[str] = []
    all_speak = anyio.Event()
    speakers = 2 if kind == "concurrent" else 1

    async def listen() -> None:
        async for frame in handle.stream_events():
            told.append(frame["event"])
            if told.count("chunk") == speakers:
                all_speak.set()

    async def wait() -> None:
        with pytest.raises(Cancelled) as caught:
            await handle
        told.append(caught.value.code)
        assert caught.value.elapsed_seconds >= 0

    async with openai(unending) as upstream:
        handle = TEAMS[kind]().start("go")
        async with create_task_group() as tasks:
            tasks.start_soon(listen)
            tasks.start_soon(wait)
            with fail_after(30):
                await all_speak.wait()
            handle.cancel()
        await closed(upstream, speakers)
    assert told[-4:] == ["error", "usage", "end", "cancelled"]


async def test_a_run_that_is_cancelled_at_once_has_a_whole_stream_and_asks_nobody(openai: Serve) -> None:
    async with openai(unending) as upstream:
        handle = agent().start("go")
        handle.cancel()
        frames = await frames_of(handle)
        with pytest.raises(Cancelled):
            await handle
    assert [frame["event"] for frame in frames] == ["metadata", "start", "error", "usage", "end"]
    assert frames[-1]["data"]["status"] == "cancelled"
    assert not upstream.exchanges


async def test_a_run_that_has_ended_stays_as_it_is(openai: Serve) -> None:
    async with openai(hello):
        handle = agent().start("go")
        await handle
        handle.cancel()
        assert await handle == "A says hello"


async def test_a_run_that_takes_too_long_names_its_timeout_and_who_was_speaking(openai: Serve) -> None:
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


async def test_a_workflows_own_timeout_counts_where_the_call_has_none(openai: Serve) -> None:
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
async def test_a_timeout_that_is_none_is_refused(timeout: float, openai: Serve) -> None:
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
async def test_a_stream_of_a_run_that_fails_gives_all_that_there_was_and_then_raises(way: str, openai: Serve) -> None:
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
async def test_a_run_that_fails_raises_what_failed(way: str, openai: Serve) -> None:
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


async def test_a_loop_that_ends_takes_its_runs_with_it(openai: Serve) -> None:
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


# --- Tools ----------------------------------------------------------------------------------------------------------


def calling(name: str, **arguments: Any) -> Script:
    """A model that calls this tool once, and then repeats what it was told."""

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        told = [message["content"] for message in exchange.body["messages"] if message["role"] == "tool"]
        if told:
            await exchange.say(f"{exchange.system} heard ", told[-1])
            await exchange.finish()
        else:
            written = json.dumps(arguments)
            await exchange.delta(
                tool_calls=[{"index": 0, "id": "call_1", "function": {"name": name, "arguments": written}}]
            )
            await exchange.finish("tool_calls")

    return script


class Shop:
    """Something with a method."""

    def __init__(self, stock: int) -> None:
        self._stock = stock

    def look(self, item: Annotated[str, "what"]) -> str:
        """How many there are."""
        return f"{self._stock} of {item} {here.get()}"


def look(item: str) -> str:
    """How many there are."""
    return f"a function's {item} {here.get()}"


async def look_async(item: str) -> str:
    await anyio.lowlevel.checkpoint()
    return f"an async function's {item} {here.get()}"


async def look_about(item: str, context: ToolContext) -> str:
    await context.write_event_to_stream("looking", {"for": item})
    return f"{context.agent} looks for {item} {here.get()}"


LOOKERS: dict[str, tuple[Any, str]] = {
    "function": (look, "a function's tea"),
    "async": (tool(look_async, name="look"), "an async function's tea"),
    "context": (tool(look_about, name="look"), "A looks for tea"),
    "method": (Shop(3).look, "3 of tea"),
    "partial": (partial(look), "a function's tea"),
    "lambda": (tool(lambda item: f"a lambda's {item} {here.get()}", name="look"), "a lambda's tea"),  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
}


@every_way
@pytest.mark.parametrize("looker", LOOKERS)
async def test_tools_run_in_the_callers_context(way: str, looker: str, openai: Serve) -> None:
    function, answer = LOOKERS[looker]
    here.set("here")
    async with openai(calling("look", item="tea")) as upstream:
        assert await run(way, agent(tools=[function], max_loops=2), "go") == f"A heard {answer} here"
    (offered,) = upstream.exchanges[0].body["tools"]
    assert offered["function"]["name"] == "look"
    assert [message["content"] for message in upstream.exchanges[1].body["messages"][2:] if message["content"]] == [
        f"{answer} here"
    ], "once"


@every_way
@pytest.mark.parametrize("kind", ["function", "async"])
async def test_an_agent_may_be_another_ones_tool(way: str, kind: str, openai: Serve) -> None:
    helper = agent("helper")

    async def ask_helper(question: str) -> str:
        return await helper.arun(question)

    def ask_in_thread(question: str) -> str:
        return helper.run(question)

    function = tool(ask_helper if kind == "async" else ask_in_thread, name="ask_helper")

    async def script(exchange: Exchange) -> None:
        await (hello if exchange.system == "helper" else calling("ask_helper", question="why?"))(exchange)

    async with openai(script) as upstream:
        answer = await run(way, agent(tools=[function], max_loops=2), "go")
    assert answer == "A heard helper says hello"
    assert upstream.exchanges[1].body["messages"][-1]["content"] == "why?"


async def test_what_a_tool_writes_is_an_event_of_the_stream(openai: Serve) -> None:
    async with openai(calling("look_about", item="tea")):
        events = [event async for event in agent(tools=[look_about], max_loops=2).arun_stream("go", with_events=True)]
    [called, wrote, ended] = [event for event in events if event["type"] in ("tool_start", "custom", "tool_end")]
    assert called["type"] == "tool_start"
    assert called["arguments"] == {"item": "tea"}
    assert wrote["type"] == "custom"
    assert (wrote["name"], wrote["data"]) == ("looking", {"for": "tea"})
    assert ended["type"] == "tool_end"
    assert ended["is_error"] is False
    assert [event.get("step") for event in events if event["type"] == "token"] == [2, 2]
    check_types(events, AgentEvent)


@pytest.mark.noisy
async def test_a_tool_that_raises_is_told_to_the_model_once(openai: Serve) -> None:
    calls: list[str] = []

    def look(item: str) -> str:
        calls.append(item)
        raise ValueError("the shop is closed")

    async with openai(calling("look", item="tea")):
        answer = await agent(tools=[look], max_loops=2).arun("go")
    assert answer == "A heard look failed: ValueError: the shop is closed"
    assert calls == ["tea"]


async def test_agents_have_their_own_functions_under_one_name(openai: Serve) -> None:
    team = ConcurrentWorkflow(
        [agent(f"{name} ", tools=[Shop(stock).look], max_loops=2) for stock, name in enumerate("ABC")]
    )
    here.set("here")
    async with openai(calling("look", item="tea")):
        results = await team.arun("go")
    assert results == [
        {"role": name, "content": f"{name}  heard {stock} of tea here"} for stock, name in enumerate("ABC")
    ]


async def test_an_agent_hands_off_to_another_who_has_functions_of_his_own(openai: Serve) -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.system == "A":
            await exchange.open()
            (offered,) = exchange.body["tools"]
            arguments = {"agent_name": "B", "message": "over to you"}
            known = {key: arguments.get(key, "B") for key in offered["function"]["parameters"]["properties"]}
            call = {"name": offered["function"]["name"], "arguments": json.dumps(known)}
            await exchange.delta(tool_calls=[{"index": 0, "id": "call_1", "function": call}])
            await exchange.finish("tool_calls")
        else:
            await calling("look", item="tea")(exchange)

    here.set("here")
    async with openai(script):
        answer = await agent("A", handoffs=[agent("B", tools=[look], max_loops=2)]).arun("go")
    assert answer == "B heard a function's tea here"


async def test_two_agents_of_one_name_cannot_have_different_functions(openai: Serve) -> None:
    bosses = [agent(name, handoffs=[agent("X", tools=[Shop(3).look])]) for name in "AB"]
    async with openai(hello) as upstream:
        with pytest.raises(DuplicateAgent, match='two agents with different tools are named "X"'):
            await SequentialWorkflow(bosses).arun("go")
        shared = agent("X", tools=[look])
        for boss in bosses:
            boss.handoffs = [shared]
        assert await SequentialWorkflow(bosses).arun("go") == "B says hello"
    assert len(upstream.exchanges) == 2


async def test_two_tools_of_one_name_are_refused_before_anybody_is_asked(openai: Serve) -> None:
    async with openai(hello) as upstream:
        with pytest.raises(InvalidTool, match='the tool name "look" is taken'):
            await agent(tools=[look, Shop(3).look]).arun("go")
    assert not upstream.exchanges


@pytest.mark.parametrize("given", [42, "look", dict, lambda: 0], ids=["number", "name", "type", "lambda"])
def test_what_cannot_be_offered_is_refused_when_the_agent_is_made(given: Any) -> None:
    with pytest.raises(ToolDefinitionError):
        agent(tools=[given])


# --- Memory, terminal, files ----------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("remembers", [True, False])
async def test_an_agent_remembers_earlier_tasks_only_if_it_is_told_to(way: str, remembers: bool, openai: Serve) -> None:
    async with openai(hello) as upstream:
        its = agent(persistent_memory=remembers)
        await run(way, its, "one")
        await stream(way, its, "two")
        if way == "awaited":
            await its.start("two and a half")
        await run(way, its, "three")
    before = ["one", "two", "two and a half"] if way == "awaited" else ["one", "two"]
    remembered = [(role, text) for task in before for role, text in (("user", task), ("assistant", "A says hello"))]
    asked = [(message["role"], message["content"]) for message in upstream.exchanges[-1].body["messages"][1:]]
    assert asked == [*(remembered if remembers else []), ("user", "three")]


@pytest.mark.noisy
async def test_what_failed_is_not_remembered(openai: Serve) -> None:
    script: list[Script] = [refusing, hello]

    async def one_after_another(exchange: Exchange) -> None:
        await script.pop(0)(exchange)

    async with openai(one_after_another) as upstream:
        its = agent(persistent_memory=True)
        with pytest.raises(Failed):
            await its.arun("one")
        await its.arun("two")
    assert [message["content"] for message in upstream.exchanges[1].body["messages"]] == ["A", "two"]


@every_way
@pytest.mark.parametrize("streaming_on", [True, False])
async def test_without_a_terminal_an_agent_prints_plain_text_or_nothing_without_print_on(
    way: str, streaming_on: bool, openai: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    async with openai(hello):
        await run(way, agent(print_on=True, streaming_on=streaming_on), "go")
        printed = capsys.readouterr().out
        await run(way, agent(streaming_on=streaming_on), "go")
        assert capsys.readouterr().out == ""
    assert printed.startswith("--- A ---\nA says hello\n\n[success · 10 tokens · ")
    assert "\x1b" not in printed


async def test_by_default_a_program_whose_output_is_no_terminal_gets_no_word_that_it_did_not_ask_for(
    openai: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with openai(hello):
        await Agent("A", "A").arun("go")
        assert capsys.readouterr().out == ""
        await Agent("A", "A", streaming_on=True).arun("go")
        assert "A says hello" in capsys.readouterr().out
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("TERM", "dumb")
        await Agent("A", "A").arun("go")
        assert "A says hello" in capsys.readouterr().out


def test_agents_and_teams_show_what_they_are() -> None:
    one, other = Agent("Ann", model_name="demo/swarm"), Agent("Bob")
    assert repr(one) == "Agent('Ann', model_name='demo/swarm')"
    assert repr(SequentialWorkflow([one, other], name="team")) == "SequentialWorkflow([Ann, Bob], name='team')"


@every_way
async def test_a_dashboard_shows_silent_agents_too_and_else_those_are_drawn_that_print(
    way: str, openai: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    async with openai(hello):
        await run(way, SequentialWorkflow([agent("A"), agent("B")], show_dashboard=True, name="board"), "go")
        dashboard = capsys.readouterr().out
        await run(way, SequentialWorkflow([agent("A", print_on=True), agent("B")]), "go")
        chosen = capsys.readouterr().out
        await run(way, SequentialWorkflow([agent("A"), agent("B")]), "go")
        nothing = capsys.readouterr().out
    assert dashboard.startswith("board\n--- A ---\nA says hello\n\n--- B ---\nB says hello\n\n[success · 20 tokens")
    assert chosen.startswith("--- A ---\nA says hello\n\n[success · 20 tokens")
    assert nothing == ""


@every_way
@every_team
async def test_whoever_has_a_callback_or_a_stream_draws_for_himself(
    way: str, kind: str, openai: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    team = TEAMS[kind]()
    for its in [team] if isinstance(team, Agent) else team.agents:
        its.print_on = its.streaming_on = True
    if not isinstance(team, Agent):
        team.show_dashboard = True
    async with openai(hello):
        await run(way, team, "go", streaming_callback=ignore)
        await stream(way, team, "go")
        await team.start("go")
    assert capsys.readouterr().out == ""


@every_way
async def test_autosave_writes_each_runs_answer(way: str, openai: Serve, tmp_path: Path) -> None:
    async with openai(hello):
        team = SequentialWorkflow([agent("A"), agent("B")], autosave=tmp_path / "runs", name="pair")
        await run(way, team, "one")
        await stream(way, team, "two")
        if way == "awaited":
            await team.start("three")
    saved = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("swarms-*.json")]
    assert {its["task"] for its in saved} == {"one", "two", "three"} - ({"three"} if way != "awaited" else set())
    for its in saved:
        assert (its["swarm_name"], its["status"], its["output"][-1]["content"]) == ("pair", "success", "B says hello")


@pytest.mark.noisy
async def test_autosave_writes_a_run_that_failed_and_none_where_it_is_off(
    openai: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with openai(refusing):
        for autosave in (False, True):
            with pytest.raises(Failed):
                await SequentialWorkflow([agent("A")], autosave=autosave).arun("go")
    (saved,) = (tmp_path / "swarmstream-runs").iterdir()
    assert json.loads(saved.read_text())["status"] == "failed"


# --- What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (Agent, {"agent_nam": "A"}, "Agent has no argument 'agent_nam'; did you mean 'agent_name'?"),
        (Agent, {"streamingon": True}, "Agent has no argument 'streamingon'; did you mean 'streaming_on'?"),
        (Agent, {"xyz": 1}, "Agent has no argument 'xyz'"),
        (Agent, {"user_name": "A"}, "Agent has no argument 'user_name'"),
        (Agent, {"streaming_callback": 1}, "Agent has no argument 'streaming_callback'"),
        (Agent, {"stopping_token": "x"}, "Agent has no argument 'stopping_token'"),
        (Agent, {"self_": 1}, "Agent has no argument 'self_'"),
        (Agent, {"name": "A"}, "Agent has no argument 'name'; did you mean 'agent_name'?"),
        (Agent, {"agent_description": "A"}, "Agent has no argument 'agent_description'; did you mean 'description'?"),
        (Agent, {"fallback_models": []}, "Agent has no argument 'fallback_models'; did you mean 'fallbacks'?"),
        (Agent, {"tools_list_dictionary": []}, "Agent has no argument 'tools_list_dictionary'; did you mean 'tools'?"),
        (AgentRearrange, {"agents": [], "more": 1}, "AgentRearrange has no argument 'more'"),
        (
            *(AgentRearrange, {"agents": [], "rearrange_flow": "A"}),
            "AgentRearrange has no argument 'rearrange_flow'; did you mean 'flow'?",
        ),
        (SequentialWorkflow, {"agent": []}, "SequentialWorkflow has no argument 'agent'; did you mean 'agents'?"),
        (AgentRearrange, {"agents": [], "flwo": "A"}, "AgentRearrange has no argument 'flwo'; did you mean 'flow'?"),
        (
            *(ConcurrentWorkflow, {"agents": [], "show_dashbord": True}),
            "ConcurrentWorkflow has no argument 'show_dashbord'; did you mean 'show_dashboard'?",
        ),
        (
            *(AgentRearrange, {"agents": [], "flow": "A", "max_loop": 2}),
            "AgentRearrange has no argument 'max_loop'; did you mean 'max_loops'?",
        ),
    ],
)
def test_an_unknown_argument_is_an_error_that_names_the_near_miss(
    make: type, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError) as caught:
        make(**arguments)
    assert str(caught.value) == message


def test_a_kind_of_agent_of_ones_own_may_have_arguments_of_its_own() -> None:
    class Poet(Agent):
        def __init__(self, metre: str, **more: Any) -> None:
            super().__init__(system_prompt=f"Write in {metre}.", **more)

    assert Poet(metre="iambs", agent_name="P").system_prompt == "Write in iambs."
    with pytest.raises(TypeError, match="Poet has no argument 'metr'; did you mean 'metre'"):
        Poet(metr="iambs")  # pyright: ignore[reportCallIssue]


@every_way
@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"max_loops": "many"}, "max_loops"),
        ({"temperature": "hot"}, "temperature"),
        ({"agent_name": " "}, "agent_name"),
    ],
)
async def test_what_has_the_wrong_type_is_refused_with_its_name(
    way: str, wrong: dict[str, Any], where: str, openai: Serve
) -> None:
    async with openai(hello) as upstream:
        for team in (agent(**wrong), ConcurrentWorkflow([agent("A"), agent(**{"name": "B", **wrong})])):
            with pytest.raises(InvalidRequest, match=where):
                await run(way, team, "go")
    assert not upstream.exchanges


@every_way
@every_team
async def test_missing_credentials_are_told_before_anything_is_asked(
    way: str, kind: str, openai: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with openai(hello) as upstream:
        monkeypatch.delenv("OPENAI_API_KEY")
        team = TEAMS[kind]()
        with pytest.raises(NoCredentials, match="set OPENAI_API_KEY") as caught:
            await run(way, team, "go")
        assert caught.value.detail.startswith("this program has no credentials for the model ")
        assert caught.value.detail.endswith(', or model_name="demo/swarm", which needs none')
        with pytest.raises(AppError):
            await stream(way, team, "go")
        with pytest.raises(AppError):
            team.start("go")
        assert not runs()
    assert not upstream.exchanges


async def test_an_empty_task_is_refused_also_by_an_agent_that_remembers_others(openai: Serve) -> None:
    async with openai(hello) as upstream:
        remembering = agent(persistent_memory=True)
        await remembering.arun("go")
        for team in (remembering, *(make() for make in TEAMS.values())):
            with pytest.raises(NoTask):
                await team.arun(" ")
    assert len(upstream.exchanges) == 1


def test_a_team_is_made_of_agents() -> None:
    members: Any = [agent(), "B"]
    with pytest.raises(TypeError, match="SequentialWorkflow is made of agents, not of str"):
        SequentialWorkflow(members)


async def test_an_agents_model_can_be_asked_whether_it_streams(openai: Serve) -> None:
    async with openai(hello):
        assert hasattr(agent().llm, "stream")


# --- Nothing is left ------------------------------------------------------------------------------------------------

_PRELUDE = """
import asyncio, gc, os, threading
from swarmstream import Agent, AgentRearrange, ConcurrentWorkflow, SequentialWorkflow

def agent(name):
    return Agent(name, name, print_on=False)

a, b, c = agent("A"), agent("B"), agent("C")
teams = [a, SequentialWorkflow([a, b]), AgentRearrange([a, b, c], "A -> B, C"), ConcurrentWorkflow([a, b])]

def sockets():
    return {link(name) for name in os.listdir("/proc/self/fd") if link(name).startswith("socket")}

def link(name):
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""

def say(token):
    print(token, flush=True)

inherited = sockets()
"""


@asynccontextmanager
async def started(program: str, upstream: Upstream, **environ: str) -> AsyncGenerator[anyio.abc.Process]:
    """A program with an interpreter of its own."""
    openai = {"OPENAI_API_KEY": OPENAI_KEY, "OPENAI_BASE_URL": upstream.base_url}
    async with await anyio.open_process(
        [sys.executable, "-W", "error", "-W", "ignore:::litellm", "-c", _PRELUDE + program],
        env={"PATH": "/usr/bin:/bin", **openai, **environ},
    ) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def printed_by(program: str, upstream: Upstream) -> str:
    """What a program prints that ends well, without a warning."""
    async with started(program, upstream) as process:
        return await printed(process)


async def printed(process: anyio.abc.Process) -> str:
    """What it prints, once it has ended well, without a warning."""
    told = {"out": "", "err": ""}

    async def read(pipe: anyio.abc.ByteReceiveStream | None, where: str) -> None:
        assert pipe
        told[where] = "".join([part.decode() async for part in pipe])

    with anyio.move_on_after(30):
        async with create_task_group() as tasks:
            tasks.start_soon(read, process.stdout, "out")
            tasks.start_soon(read, process.stderr, "err")
        assert (await process.wait(), told["err"]) == (0, "")
        return told["out"]
    raise AssertionError("the program does not end")


_SIDE_BY_SIDE = """
tokens = agent("long").run_stream("go")
print(next(tokens), flush=True)
threads = [threading.Thread(target=lambda: print(agent("short").run("go"), flush=True)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("".join(tokens))
print(agent("short").run("go"))
"""

_EVERY_RUN = """
async def leave(team):
    before = sockets()
    async for _ in team.arun_stream("go"):
        break
    async for _ in team.arun_stream("go"):
        pass
    await team.arun("go")
    await asyncio.sleep(0)
    assert sockets() == before
    handle = team.start("go")
    async for _ in handle.stream_events():
        break

for team in teams:
    team.run("go")
    list(team.run_stream("go"))
    next(team.run_stream("go"))
    asyncio.run(leave(team))
print({event["lane"] for event in a.run_stream("go", with_events=True) if event["type"] == "agent_start"})
gc.collect()
print([thread.name for thread in threading.enumerate()][1:])
print(sorted(sockets() - inherited))
"""


class Sides:
    """Says hello to all but one, whose answer ends after four others'."""

    def __init__(self) -> None:
        self._left = 4
        self._all_ended = anyio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.system != "long":
            await hello(exchange)
            self._left -= 1
            if not self._left:
                self._all_ended.set()
            return
        await exchange.open()
        await exchange.say("word ")
        await self._all_ended.wait()
        await exchange.say("and ", "another")
        await exchange.finish()


Begun: TypeAlias = tuple[anyio.abc.Process, Upstream]


@asynccontextmanager
async def all_runs(lane: str) -> AsyncGenerator[Begun]:
    program = _SIDE_BY_SIDE + _EVERY_RUN
    async with (
        provider(Sides(), keeps_alive=True) as upstream,
        started(program, upstream, SWARMSTREAM_LANE=lane) as process,
    ):
        yield process, upstream


@pytest.fixture(scope="module", autouse=True)
async def through_litellm() -> AsyncGenerator[Begun]:
    """Begun before the first test: to import litellm takes a processor seconds, while most tests wait for sockets."""
    async with all_runs("litellm") as begun:
        yield begun


async def check_what_they_leave(begun: Begun, lane: str) -> None:
    process, upstream = begun
    side_by_side = "word \n" + "short says hello\n" * 4 + "and another\nshort says hello\n"
    assert await printed(process) == f"{side_by_side}{{'{lane}'}}\n[]\n[]\n"
    with fail_after(30):
        await upstream.idle()


async def test_runs_leave_each_others_connections_alone_and_no_thread_socket_or_warning_behind() -> None:
    async with all_runs("direct") as begun:
        await check_what_they_leave(begun, "direct")


async def test_runs_through_litellm_leave_each_others_connections_alone_and_nothing_behind(
    through_litellm: Begun,
) -> None:
    await check_what_they_leave(through_litellm, "litellm")


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


async def test_a_loop_ends_though_a_run_of_its_has_hardly_begun(openai: Serve) -> None:
    program = """
async def begin():
    a.start("go")

asyncio.run(begin())
print("ended")
"""
    async with openai(hello) as upstream:
        assert await printed_by(program, upstream) == "ended\n"


def test_handoffs_in_a_circle_are_refused() -> None:
    first, second = (Agent(agent_name=name, model_name="demo/swarm", print_on=False) for name in "AB")
    first.handoffs, second.handoffs = [second], [first]
    with pytest.raises(InvalidRequest, match="circle"):
        first.run("go")
