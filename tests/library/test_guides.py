"""The code samples of the guides (tests/library/guide_samples), run as they stand in an interpreter of their own.

Their provider is on this machine. What it holds back until the test has seen the tokens before shows that they are
printed while it is still sending.
"""

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import connect

from tests.fakes.upstream import Exchange, Script, Upstream, provider

pytestmark = pytest.mark.anyio

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


def test_every_sample_is_run_here() -> None:
    played = set(re.findall(r'(?:playing\(|\["?|, )"([a-z_]+)"', Path(__file__).read_text()))
    assert {path.stem for path in SAMPLES.glob("*.py")} <= played


# --- Agent Streaming ------------------------------------------------------------------------------------------------


async def test_agent_streaming_sync_prints_the_tool_call_turn_and_the_synthesis_as_they_come(tmp_path: Path) -> None:
    called, summed_up = anyio.Event(), anyio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        if not tool_results(exchange):
            await exchange.say("Let me ", "add. ")
            await called.wait()
            await call(exchange, "add", a=17, b=25)
        else:
            await exchange.say("It is ")
            await summed_up.wait()
            await exchange.say(tool_results(exchange)[0], ".")
            await exchange.finish()

    async with playing("agent_sync", script, tmp_path) as play:
        await play.shows("Let me add. ")
        called.set()
        await play.shows("It is ")
        summed_up.set()
        assert await play.ended() == "Let me add. It is 42."
    first, second = play.upstream.exchanges
    assert [tool["function"]["name"] for tool in first.body["tools"]] == ["add"]
    assert tool_results(second) == ["42"], "once"
    assert first.body["model"] == "gpt-4.1-mini"


async def test_agent_streaming_async_prints_as_tokens_come(tmp_path: Path) -> None:
    async with playing("agent_async", script := Held(), tmp_path) as play:
        await play.shows("alpha ")
        script.go.set()
        assert await play.ended() == HELLO


async def test_agent_streaming_auto_prints_plan_execution_and_summary_as_they_come(tmp_path: Path) -> None:
    planned, worked, summed_up = anyio.Event(), anyio.Event(), anyio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        offered = {tool["function"]["name"] for tool in exchange.body.get("tools", ())}
        if "create_plan" in offered:
            await exchange.say("I plan. ")
            await planned.wait()
            await call(exchange, "create_plan", subtasks=[{"id": "s1", "title": "add them", "depends_on": []}])
        elif "add" in offered and len(tool_results(exchange)) < 2:
            await exchange.say("I add. ")
            await worked.wait()
            await call(exchange, "add", a=99, b=1)
        elif "subtask_done" in offered:
            await call(exchange, "subtask_done", result=tool_results(exchange)[-1])
        else:
            await exchange.say("It is ")
            await summed_up.wait()
            await exchange.say(f"{tool_results(exchange)[1]}.")
            await exchange.finish()

    async with playing("agent_auto", script, tmp_path) as play:
        for words, go_on in (("I plan. ", planned), ("I add. ", worked), ("It is ", summed_up)):
            await play.shows(words)
            go_on.set()
        assert await play.ended() == "I plan. I add. It is 100."
    assert len(play.upstream.exchanges) == 4


# --- SequentialWorkflow Streaming -----------------------------------------------------------------------------------


class Pipeline:
    """Three agents told apart by their prompts, each held back at its second word."""

    def __init__(self) -> None:
        self.go = {name: anyio.Event() for name in ("Research", "Take the brief", "Take the analysis")}
        self.prompts: list[list[str]] = []

    async def __call__(self, exchange: Exchange) -> None:
        who = next(name for name in self.go if exchange.system.startswith(name))
        self.prompts.append([message["content"] for message in exchange.body["messages"][1:]])
        await exchange.open()
        await exchange.say(f"<{who} ")
        await self.go[who].wait()
        await exchange.say("ends>")
        await exchange.finish()


@pytest.mark.parametrize("sample", ["sequential_sync", "sequential_async"])
async def test_sequential_streaming_prints_agent_after_agent_as_they_speak(sample: str, tmp_path: Path) -> None:
    task = "the rise of solid-state batteries"
    async with playing(sample, script := Pipeline(), tmp_path) as play:
        for name, go in script.go.items():
            await play.shows(f"<{name} ")
            go.set()
        printed = await play.ended()
    said = [f"<{name} ends>" for name in script.go]
    assert printed == "".join(said)
    assert script.prompts == [
        [task],
        [task, f"Researcher: {said[0]}"],
        [task, f"Researcher: {said[0]}", f"Analyst: {said[1]}"],
    ]


async def test_sequential_streaming_with_events_tells_when_agents_start_and_end(tmp_path: Path) -> None:
    async with playing("sequential_events", script := Pipeline(), tmp_path) as play:
        for name, go in script.go.items():
            await play.shows(f" starting ---\n<{name} ")
            go.set()
        printed = await play.ended()
    assert printed == "".join(
        f"\n--- {agent} starting ---\n<{name} ends>\n--- {agent} finished ({len(name) + 7} chars) ---\n"
        for agent, name in zip(("Researcher", "Analyst", "Writer"), script.go, strict=True)
    )


# --- Streaming Responses --------------------------------------------------------------------------------------------


async def test_basic_streaming_draws_the_answer_as_it_comes_and_returns_it(tmp_path: Path) -> None:
    async with playing("basic", script := Held(), tmp_path) as play:
        await play.shows("--- Streaming-Agent ---\nalpha ")
        script.go.set()
        printed = await play.ended()
    assert re.fullmatch(
        rf"--- Streaming-Agent ---\n{HELLO}\n\n\[success · 10 tokens · \S+ · \d\.\d s\]\n{HELLO}\n", printed
    )


async def test_a_callback_gets_each_token_and_nothing_else_is_printed(tmp_path: Path) -> None:
    async with playing("callback", script := Held(), tmp_path) as play:
        await play.shows("alpha ")
        script.go.set()
        assert await play.ended() == HELLO


async def test_detailed_streaming_has_usage_and_finish_reason_once_at_the_end(tmp_path: Path) -> None:
    async with playing("detailed", script := Held(), tmp_path) as play:
        await play.shows("alpha ")
        script.go.set()
        printed = await play.ended()
    words, used, finished, rest = re.split(r"\n\n|\n", printed)
    assert (words, finished, rest) == (HELLO, "Finished: stop", "")
    assert used.startswith("Tokens used: {'input_tokens': 7, 'output_tokens': 3, 'total_tokens': 10,")
    assert "None" not in printed


async def test_silent_streaming_prints_nothing_but_what_the_program_does(tmp_path: Path) -> None:
    async with playing("silent", hello, tmp_path) as play:
        assert await play.ended() == f"\n=== Final Response ===\n{HELLO}\n"


async def test_a_custom_panel_is_drawn_with_each_token(tmp_path: Path) -> None:
    async with playing("custom_panel", script := Held(), tmp_path) as play:
        await play.shows("│ alpha  ")
        assert "🤖 Agent Thinking..." in play.out
        script.go.set()
        printed = await play.ended()
    assert printed.count("🤖") == 2
    assert f"│ {HELLO} " in printed


ANALYSTS = ("Market-Researcher", "Financial-Analyst", "Technical-Analyst")


async def test_the_dashboard_of_a_concurrent_workflow_shows_all_agents_at_once(tmp_path: Path) -> None:
    script = Held()
    async with playing("concurrent_dashboard", script, tmp_path, on_terminal=True) as play:
        with anyio.fail_after(30):
            await play.upstream.asked(3)
        for name in ANALYSTS:
            await play.shows(f" {name} ")
        await play.shows(" alpha ")
        script.go.set()
        await play.ended()
        await play.shows("[{'role': 'Market-Researcher'")
    assert play.out.index("market-analysis-workflow") < play.out.index(" Market-Researcher ")


async def test_the_dashboard_is_plain_text_where_there_is_no_terminal(tmp_path: Path) -> None:
    script = Held("alpha\n")
    async with playing("concurrent_dashboard", script, tmp_path) as play:
        for name in ANALYSTS:
            await play.shows(f"{name}: alpha\n")
        script.go.set()
        printed = await play.ended()
    assert "\x1b" not in printed
    result = str([{"role": name, "content": "alpha\nomega"} for name in ANALYSTS])
    assert printed.endswith(f"\n{result}\n")


async def test_a_sequential_workflow_draws_each_agent_in_its_turn(tmp_path: Path) -> None:
    async with playing("sequential_run", script := Held(), tmp_path) as play:
        await play.shows("--- Researcher ---\nalpha ")
        assert "Writer" not in play.out
        script.go.set()
        assert f"{HELLO}\n\n--- Writer ---\n{HELLO}\n" in await play.ended()


async def test_an_interactive_agent_without_a_terminal_asks_nobody(tmp_path: Path) -> None:
    async with playing("configuration", hello, tmp_path) as play:
        assert await play.ended() == HELLO
    assert len(play.upstream.exchanges) == 1


async def test_an_interactive_agent_asks_for_the_next_task_and_remembers_the_last(tmp_path: Path) -> None:
    async with playing("configuration", hello, tmp_path, on_terminal=True) as play:
        await play.shows(f"{HELLO}You: ")
        play.type("and data?\n")
        await play.shows(f"and data?\r\n{HELLO}You: ")
        play.type("exit\n")
        await play.ended()
    assert [message["content"] for message in play.upstream.exchanges[1].body["messages"]] == [
        *("Analyze data", HELLO, "and data?")
    ]


async def test_websocket_clients_get_tokens_as_they_come(tmp_path: Path) -> None:
    """Repaired: `import json` was missing; a handler takes one argument; the synchronous `run` held up the very loop
    that sends (now `await agent.arun`); `serve` takes a running loop, which then has to run on; the port is a free one,
    and printed."""
    async with playing("websocket", script := Held(), tmp_path) as play:
        await play.shows("\n")
        host, port = re.findall(r"[\w.:]+", play.out)
        with anyio.fail_after(30):
            async with connect(f"ws://{f'[{host}]' if ':' in host else host}:{port}", proxy=None) as websocket:
                assert json.loads(await websocket.recv()) == {"type": "token", "content": "alpha "}
                script.go.set()
                messages = [json.loads(message) async for message in websocket]
    assert messages == [{"type": "token", "content": "omega"}, {"type": "complete", "content": HELLO}]


async def test_a_progress_bar_advances_with_each_token(tmp_path: Path) -> None:
    async with playing("progress_bar", hello, tmp_path) as play:
        printed = await play.ended()
    assert printed.startswith("Generate comprehensive report")
    assert printed.rstrip().endswith(" 2%")


async def test_tokens_are_logged_to_a_file_as_they_come(tmp_path: Path) -> None:
    log = tmp_path / "agent_stream.log"
    async with playing("file_logging", script := Held(), tmp_path) as play:
        with anyio.fail_after(30):
            await play.upstream.asked(1)
        script.go.set()
        assert await play.ended() == "Full response logged to: agent_stream.log\n"
    assert re.fullmatch(r"\[[-\d]+ [:\d]+\] alpha \[[-\d]+ [:\d]+\] omega", log.read_text())


async def test_buffered_tokens_are_printed_when_the_buffer_is_full(tmp_path: Path) -> None:
    """Repaired: the import was missing. What is left in the buffer at the end is not printed: the sample's own way."""
    go = anyio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say(*(f"{number} " for number in range(30)))
        await go.wait()
        await exchange.say(*(f"{number} " for number in range(30, 45)))
        await exchange.finish()

    async with playing("buffering", script, tmp_path) as play:
        await play.shows(" 19 ")
        assert " 20 " not in play.out
        go.set()
        assert await play.ended() == "".join(f"{number} " for number in range(40))


async def test_a_callback_that_handles_its_errors_goes_on_to_the_end(tmp_path: Path) -> None:
    """Repaired: the imports and the logger were missing. The error is a character that this output cannot write."""

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("alpha ", "é ", "omega")
        await exchange.finish()

    async with playing("error_handling", script, tmp_path, PYTHONIOENCODING="ascii") as play:
        with anyio.fail_after(30):
            assert await play.process.wait() == 0
        await play.shows(HELLO)
    assert play.out == HELLO
    assert play.err.startswith("Streaming error: 'ascii' codec can't encode character")


async def test_a_callback_that_takes_its_time_gets_every_token(tmp_path: Path) -> None:
    """Repaired: the import of Agent was missing."""
    async with playing("rate_limiting", script := Held(), tmp_path) as play:
        await play.shows("alpha ")
        script.go.set()
        assert await play.ended() == HELLO


@pytest.fixture(scope="module", autouse=True)
async def troubleshooting(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Play]:
    """Begun before the first test: this sample imports litellm, which takes a processor seconds."""
    folder = tmp_path_factory.mktemp("troubleshooting")
    async with playing("troubleshooting", hello, folder, LITELLM_LOCAL_MODEL_COST_MAP="True") as play:
        yield play


async def test_an_agents_model_says_that_it_streams(troubleshooting: Play) -> None:
    """Repaired: the agent that the sample asks about, and a run of the callback that it ends with."""
    await troubleshooting.shows(HELLO)
    assert troubleshooting.out == f"Model supports streaming\n{HELLO}"


# --- Streaming events -----------------------------------------------------------------------------------------------


class Sounding:
    """An agent that calls its tool, then speaks; and the next one, which may be held back."""

    def __init__(self) -> None:
        self.go = anyio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.open()
        if exchange.system == "one" and not tool_results(exchange):
            await call(exchange, "measure", depth=3)
            return
        await exchange.say(f"{exchange.system} ")
        if exchange.system == "two":
            await self.go.wait()
        await exchange.say("ends")
        await exchange.finish()


def lines_of(printed: str, who: str) -> list[str]:
    return [line.removeprefix(f"{who}: ") for line in printed.splitlines() if line.startswith(f"{who}: ")]


async def test_what_a_step_writes_reaches_every_listener_while_the_run_goes_on(tmp_path: Path) -> None:
    async with playing("events_from_within", script := Sounding(), tmp_path) as play:
        await play.shows("left: two ")
        await play.shows("right: two ")
        script.go.set()
        printed = await play.ended()
    for who in ("left", "right"):
        assert lines_of(printed, who) == ["measuring is happening", "one ", "ends", "two ", "ends", "success"]
    assert "Final result two ends\n" in printed
    assert tool_results(play.upstream.exchanges[1]) == ["3 fathoms"]


@pytest.mark.parametrize(
    ("how", "told", "status"),
    [("hurry", "timed out after 0.2 s: One\n", "timed_out"), ("cancel", "was cancelled\n", "cancelled")],
)
async def test_an_abnormal_end_reaches_every_listener(how: str, told: str, status: str, tmp_path: Path) -> None:
    async with playing("events_from_within", Held(), tmp_path, how) as play:
        printed = await play.ended()
    assert told in printed
    for who in ("left", "right"):
        assert lines_of(printed, who)[-1] == status


async def test_a_step_that_fails_for_good_is_named_with_its_attempts(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.refuse(503, b"{}", **{"retry-after": "0"})

    async with playing("events_from_within", script, tmp_path) as play:
        await play.shows("One failed after 3 attempts: One: the provider")
        await play.shows("left: failed")
        await play.shows("right: failed")
