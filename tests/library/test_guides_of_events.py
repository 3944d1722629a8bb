"""The guide to events: what steps write, and how runs end, reaches every reader."""

from pathlib import Path

import anyio
import pytest

from tests.fakes.upstream import Exchange
from tests.library.play import Held, call, playing, tool_results

pytestmark = pytest.mark.anyio


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


def lines_of(printed: str, side: str) -> list[str]:
    return [line.removeprefix(f"{side}: ") for line in printed.splitlines() if line.startswith(f"{side}: ")]


async def test_custom_events_reach_every_reader_while_the_run_goes_on(tmp_path: Path) -> None:
    async with playing("events_from_within", script := Sounding(), tmp_path) as play:
        await play.shows("left: two ")
        await play.shows("right: two ")
        script.go.set()
        printed = await play.ended()
    for side in ("left", "right"):
        assert lines_of(printed, side) == ["measuring is happening", "one ", "ends", "two ", "ends", "success"]
    assert "Final result two ends\n" in printed
    assert tool_results(play.upstream.exchanges[1]) == ["3 fathoms"]


@pytest.mark.parametrize(
    ("how", "end", "status"),
    [("hurry", "timed out after 0.2 s: One\n", "timed_out"), ("cancel", "was cancelled\n", "cancelled")],
)
async def test_an_abnormal_end_reaches_every_reader(how: str, end: str, status: str, tmp_path: Path) -> None:
    async with playing("events_from_within", Held(), tmp_path, how) as play:
        printed = await play.ended()
    assert end in printed
    for side in ("left", "right"):
        assert lines_of(printed, side)[-1] == status


async def test_a_step_that_fails_for_good_is_named_with_its_attempts(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.refuse(503, b"{}", **{"retry-after": "0"})

    async with playing("events_from_within", script, tmp_path) as play:
        await play.shows("One failed after 3 attempts: One: the provider")
        await play.shows("left: failed")
        await play.shows("right: failed")
