"""The guide to streaming responses: callbacks, panels, files, web sockets."""

import json
import re
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest
from websockets.asyncio.client import connect

from tests.fakes.upstream import Exchange
from tests.library.play import HELLO, Held, Play, hello, playing

pytestmark = pytest.mark.anyio


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
    text, used, finished, rest = re.split(r"\n\n|\n", printed)
    assert (text, finished, rest) == (HELLO, "Finished: stop", "")
    assert used.startswith("Tokens used: {'input_tokens': 7, 'output_tokens': 3, 'total_tokens': 10,")
    assert "None" not in printed


async def test_silent_streaming_prints_only_the_programs_own_output(tmp_path: Path) -> None:
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


async def test_an_interactive_agent_without_a_terminal_does_not_prompt(tmp_path: Path) -> None:
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


async def test_an_agents_model_supports_streaming(troubleshooting: Play) -> None:
    """Repaired: the agent that the sample asks about, and a run of the callback that it ends with."""
    await troubleshooting.shows(HELLO)
    assert troubleshooting.out == f"Model supports streaming\n{HELLO}"
