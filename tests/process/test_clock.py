"""One clock for everything that waits: what would hide from tests that drive it is found in the source."""

import ast
import math
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from swarmstream.clock import SYSTEM_CLOCK, sleep, time_limit
from tests.conftest import ROOT
from tests.fakes.clock import DrivenClock

pytestmark = pytest.mark.anyio

APP = ROOT / "app" / "swarmstream"
EXEMPT = {
    "clock.py": "it is the clock",
    "terminal/live_view.py": "a person's terminal is redrawn in a person's time",
    "terminal/watch.py": "a person's terminal is redrawn in a person's time",
    "tools/builtin/offered.py": "the tool `clock` tells a model what time it is in the world",
}
"""Modules that may look elsewhere for the time, with the reason."""

_TELL_OR_WAIT = {
    *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "current_time"),
    *("sleep", "sleep_until", "call_at", "move_on_after", "move_on_at", "fail_after", "fail_at"),
    *("wait_for", "timeout", "timeout_at", "utcnow", "today"),
}
"""By whatever they are asked."""
_WHERE_FROM = {"time", "asyncio", "anyio"}


def uses_of_another_clock(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of whatever tells the time, or waits for it, other than `swarmstream.clock`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module=module) if module in _WHERE_FROM:
                for alias in node.names:
                    if alias.name in _TELL_OR_WAIT:
                        yield node.lineno, alias.name
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if owner in _WHERE_FROM and name in _TELL_OR_WAIT:
                yield node.lineno, f"{owner}.{name}"
            case ast.Attribute(value=ast.Name(id="datetime" | "date"), attr="now" | "utcnow" | "today"):
                yield node.lineno, f"datetime.{node.attr}"
            case ast.Attribute(value=owner, attr="time" | "call_at" | "call_later") if "clock" not in ast.unparse(
                owner
            ):
                yield node.lineno, node.attr
            case ast.Attribute(attr="deadline") | ast.keyword(arg="deadline"):
                yield node.lineno, "deadline"
            case _:
                pass


def modules() -> list[Path]:
    return sorted(APP.rglob("*.py"))


async def test_no_module_tells_the_time_or_waits_but_by_the_clock() -> None:
    found = {
        str(path.relative_to(APP)): list(uses_of_another_clock(path.read_text()))
        for path in modules()
        if str(path.relative_to(APP)) not in EXEMPT
    }
    assert {name: uses for name, uses in found.items() if uses} == {}


async def test_every_exemption_is_needed() -> None:
    assert [name for name in EXEMPT if not list(uses_of_another_clock((APP / name).read_text()))] == []


@pytest.mark.parametrize(
    "line",
    [
        "import time; time.monotonic()",
        "from time import time",
        "from anyio import sleep",
        "anyio.sleep(1)",
        "asyncio.sleep(1)",
        "with anyio.move_on_after(1): pass",
        "with anyio.fail_after(30): pass",
        "anyio.current_time()",
        "CancelScope(shield=True, deadline=1.0)",
        "self._scope.deadline = 1.0",
        "self._loop.time()",
        "asyncio.get_running_loop().call_later(1, f)",
        "loop.call_at(1, f)",
        "asyncio.wait_for(f, 1)",
        "datetime.now(UTC)",
    ],
)
async def test_other_ways_to_tell_the_time_are_recognized(line: str) -> None:
    assert list(uses_of_another_clock(line))


@pytest.mark.parametrize("line", ["self._clock.call_later(1, f)", "clock.now()", "sleep(clock, 1)", "job.timeout"])
async def test_the_clock_itself_is_not_taken_for_another(line: str) -> None:
    assert not list(uses_of_another_clock(line))


async def test_a_sleeper_wakes_when_its_time_is_over_and_not_before() -> None:
    clock = DrivenClock()
    woke: list[float] = []

    async def sleeper(seconds: float) -> None:
        await sleep(clock, seconds)
        woke.append(seconds)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleeper, 2)
        tasks.start_soon(sleeper, 1)
        await clock.waiting(1)
        await clock.advance(0.999)
        assert woke == []
        await clock.advance(0.001)
        assert woke == [1]
        await clock.advance(1)
        assert woke == [1, 2]


async def test_a_cancelled_sleeper_leaves_no_timer_behind() -> None:
    clock = DrivenClock()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleep, clock, 5)
        await clock.waiting(5)
        tasks.cancel_scope.cancel()
    assert clock.pending == []


async def test_a_time_limit_ends_its_block_and_says_so() -> None:
    clock = DrivenClock()
    ended: list[bool] = []

    async def waits() -> None:
        with time_limit(clock, 3) as scope:
            await anyio.sleep_forever()
        ended.append(scope.cancelled_caught)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waits)
        await clock.waiting(3)
        await clock.advance(3)
        assert ended == [True]


async def test_a_block_that_ends_within_its_limit_leaves_no_timer_behind() -> None:
    clock = DrivenClock()
    with time_limit(clock, 3) as scope:
        assert clock.pending == [3]
    assert clock.pending == []
    assert not scope.cancelled_caught


@pytest.mark.parametrize("seconds", [0, -1, -math.inf])
async def test_a_limit_that_is_over_cancels_at_once(seconds: float) -> None:
    with time_limit(SYSTEM_CLOCK, seconds) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_an_infinite_limit_is_none() -> None:
    clock = DrivenClock()
    with time_limit(clock, math.inf):
        assert clock.pending == []


async def test_the_systems_clock_calls_back() -> None:
    called = anyio.Event()
    SYSTEM_CLOCK.call_later(0.001, called.set)
    with anyio.fail_after(30):
        await called.wait()
