"""The server as an operator runs it: a process of its own, with an environment of its own."""

import asyncio
import re
import resource
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from tests.conftest import KEY
from tests.fakes.upstream import Upstream

_LISTENING = re.compile(r"Uvicorn running on (http://\S+)")
COMMAND = Path(sys.executable).with_name("swarmstream")


OPENAI_KEY = "sk-upstream-0123456789"


def openai_environ(upstream: Upstream, **settings: str) -> dict[str, str]:
    """Return the environment of an operator whose OpenAI is this provider."""
    return {"SWARMSTREAM_API_KEYS": KEY, "OPENAI_API_KEY": OPENAI_KEY, "OPENAI_BASE_URL": upstream.base_url, **settings}


@dataclass
class ServerProcess:
    """A running server and what it has written so far."""

    process: asyncio.subprocess.Process
    url: str = ""
    out: str = ""
    log: str = ""
    _listening: anyio.Event = field(default_factory=anyio.Event)
    _written: anyio.Event = field(default_factory=anyio.Event)

    async def read_out(self) -> None:
        assert self.process.stdout
        while line := await self.process.stdout.readline():
            self.out += line.decode()
            self._write()

    async def printed(self, start: str) -> str:
        """Wait for a line on standard output that begins so, and return it."""
        with anyio.fail_after(60):
            while True:
                for line in self.out.splitlines():
                    if line.startswith(start):
                        return line
                await self._written.wait()

    async def logged(self, excerpt: str) -> None:
        """Wait until these words are in the log."""
        with anyio.fail_after(60):
            while excerpt not in self.log:
                await self._written.wait()

    def _write(self) -> None:
        self._written.set()
        self._written = anyio.Event()

    async def read_log(self) -> None:
        assert self.process.stderr
        while line := await self.process.stderr.readline():
            self.log += line.decode()
            self._write()
            if found := _LISTENING.search(line.decode()):
                self.url = found[1]
                self._listening.set()
        self._listening.set()

    async def listening(self) -> None:
        with anyio.fail_after(120):
            await self._listening.wait()
        assert self.url, self.log

    async def stopped(self, seconds: float) -> int:
        """Wait for the process to end, for so long at most; return its exit code."""
        with anyio.fail_after(seconds):
            return await self.process.wait()


def memory_bytes(server: ServerProcess) -> int:
    """Return the resident memory of a server's process."""
    rollup = Path(f"/proc/{server.process.pid}/smaps_rollup").read_text()
    return int(rollup.partition("\nRss:")[2].split()[0]) * 1024


def run(*arguments: str, cwd: Path | None = None, **environ: Any) -> subprocess.CompletedProcess[str]:
    """Run `swarmstream` to its end, with no data directory: another server may have the usual one."""
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "SWARMSTREAM_DATA_DIR": "", **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


@asynccontextmanager
async def server_process(
    *arguments: str,
    environ: Mapping[str, str],
    descriptors: tuple[int, int] | None = None,
    nohup: bool = False,
    cwd: Path | None = None,
) -> AsyncGenerator[ServerProcess]:
    """Run `swarmstream serve` on a free port for the length of the block.

    `descriptors` are its soft and hard limits on open files; with `nohup` it is started by that command.
    """
    process = await asyncio.create_subprocess_exec(
        *(["nohup"] if nohup else []),
        COMMAND,
        "serve",
        "--port=0",
        *arguments,
        env={"PATH": "/usr/bin:/bin", "SWARMSTREAM_DATA_DIR": "", **environ},
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=descriptors and partial(resource.setrlimit, resource.RLIMIT_NOFILE, descriptors),
    )
    server = ServerProcess(process)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.read_out)
        tasks.start_soon(server.read_log)
        try:
            await server.listening()
            yield server
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
