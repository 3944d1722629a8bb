"""Whole programs: they end, and leave no thread, no socket and no warning behind."""

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypeAlias

import anyio
import anyio.abc
import pytest
from anyio import fail_after

from tests.fakes.upstream import Exchange, Upstream, hello, provider
from tests.library.programs import printed, printed_by, started
from tests.library.teams import Serve, closed, unending

pytestmark = pytest.mark.anyio


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


async def test_runs_leave_no_thread_socket_or_warning_behind_and_other_runs_alone() -> None:
    async with all_runs("direct") as begun:
        await check_what_they_leave(begun, "direct")


async def test_runs_through_litellm_leave_nothing_behind_and_other_runs_alone(
    through_litellm: Begun,
) -> None:
    await check_what_they_leave(through_litellm, "litellm")


async def test_an_event_loop_ends_while_a_run_is_about_to_begin(openai: Serve) -> None:
    program = """
async def begin():
    a.start("go")

asyncio.run(begin())
print("ended")
"""
    async with openai(hello) as upstream:
        assert await printed_by(program, upstream) == "ended\n"
