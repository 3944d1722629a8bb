"""The code samples of the guides (tests/library/guide_samples), run as they stand in an interpreter of their own.

Their provider is on this machine. What it holds back until the test has seen the tokens before shows that they are
printed while it is still sending.
"""

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from tests.fakes.upstream import Exchange, Script, Upstream, provider

SAMPLES = Path(__file__).parent / "guide_samples"

HELLO = "alpha omega"


class Play:
    """A sample that runs, its output read as it comes; `terminal` is the near side of its terminal, if it has one."""

    def __init__(self, process: asyncio.subprocess.Process, upstream: Upstream, terminal: int | None) -> None:
        self.upstream = upstream
        self.out = ""
        self.err = ""
        self.process = process
        self._terminal = terminal
        self._more = anyio.Event()

    async def read(self) -> None:
        async with anyio.create_task_group() as tasks:
            if self.process.stdout and self.process.stderr:
                tasks.start_soon(self._read_pipe, self.process.stdout, "out")
                tasks.start_soon(self._read_pipe, self.process.stderr, "err")
            elif self._terminal is not None:
                tasks.start_soon(self._read_terminal, self._terminal)

    async def shows(self, text: str) -> None:
        """Wait until it has printed this."""
        with anyio.move_on_after(30):
            while text not in self.out:
                await self._more.wait()
        assert text in self.out, (self.out, self.err)

    def type(self, text: str) -> None:
        assert self._terminal is not None
        os.write(self._terminal, text.encode())

    async def ended(self) -> str:
        """All that it has printed, once it has ended well."""
        with anyio.fail_after(30):
            code = await self.process.wait()
            while self.process.stdout and not self.process.stdout.at_eof():
                await self._more.wait()
        assert (code, self.err) == (0, ""), self.err
        return self.out

    def _add(self, where: str, text: str) -> None:
        setattr(self, where, getattr(self, where) + text)
        self._more.set()
        self._more = anyio.Event()

    async def _read_pipe(self, pipe: asyncio.StreamReader, where: str) -> None:
        while content := await pipe.read(65_536):
            self._add(where, content.decode())
        self._add(where, "")

    async def _read_terminal(self, terminal: int) -> None:
        while True:
            await anyio.wait_readable(terminal)
            try:
                content = os.read(terminal, 65_536)
            except OSError:  # Linux's way to say that the other side is closed
                return
            self._add("out", content.decode(errors="replace"))


@asynccontextmanager
async def playing(
    sample: str, script: Script, cwd: Path, *arguments: str, on_terminal: bool = False, **environ: str
) -> AsyncGenerator[Play]:
    """The sample, for whom OpenAI is a provider with this script, for the length of the block."""
    terminal, other = pty.openpty() if on_terminal else (None, None)
    async with provider(script) as upstream:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", SAMPLES / f"{sample}.py", *arguments),
            env={
                "PATH": "/usr/bin:/bin",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONIOENCODING": "utf-8",
                "OPENAI_API_KEY": "sk-upstream-0123456789",
                "OPENAI_BASE_URL": upstream.base_url,
                "TERM": "xterm-256color",
                "COLUMNS": "100",
                "LINES": "30",
                **environ,
            },
            cwd=cwd,
            stdin=subprocess.DEVNULL if other is None else other,
            stdout=subprocess.PIPE if other is None else other,
            stderr=subprocess.PIPE if other is None else other,
        )
        if other is not None:
            os.close(other)
        play = Play(process, upstream, terminal)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play.read)
            try:
                yield play
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()
                tasks.cancel_scope.cancel()
    if terminal is not None:
        os.close(terminal)


class Held:
    """A script that says two words; each call's second one is held back until the test lets it go."""

    def __init__(self, first: str = "alpha ", second: str = "omega") -> None:
        self.go = anyio.Event()
        self._words = first, second

    async def __call__(self, exchange: Exchange) -> None:
        first, second = self._words
        await exchange.open()
        await exchange.say(first)
        await self.go.wait()
        await exchange.say(second)
        await exchange.finish()


async def hello(exchange: Exchange) -> None:
    await exchange.open()
    await exchange.say("alpha ", "omega")
    await exchange.finish()


async def call(exchange: Exchange, tool: str, **arguments: Any) -> None:
    """Call a tool, the arguments in two pieces, as OpenAI sends them."""
    written = json.dumps(arguments)
    await exchange.delta(tool_calls=[{"index": 0, "id": f"call_{tool}", "function": {"name": tool, "arguments": ""}}])
    for piece in (written[:5], written[5:]):
        await exchange.delta(tool_calls=[{"index": 0, "function": {"arguments": piece}}])
    await exchange.finish("tool_calls")


def tool_results(exchange: Exchange) -> list[str]:
    return [message["content"] for message in exchange.body["messages"] if message["role"] == "tool"]
