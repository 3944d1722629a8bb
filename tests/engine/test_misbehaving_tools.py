"""Tools that fail as badly as code can: they neither stop the server nor use it up."""

import logging
import threading
from pathlib import Path

import anyio
import pytest

from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolError
from swarmstream.tools.functions import tool
from swarmstream.tools.threads import MAX_THREADS
from tests.clients.runs import named, run
from tests.fakes.answers import call, calls, results, says
from tests.fakes.clock import DrivenClock
from tests.fakes.upstream import Exchange

pytestmark = pytest.mark.anyio


class Panic(BaseException):
    """As a library in another language raises it."""


def panic(secret: str) -> str:
    """Fail as badly as can be."""
    raise Panic(secret)


async def interrupt(secret: str) -> str:
    """Fail like Ctrl-C."""
    raise KeyboardInterrupt(secret)


def _nowhere(name: str, data: object) -> None:
    pass


@pytest.mark.noisy
@pytest.mark.parametrize("name", ["panic", "interrupt"])
async def test_a_tool_cannot_stop_the_server_and_its_message_is_not_logged(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(exchange: Exchange) -> None:
        if results(exchange):
            await says(exchange, "went on")
        else:
            await calls(exchange, call(name, {"secret": "my number is 078-05-1120"}))

    with caplog.at_level(logging.INFO):
        settings = {"tools": (f"{__name__}:{name}",)}
        events, _ = await run(script, tmp_path, {"selected_tools": [name], "max_loops": 2}, settings=settings)
    [ended] = named(events, "tool_end")
    assert ended.data["is_error"]
    assert "078-05-1120" in ended.data["output"], "the model is told"
    assert events[-1].data["status"] == "success"
    assert "078-05-1120" not in caplog.text
    assert f"tool {name} failed" in caplog.text


async def test_abandoned_threads_count_until_they_end() -> None:
    go_on = threading.Event()
    running = 0
    lock = threading.Lock()

    @tool(timeout_seconds=20)
    def hang() -> str:
        """Hang."""
        nonlocal running
        with lock:
            running += 1
        go_on.wait(30)
        return "late"

    async def ask() -> None:
        context = ToolContext(agent="A", turn=1, tool_call_id="1", tool="hang", sink=_nowhere)
        with pytest.raises(ToolError, match="took longer"):
            await hang.call("{}", context, clock)

    clock = DrivenClock()
    with anyio.fail_after(30):
        try:
            for _ in range(2):
                async with anyio.create_task_group() as tasks:
                    for _ in range(MAX_THREADS):
                        tasks.start_soon(ask)
                    while running < MAX_THREADS:  # noqa: ASYNC110  # threads tell by nothing else that they have begun
                        await anyio.sleep(0.005)
                    await clock.advance(20)
            assert running == MAX_THREADS, "the second forty found no thread"
        finally:
            go_on.set()
        context = ToolContext(agent="A", turn=1, tool_call_id="1", tool="hang", sink=_nowhere)
        assert await hang.call("{}", context, clock) == "late", "once they have ended, others may begin"
