"""Programs that use the library, each in an interpreter of its own."""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
from anyio import create_task_group

from tests.clients.process import OPENAI_KEY
from tests.fakes.upstream import Upstream

PRELUDE = """
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
        [sys.executable, "-W", "error", "-W", "ignore:::litellm", "-c", PRELUDE + program],
        env={"PATH": "/usr/bin:/bin", **openai, **environ},
    ) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def printed_by(program: str, upstream: Upstream) -> str:
    """Return the output of a program, which must end well and without a warning."""
    async with started(program, upstream) as process:
        return await printed(process)


async def printed(process: anyio.abc.Process) -> str:
    """Return the output of a process, which must end well and without a warning."""
    written = {"out": "", "err": ""}

    async def read(pipe: anyio.abc.ByteReceiveStream | None, where: str) -> None:
        assert pipe
        written[where] = "".join([part.decode() async for part in pipe])

    with anyio.move_on_after(60):  # to import litellm takes a processor seconds, and a busy one many
        async with create_task_group() as tasks:
            tasks.start_soon(read, process.stdout, "out")
            tasks.start_soon(read, process.stderr, "err")
        assert (await process.wait(), written["err"]) == (0, "")
        return written["out"]
    raise AssertionError("the program does not end")
