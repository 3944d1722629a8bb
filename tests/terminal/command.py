"""`swarmstream run` as a process, in pipes or on a pseudo-terminal."""

import asyncio
import os
import pty
import re
import subprocess
import tempfile
import termios
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from tests.clients.process import COMMAND, OPENAI_KEY
from tests.fakes.upstream import Exchange, Upstream

SWARM: dict[str, Any] = {
    "rearrange_flow": "A, B -> C",
    "task": "go",
    "agents": [{"agent_name": name, "system_prompt": name} for name in "ABC"],
}

AGENT: dict[str, Any] = {"agent_config": {"agent_name": "A", "system_prompt": "A"}, "task": "go"}


@dataclass
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str


class Running:
    """A command that runs, its output read as it comes; `terminal` is the master side where it has one."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int | None) -> None:
        self.process = process
        self.terminal = terminal
        self.out = ""
        self.err = ""
        self._more = anyio.Event()

    async def read(self) -> None:
        async with anyio.create_task_group() as tasks:
            if self.terminal is None:
                assert self.process.stdout
                tasks.start_soon(self._read_pipe, self.process.stdout, "out")
            else:
                tasks.start_soon(self._read_terminal, self.terminal)
            assert self.process.stderr or self.terminal is not None
            if self.process.stderr:
                tasks.start_soon(self._read_pipe, self.process.stderr, "err")

    async def shows(self, pattern: str, where: str = "out") -> None:
        """Wait until something that looks so is there."""
        with anyio.fail_after(30):
            while not re.search(pattern, getattr(self, where)):
                await self._more.wait()

    def press(self, key: bytes) -> None:
        assert self.terminal is not None
        os.write(self.terminal, key)

    async def ended(self, seconds: float = 10) -> Ran:
        with anyio.fail_after(seconds):
            return Ran(await self.process.wait(), self.out, self.err)

    def _add(self, where: str, text: str) -> None:
        setattr(self, where, getattr(self, where) + text)
        self._more.set()
        self._more = anyio.Event()

    async def _read_pipe(self, pipe: asyncio.StreamReader, where: str) -> None:
        while content := await pipe.read(65_536):
            self._add(where, content.decode())

    async def _read_terminal(self, terminal: int) -> None:
        while True:
            await anyio.wait_readable(terminal)
            try:
                content = os.read(terminal, 65_536)
            except OSError:  # Linux's way to say that the other side is closed
                return
            if not content:
                return
            self._add("out", content.decode(errors="replace"))


@asynccontextmanager
async def running(*arguments: str, on_terminal: bool = False, **environ: str) -> AsyncGenerator[Running]:
    """`swarmstream run` for the length of the block; with `on_terminal`, one of 100 by 30 cells is its own."""
    command: list[str | Path] = [COMMAND, "run", *arguments]
    environ = {"PATH": "/usr/bin:/bin", "TERM": "xterm-256color", "LANG": "C.UTF-8", **environ}
    terminal = None
    if on_terminal:
        terminal, other = pty.openpty()
        termios.tcsetwinsize(terminal, (30, 100))
        # A session's leader that opens a terminal gets it as its own: Ctrl-C there is a signal to it.
        command = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(other), *command]
        process = await asyncio.create_subprocess_exec(*command, env=environ, start_new_session=True)
    else:
        process = await asyncio.create_subprocess_exec(
            *command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        other = None
    ran = Running(process, terminal)
    async with anyio.create_task_group() as tasks:
        reading = anyio.Event()

        async def read() -> None:
            await ran.read()
            reading.set()

        tasks.start_soon(read)
        try:
            yield ran
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            if other is not None:
                os.close(other)
            with anyio.move_on_after(30):
                await reading.wait()
            tasks.cancel_scope.cancel()
            if terminal is not None:
                os.close(terminal)


async def run(*arguments: str, stdin: bytes = b"", **environ: str) -> Ran:
    """`swarmstream run` in pipes, to its end."""
    with tempfile.TemporaryFile() as stdin_file:  # a pipe could not be written to once the command has left
        stdin_file.write(stdin)
        stdin_file.seek(0)
        process = await asyncio.create_subprocess_exec(
            COMMAND,
            "run",
            *arguments,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **environ},
            stdin=stdin_file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    with anyio.fail_after(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


async def one_word_and_silence(exchange: Exchange) -> None:
    await exchange.open()
    await exchange.say("word ")
    await anyio.sleep_forever()


def own_provider(upstream: Upstream) -> dict[str, Any]:
    return {"OPENAI_API_KEY": OPENAI_KEY, "OPENAI_BASE_URL": upstream.base_url}
