"""`swarmstream run`: a real process, against real servers, in pipes and on a pseudo-terminal."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import anyio
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from swarmstream.terminal.watch import watch
from tests.clients.process import COMMAND, OPENAI_KEY
from tests.conftest import KEY, TestServer, serving
from tests.fakes.local_models import local_models
from tests.fakes.upstream import Exchange, Upstream, hello, provider

pytestmark = pytest.mark.anyio

SWARM: dict[str, Any] = {
    "rearrange_flow": "A, B -> C",
    "task": "go",
    "agents": [{"agent_name": name, "system_prompt": name} for name in "ABC"],
}
AGENT: dict[str, Any] = {"agent_config": {"agent_name": "A", "system_prompt": "A"}, "task": "go"}

METADATA: dict[str, Any] = {
    "id": 1,
    "event": "metadata",
    "data": {"job_id": "swarms-1", "swarm_name": "x", "warnings": [], "t": 0},
}
START: dict[str, Any] = {
    "id": 2,
    "event": "agent_start",
    "data": {"agent": "A", "turn": 1, "stage": 1, "loop": 1, "t": 0},
}
USAGE: dict[str, Any] = {"id": 9, "event": "usage", "data": {"total_tokens": 7, "total_cost": 0.5, "t": 1}}


def ended(status: str) -> dict[str, Any]:
    data: dict[str, Any] = {"job_id": "swarms-1", "status": status, "execution_time": 1.0, "failed_agents": [], "t": 1}
    return {"id": 10, "event": "end", "data": data}


def line(frame: dict[str, Any]) -> bytes:
    return json.dumps(frame).encode() + b"\n"


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
    with tempfile.TemporaryFile() as given:  # a pipe could not be written to once the command has left
        given.write(stdin)
        given.seek(0)
        process = await asyncio.create_subprocess_exec(
            COMMAND,
            "run",
            *arguments,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **environ},
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    with anyio.fail_after(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


@pytest.fixture
def swarm(tmp_path: Path) -> str:
    path = tmp_path / "swarm.json"
    path.write_text(json.dumps(SWARM))
    return str(path)


@pytest.fixture
def agent(tmp_path: Path) -> str:
    path = tmp_path / "agent.json"
    path.write_text(json.dumps(AGENT))
    return str(path)


async def one_word_and_silence(exchange: Exchange) -> None:
    await exchange.open()
    await exchange.say("word ")
    await anyio.sleep_forever()


Body = Callable[[], AsyncIterator[bytes]]


@asynccontextmanager
async def scripted_server(body: Body, on_cancel: Callable[[], Response] | None = None) -> AsyncGenerator[str]:
    """The URL of a server that answers each run with this body, and that may know how to cancel one."""

    def stream(_: Request) -> Response:
        return StreamingResponse(body(), media_type="application/x-ndjson")

    def cancel(_: Request) -> Response:
        return on_cancel() if on_cancel else Response(status_code=404)

    async with _serving(
        Route("/v1/swarm/completions", stream, methods=["POST"]),
        Route("/v1/runs/swarms-1/cancel", cancel, methods=["POST"]),
    ) as url:
        yield url


@asynccontextmanager
async def _serving(*routes: Route) -> AsyncGenerator[str]:
    server = TestServer(uvicorn.Config(Starlette(routes=routes), port=0, log_config=None, access_log=False))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.live)
        with anyio.fail_after(30):
            await server.listening.wait()
        try:
            yield server.url
        finally:
            server.should_exit = True
            server.leaving.set()
            with anyio.move_on_after(5, shield=True):
                await server.stopped.wait()


# --- A run, to its end ----------------------------------------------------------------------------------------------


async def test_piped_output_is_plain_text_and_a_success_exits_0(swarm: str, tmp_path: Path) -> None:
    async with provider(hello) as upstream, local_models(upstream, tmp_path) as url:
        ran = await run(swarm, "--server", url, SWARMSTREAM_KEY=KEY)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert sorted(lines[:2]) == ["A: A says hello", "B: B says hello"]
    assert lines[2:] == ["--- C ---", "C says hello", ""]
    assert re.fullmatch(r"\[success · 30 tokens · \$0\.000039 · \d+\.\d s\]\n", ran.err)
    assert "\x1b" not in ran.out


async def test_a_task_in_words_is_answered_by_one_agent_and_the_answer_can_be_had_alone() -> None:
    async with provider(hello) as upstream:
        ran = await run("Why do cats purr?", "--model", "gpt-4.1", "--output", "last", **own_provider(upstream))
    [exchange] = upstream.exchanges
    assert exchange.body["model"] == "gpt-4.1"
    assert exchange.body["messages"][-1] == {"role": "user", "content": "Why do cats purr?"}
    assert (ran.code, ran.out) == (0, f"{exchange.system} says hello\n")
    assert re.fullmatch(r"\[success · .*\]\n", ran.err)


async def test_a_model_of_the_command_line_is_every_agents(swarm: str) -> None:
    async with provider(hello) as upstream:
        ran = await run(swarm, "--model", "gpt-4.1", **own_provider(upstream))
    assert ran.code == 0, ran.err
    assert [exchange.body["model"] for exchange in upstream.exchanges] == ["gpt-4.1"] * 3


async def test_json_is_a_frame_a_line_and_nothing_else(agent: str, tmp_path: Path) -> None:
    async with provider(hello) as upstream, local_models(upstream, tmp_path) as url:
        ran = await run(agent, "--server", f"{url}/", "--key", KEY, "--json")
    assert (ran.code, ran.err) == (0, "")
    frames = [json.loads(line) for line in ran.out.splitlines()]
    assert all(list(frame) == ["id", "event", "data"] for frame in frames)
    assert [frame["id"] for frame in frames] == list(range(1, len(frames) + 1))
    assert frames[0]["data"]["job_id"].startswith("agent-"), "an agent_config goes to the agent route"
    assert [frame["data"]["content"] for frame in frames if frame["event"] == "chunk"] == ["A says ", "hello"]
    assert all("output" not in frame["data"] for frame in frames if frame["event"] == "chunk")
    assert frames[-1]["event"] == "end"


async def test_the_payload_comes_from_standard_input_and_the_task_from_the_command_line(tmp_path: Path) -> None:
    payload = b"\xef\xbb\xbf" + json.dumps({**AGENT, "stream_options": {"coalesce_ms": 10}}).encode()
    async with provider(hello) as upstream, local_models(upstream, tmp_path) as url:
        ran = await run("-", "--task", "another task", "--server", url, "--key", KEY, stdin=payload)
    assert ran.code == 0
    assert upstream.exchanges[0].body["messages"][-1]["content"] == "another task"


@pytest.mark.noisy
async def test_a_run_that_fails_exits_1_and_says_why(agent: str, tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.refuse(401, b"{}")

    async with provider(script) as upstream, local_models(upstream, tmp_path) as url:
        ran = await run(agent, "--server", url, "--key", KEY)
    assert ran.code == 1
    assert "(provider_auth)]" in ran.out
    assert ran.err.startswith("[failed (A) · ")


async def test_on_a_terminal_panels_are_drawn_and_the_cursor_comes_back(swarm: str, tmp_path: Path) -> None:
    drawn = anyio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say(f"{exchange.system} says ")
        await drawn.wait()
        await exchange.say("hello")
        await exchange.finish()

    async with (
        provider(script) as upstream,
        local_models(upstream, tmp_path) as url,
        running(swarm, "--server", url, "--key", KEY, on_terminal=True) as ran,
    ):
        await ran.shows("╭─.* A .*╮.*╭─.* B .*╮\x1b\\[0m.*\r\n.* A says .* B says ")
        drawn.set()
        result = await ran.ended(20)
        await ran.shows(r"(?s)\x1b\[\?25h.*success · 30 tokens · \$")
    assert result.code == 0
    assert ran.out.count("\x1b[?25l") == ran.out.count("\x1b[?25h") == 1
    for name in "ABC":
        assert f" {name} says hello " in ran.out


async def test_a_dumb_terminal_gets_plain_text(agent: str, tmp_path: Path) -> None:
    async with (
        provider(hello) as upstream,
        local_models(upstream, tmp_path) as url,
        running(agent, "--server", url, "--key", KEY, on_terminal=True, TERM="dumb") as ran,
    ):
        await ran.shows("success · ")
        assert (await ran.ended()).code == 0
    assert "--- A ---\r\nA says hello" in ran.out
    assert "\x1b" not in ran.out


# --- What is refused ------------------------------------------------------------------------------------------------


_NO_PAYLOADS = [
    (b'{"task":\n  oops}', "standard input, line 2, column 3: "),
    (b"[]", "standard input holds no JSON object"),
    (b'{"task": "\xff"}', "standard input, line 1, column "),
    (b'{"task": NaN}', "standard input, line 1, column 10: "),
]


async def test_a_file_that_is_no_payload_is_a_usage_error(tmp_path: Path) -> None:
    async def is_refused(content: bytes, complaint: str) -> None:
        ran = await run("-", stdin=content)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith(complaint)
        assert "Traceback" not in ran.err

    async with anyio.create_task_group() as tasks:
        for content, complaint in _NO_PAYLOADS:
            tasks.start_soon(is_refused, content, complaint)
        ran = await run(str(tmp_path))
        assert (ran.code, ran.out) == (2, "")
        assert ran.err == f"{tmp_path} cannot be read: Is a directory\n"


_NEITHERS: list[tuple[list[str], str]] = [
    (["purr"], 'There is no file purr. If it is a task and no file, write: --task "purr"'),
    (["my team.json"], "There is no file my team.json. If it is a task"),
    (["x" * 300], "There is no file xxx"),
    (["Why do cats purr?", "--task", "Do they?"], "two tasks are one too many"),
    ([], "Say what to run"),
]


async def test_what_is_neither_a_file_nor_words_is_told_how_it_could_be_read() -> None:
    async def is_refused(arguments: list[str], complaint: str) -> None:
        ran = await run(*arguments)
        assert (ran.code, ran.out) == (2, "")
        assert complaint in ran.err

    async with anyio.create_task_group() as tasks:
        for arguments, complaint in _NEITHERS:
            tasks.start_soon(is_refused, arguments, complaint)


async def test_an_address_that_is_none_is_a_usage_error(swarm: str) -> None:
    async def is_refused(server: str) -> None:
        ran = await run(swarm, "--server", server)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("--server")
        assert "Traceback" not in ran.err

    async with anyio.create_task_group() as tasks:
        for server in ("localhost:8000", "ftp://x", "http://", "http://x:y"):
            tasks.start_soon(is_refused, server)


async def test_a_key_that_no_header_can_carry_is_a_usage_error_and_is_not_repeated(swarm: str) -> None:
    ran = await run(swarm, "--server", "http://127.0.0.1:1", "--key", "schlüssel")
    assert (ran.code, ran.out) == (2, "")
    assert "schl" not in ran.err


async def test_a_refusal_is_told_on_stderr() -> None:
    async def is_told(payload: dict[str, Any], *words: str, key: str = KEY) -> None:
        ran = await run("-", "--server", url, "--key", key, stdin=json.dumps(payload).encode())
        assert (ran.code, ran.out) == (1, "")
        for its in words:
            assert its in ran.err

    async with serving(default_model="demo/swarm") as url, anyio.create_task_group() as tasks:
        tasks.start_soon(is_told, {**SWARM, "rearrange_flow": ","}, "(column 1) (400 Bad Request, flow_syntax)")
        tasks.start_soon(is_told, {**SWARM, "agents": 5, "timeout": "long"}, "(422 Unprocessable", "\n  agents: ")
        await is_told(
            SWARM, "invalid_api_key", "\nGive your key with --key, or in the variable SWARMSTREAM_KEY.\n", key="x"
        )


async def test_what_is_no_server_of_ours_is_named_and_no_redirect_is_followed(swarm: str) -> None:
    asked: list[str] = []

    def redirect(_: Request) -> Response:
        return RedirectResponse("/elsewhere")

    def elsewhere(request: Request) -> Response:
        asked.append(request.headers.get("x-api-key", ""))
        return Response("")

    async with _serving(
        Route("/v1/swarm/completions", redirect, methods=["POST"]), Route("/elsewhere", elsewhere, methods=["POST"])
    ) as url:
        ran = await run(swarm, "--server", url, "--key", KEY)
    assert (ran.code, ran.out) == (1, "")
    assert "307 Temporary Redirect" in ran.err
    assert not asked

    def page(_: Request) -> Response:
        return Response("<html>", media_type="text/html")

    async with _serving(Route("/v1/swarm/completions", page, methods=["POST"])) as url:
        ran = await run(swarm, "--server", url)
    assert (ran.code, ran.out) == (1, "")
    assert "no stream of swarmstream's" in ran.err


async def test_a_server_that_is_not_there_is_named(swarm: str) -> None:
    ran = await run(swarm, "--server", "http://127.0.0.1:1")
    assert (ran.code, ran.out) == (1, "")
    assert "cannot reach http://127.0.0.1:1" in ran.err


# --- The stream -----------------------------------------------------------------------------------------------------


async def test_lines_may_be_huge_come_in_pieces_and_after_heartbeats(swarm: str) -> None:
    text = "x" * 5_000_000

    async def body() -> AsyncIterator[bytes]:
        content = b"  " + line(METADATA) + b" " + line(START)
        chunk = {"id": 3, "event": "chunk", "data": {"agent": "A", "turn": 1, "content": text, "t": 1}}
        content += b" " * 3 + line(chunk) + line(USAGE) + line(ended("success"))
        for first in range(0, len(content), 100_001):
            yield content[first : first + 100_001]

    async with scripted_server(body) as url:
        ran = await run(swarm, "--server", url)
    assert ran.code == 0
    assert ran.out.count("x") == len(text)


async def test_a_stream_that_breaks_off_exits_1_and_says_so(swarm: str) -> None:
    async def breaks_off(rest: bytes) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield line(METADATA) + line(START) + rest

        async with scripted_server(body) as url:
            ran = await run(swarm, "--server", url)
        assert ran.code == 1
        assert "broke off" in ran.err or "no frame" in ran.err
        assert "Traceback" not in ran.err
        assert ran.err.startswith("[unfinished · ")

    async with anyio.create_task_group() as tasks:
        for rest in (b"", b'{"id":3,"event":"chu', b"garbage\n", b"[]\n", b'{"event":5,"data":{}}\n'):
            tasks.start_soon(breaks_off, rest)


@pytest.mark.noisy
async def test_a_connection_that_is_reset_exits_1_and_says_so(agent: str) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open("application/x-ndjson")
        await exchange.chunk(line(METADATA))
        exchange.reset()

    async with provider(script) as upstream:
        ran = await run(agent, "--server", upstream.base_url.removesuffix("/v1"))
    assert ran.code == 1
    assert "the connection broke off" in ran.err


async def test_a_reader_that_has_enough_ends_the_command_quietly(agent: str, tmp_path: Path) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.open()
        while True:
            await exchange.say("line\n")
            await anyio.lowlevel.checkpoint()

    for option in ("--verbose", "--json"):
        async with (
            provider(endless) as upstream,
            local_models(upstream, tmp_path, disconnect_grace_seconds=0.0) as url,
        ):
            shell = (
                f'"{COMMAND}" run "{agent}" --server {url} --key {KEY} {option} | head -n 3; echo "${{PIPESTATUS[0]}}"'
            )
            process = await asyncio.create_subprocess_exec(
                "bash",
                "-c",
                shell,
                env={"PATH": "/usr/bin:/bin"},  # with PYTHONUNBUFFERED nothing is left to be written at exit
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
            )
            with anyio.fail_after(30):
                out, err = await process.communicate()
                await upstream.idle()
        assert out.splitlines()[3] == b"141"
        assert err == b""


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_terminal", [False, True], ids=["pipe", "terminal"])
async def test_ctrl_c_cancels_the_run_and_tells_the_usage_so_far(on_terminal: bool, agent: str, tmp_path: Path) -> None:
    async with (
        provider(one_word_and_silence) as upstream,
        local_models(upstream, tmp_path, disconnect_grace_seconds=60.0) as url,
        running(agent, "--server", url, "--key", KEY, on_terminal=on_terminal) as ran,
    ):
        await ran.shows("word")
        if on_terminal:
            ran.press(b"\x03")
        else:
            ran.process.send_signal(signal.SIGINT)
        result = await ran.ended()
        with anyio.fail_after(30):
            await upstream.exchanges[0].closed_by_client.wait()
            await ran.shows(r"cancelled( \(A\))? · ~?\d+ tokens? · ", "out" if on_terminal else "err")
    assert result.code == 130
    assert ran.out.count("\x1b[?25l") == ran.out.count("\x1b[?25h") == int(on_terminal)
    assert "Left before" not in ran.out + ran.err
    assert "Traceback" not in ran.out + ran.err


async def test_a_server_that_can_cancel_is_asked_to_and_its_last_frames_are_shown(swarm: str) -> None:
    cancelled = anyio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield line(METADATA) + line(START)
        await cancelled.wait()
        yield line(USAGE) + line(ended("cancelled"))

    def on_cancel() -> Response:
        cancelled.set()
        return Response("{}")

    async with scripted_server(body, on_cancel) as url, running(swarm, "--server", url, "--json") as ran:
        await ran.shows("agent_start")
        ran.process.send_signal(signal.SIGINT)
        await ran.shows('"end"')
        assert (await ran.ended()).code == 130
    assert "Cancelling the run" in ran.err
    assert "Left before" not in ran.err


async def test_a_server_that_cannot_cancel_is_left_at_once(swarm: str) -> None:
    gone = anyio.Event()

    async def body() -> AsyncIterator[bytes]:
        try:
            yield line(METADATA) + line(START)
            await anyio.sleep_forever()
        finally:
            gone.set()

    async with scripted_server(body) as url, running(swarm, "--server", url, "--json") as ran:
        await ran.shows("agent_start")
        ran.process.send_signal(signal.SIGTERM)
        result = await ran.ended(3)
        with anyio.fail_after(30):
            await gone.wait()
    assert result.code == 143
    assert "Left before the run's end." in ran.err


async def test_a_second_ctrl_c_leaves_at_once(swarm: str) -> None:
    asked = anyio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield line(METADATA) + line(START)
        await anyio.sleep_forever()

    def on_cancel() -> Response:
        asked.set()
        return Response("{}")

    async with scripted_server(body, on_cancel) as url, running(swarm, "--server", url, "--json") as ran:
        await ran.shows("agent_start")
        ran.process.send_signal(signal.SIGINT)
        with anyio.fail_after(30):
            await asked.wait()
        ran.process.send_signal(signal.SIGINT)
        assert (await ran.ended(3)).code == 130


async def test_ctrl_c_before_the_first_frame_leaves_at_once(swarm: str) -> None:
    asked, left = anyio.Event(), anyio.Event()

    async def silent(_: Request) -> Response:
        asked.set()
        await left.wait()
        return Response()

    async with (
        _serving(Route("/v1/swarm/completions", silent, methods=["POST"])) as url,
        running(swarm, "--server", url) as ran,
    ):
        with anyio.fail_after(30):
            await asked.wait()
        ran.process.send_signal(signal.SIGINT)
        assert (await ran.ended(3)).code == 130
        left.set()
    assert ran.out == ""
    assert "Traceback" not in ran.err


# --- A run in this process ------------------------------------------------------------------------------------------


def own_provider(upstream: Upstream) -> dict[str, Any]:
    return {"OPENAI_API_KEY": OPENAI_KEY, "OPENAI_BASE_URL": upstream.base_url}


async def test_without_a_server_the_swarm_runs_in_this_process(swarm: str) -> None:
    async with provider(hello) as upstream:
        ran = await run(swarm, "--json", **own_provider(upstream))
    assert (ran.code, ran.err) == (0, "")
    frames = [json.loads(line) for line in ran.out.splitlines()]
    assert [frame["id"] for frame in frames] == list(range(1, len(frames) + 1))
    assert [output["content"] for output in frames[-1]["data"]["output"]] == [f"{name} says hello" for name in "ABC"]
    assert all("output" not in frame["data"] for frame in frames if frame["event"] == "chunk")


async def test_the_demo_model_needs_neither_a_server_nor_a_key() -> None:
    payload: dict[str, Any] = {**AGENT, "agent_config": {**AGENT["agent_config"], "max_tokens": 12}}
    ran = await run("-", stdin=json.dumps(payload).encode(), SWARMSTREAM_DEFAULT_MODEL="demo/swarm")
    assert ran.code == 0
    assert ran.out.startswith("--- A ---\nThis is swarmstream's built-in demo model")


async def test_what_cannot_be_run_in_this_process_is_refused_in_the_same_words(agent: str) -> None:
    ran = await run(agent)
    assert (ran.code, ran.out) == (1, "")
    assert "OPENAI_API_KEY" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("on_terminal", [False, True], ids=["pipe", "terminal"])
async def test_ctrl_c_cancels_a_run_in_this_process_up_to_its_end(on_terminal: bool, swarm: str) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("word\n")
        await anyio.sleep_forever()

    async with (
        provider(script) as upstream,
        running(swarm, "--verbose", on_terminal=on_terminal, **own_provider(upstream)) as ran,
    ):
        await ran.shows("word(?s:.*)word")
        if on_terminal:
            ran.press(b"\x03")
        else:
            ran.process.send_signal(signal.SIGINT)
        result = await ran.ended()
        await ran.shows(r"cancelled( \(.*\))? · ~?\d+ tokens? · ", "out" if on_terminal else "err")
        with anyio.fail_after(30):
            await upstream.idle()
    assert result.code == 130
    assert all(exchange.closed_by_client.is_set() for exchange in upstream.exchanges)
    assert ran.out.count("word") >= 2, "what had been said is shown"
    assert ran.out.count("\x1b[?25l") == ran.out.count("\x1b[?25h") == int(on_terminal)
    assert "Traceback" not in ran.out + ran.err


class ScriptedFrames:
    """Frames of a run in this process, which waits in the middle until it is cancelled."""

    def __init__(self, *, begins: bool = True, obeys: bool = True) -> None:
        self.cancelled = anyio.Event()
        self.closed = False
        self._begins = begins
        self._obeys = obeys
        self._frames = self._all()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        return await anext(self._frames)

    async def cancel(self) -> None:
        self.cancelled.set()

    async def aclose(self) -> None:
        await self._frames.aclose()
        self.closed = True

    async def _all(self) -> AsyncGenerator[dict[str, Any]]:
        if not self._begins:
            signal.raise_signal(signal.SIGINT)
            await anyio.sleep_forever()
        yield METADATA
        await self.cancelled.wait()
        if not self._obeys:
            await anyio.sleep_forever()
        yield USAGE
        yield ended("cancelled")
        raise AssertionError("nothing is asked for after the end")


async def test_a_signal_cancels_the_frames_and_those_up_to_the_end_are_shown() -> None:
    frames, shown = ScriptedFrames(), list[str]()

    def show(frame: Any) -> None:
        shown.append(frame["event"])
        if frame["event"] == "metadata":
            signal.raise_signal(signal.SIGINT)

    with anyio.fail_after(30):
        watched = await watch(frames, show)
    assert shown == ["metadata", "usage", "end"]
    assert (watched.status, watched.stopped_by) == ("cancelled", signal.SIGINT)
    assert frames.closed


async def test_a_second_signal_does_not_wait_for_frames() -> None:
    frames = ScriptedFrames(obeys=False)

    async def again() -> None:
        await frames.cancelled.wait()
        signal.raise_signal(signal.SIGTERM)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(again)
            watched = await watch(frames, lambda _: signal.raise_signal(signal.SIGINT))
            assert (watched.status, watched.stopped_by) == (None, signal.SIGINT)
    assert frames.closed


async def test_a_signal_before_the_first_frame_waits_for_none() -> None:
    frames = ScriptedFrames(begins=False)
    with anyio.fail_after(30):
        watched = await watch(frames, lambda _: None)
    assert (watched.status, watched.stopped_by) == (None, signal.SIGINT)
    assert frames.closed
    assert not frames.cancelled.is_set()


def test_who_draws_nothing_does_not_pay_for_rich() -> None:
    code = "import swarmstream.cli.program, sys; sys.exit('rich.live' in sys.modules or 'httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
