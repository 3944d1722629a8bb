"""The arguments, the result and the failures of a tool's call (docs/engine.md, "One turn")."""

import asyncio
import math
import threading
from contextvars import ContextVar
from datetime import date
from typing import Any

import anyio
import anyio.from_thread
import pytest

from swarmstream.tools.base import MAX_ERROR_CHARACTERS, MAX_OUTPUT_BYTES, Tool
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolError
from swarmstream.tools.functions import tool
from tests.fakes.clock import DrivenClock
from tests.tools.functions import Address, Color, Order, Point, Written, call, failure, plus

pytestmark = pytest.mark.anyio


async def test_arguments_arrive_in_the_annotated_types() -> None:
    def function(
        color: Color, point: Point, address: Address, order: Order, day: date, maybe: int | None = None
    ) -> str:
        return repr((color, point, address, order.id, day, maybe))

    arguments = {
        "color": "red",
        "point": {"x": 1},
        "address": {"city": "Ulm"},
        "order": {"id": 7},
        "day": "2026-11-20",
    }
    expected = (Color.RED, Point(1), {"city": "Ulm"}, 7, date(2026, 11, 20), None)
    assert await call(function, arguments) == repr(expected)


async def test_a_whole_float_is_an_integer_as_json_schema_says() -> None:
    assert await call(plus, '{"a": 17.0, "b": 25}') == "42"


@pytest.mark.parametrize("arguments", ["", "  ", "{}"])
async def test_an_empty_text_counts_as_no_arguments(arguments: str) -> None:
    assert await call(lambda_named("nothing"), arguments) == "null"


def lambda_named(name: str) -> Tool:
    return tool(lambda: None, name=name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('{"a": 1', "the arguments are not valid JSON: EOF while parsing an object at line 1 column 7"),
        ("plus(1, 2)", "the arguments are not valid JSON: expected value at line 1 column 1"),
        ('{"a": NaN, "b": 1}', "the arguments are not valid JSON: expected value at line 1 column 7"),
        ('{"a": "\ud800"}', "the arguments are not valid JSON: half a surrogate pair"),
        ("[1, 2]", "the arguments must be a JSON object with the parameters' names as its keys"),
        ('{"a": 1}', 'the arguments do not fit: "b" is missing'),
        ('{"a": "17", "b": 1}', 'the arguments do not fit: "a": input should be a valid integer'),
        (
            '{"a": true, "b": 1.5}',
            'the arguments do not fit: "a": input should be a valid integer; "b": input should be',
        ),
        ('{"a": 1, "b": 2, "c": 3}', 'the arguments do not fit: there is no parameter "c"'),
        (
            '{"c": 1, "d": 1, "e": 1}',
            'the arguments do not fit: "a" is missing; "b" is missing; there is no parameter "c"; and 2 more',
        ),
    ],
)
async def test_arguments_that_do_not_fit_are_an_error_for_the_model(arguments: str, message: str) -> None:
    assert (await failure(plus, arguments)).startswith(message)


async def test_a_violation_deep_inside_is_named_by_its_path() -> None:
    def function(orders: list[Order]) -> None: ...

    message = await failure(function, {"orders": [{"id": 1}, {"id": "x"}]})
    assert message == 'the arguments do not fit: "orders.1.id": input should be a valid integer'


LONG_NAMES = {"a": 1, "b": 2} | {"z" * length: 1 for length in range(1000, 1010)}


@pytest.mark.parametrize(
    "arguments", [{"z" * 10_000: 1}, "z" * 10_000, {"a": "z" * 10_000, "b": {"z" * 10_000: 1}}, LONG_NAMES]
)
async def test_the_model_s_own_values_are_not_repeated_to_it(arguments: Any) -> None:
    message = await failure(plus, arguments)
    assert message.count("z") <= 200
    assert len(message) <= MAX_ERROR_CHARACTERS


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("as it is: ä\n", "as it is: ä\n"),
        (None, "null"),
        (42, "42"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (Order(id=1), '{"id":1,"tags":[]}'),
        ([Point(1), date(2026, 11, 20), math.nan], '[{"x":1,"y":0},"2026-11-20","NaN"]'),
        ({"error": KeyError("k")}, '{"error":"\'k\'"}'),
        ("half \ud83d, whole \ud83d\ude00", "half \ufffd, whole \U0001f600"),
    ],
)
async def test_a_result_becomes_text(result: Any, text: str) -> None:
    assert await call(tool(lambda: result, name="sync")) == text

    async def function() -> Any:
        return result

    assert await call(function) == text


async def test_an_awaitable_that_a_plain_function_returns_is_awaited() -> None:
    async def later(a: int, b: int) -> int:
        return a + b

    assert await call(tool(lambda: later(1, 2), name="now")) == "3"


@pytest.mark.noisy
async def test_an_exception_becomes_its_type_and_message() -> None:
    def function() -> None:
        raise ValueError("no such customer")

    assert await failure(function) == "function failed: ValueError: no such customer"


@pytest.mark.noisy
@pytest.mark.parametrize("error", [ValueError("x" * 10_000), SystemExit(3), StopIteration(1), TimeoutError("its own")])
async def test_any_exception_of_a_function_ends_only_its_call(error: BaseException) -> None:
    def function() -> None:
        raise error

    message = await failure(function)
    assert message.startswith("function failed: ")
    assert len(message) <= MAX_ERROR_CHARACTERS


@pytest.mark.noisy
async def test_an_exception_that_cannot_be_shown_becomes_its_type() -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise ValueError

    async def function() -> None:
        raise Rude

    assert await failure(function) == "function failed: Rude: (no message)"


async def test_a_tool_error_reaches_the_model_as_it_is() -> None:
    def function() -> None:
        raise ToolError("ask for a smaller range")

    assert await failure(function) == "ask for a smaller range"

    def talkative() -> None:
        raise ToolError("\ud800" + "x" * 10_000)

    message = await failure(talkative)
    assert message.startswith("\ufffdx")
    assert len(message) == MAX_ERROR_CHARACTERS


async def test_a_circular_result_is_a_failure() -> None:
    result: list[Any] = []
    result.append(result)
    assert "cannot be written as JSON" in await failure(tool(lambda: result, name="circular"))


async def test_a_function_that_blocks_does_not_block_the_loop() -> None:
    began = anyio.Event()
    may_end = threading.Event()

    def function() -> bool:
        anyio.from_thread.run_sync(began.set)
        return may_end.wait(5)

    async with anyio.create_task_group() as tasks:
        answer = tasks.create_task(call(function))
        await began.wait()
        may_end.set()  # which it waits for, in the loop's own thread
        assert await answer == "true"


REQUEST: ContextVar[str] = ContextVar("REQUEST", default="none")


async def test_a_function_in_a_thread_sees_the_caller_s_context_variables() -> None:
    token = REQUEST.set("mine")
    try:
        assert await call(tool(lambda: REQUEST.get(), name="get")) == "mine"
    finally:
        REQUEST.reset(token)


async def test_a_call_that_takes_too_long_is_given_up() -> None:
    time = DrivenClock()

    async def function() -> None:
        await anyio.sleep_forever()

    async def ask() -> None:
        with pytest.raises(ToolError, match=r"function took longer than 12\.5 s and was given up"):
            await call(tool(function, timeout_seconds=12.5), clock=time)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await time.waiting(12.5)
        await time.advance(12.5)


async def test_a_thread_that_takes_too_long_runs_on_and_can_write_no_more() -> None:
    may_go_on = threading.Event()
    time = DrivenClock()
    began, ended = anyio.Event(), anyio.Event()
    outcome: list[str] = []
    written: Written = []

    def function(ctx: ToolContext) -> None:
        try:
            anyio.from_thread.run_sync(began.set)
            may_go_on.wait(30)
            anyio.from_thread.run(ctx.write_event_to_stream, "late")
        except RuntimeError as error:
            outcome.append(str(error))
        finally:
            anyio.from_thread.run_sync(ended.set)

    async def ask() -> None:
        with pytest.raises(ToolError, match="took longer than"):
            await call(tool(function, timeout_seconds=20), written=written, clock=time)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await began.wait()
        await time.advance(20)
    may_go_on.set()
    with anyio.fail_after(30):
        await ended.wait()
    assert (outcome, written) == (["the call call_1 of function is over"], [])


async def test_cancellation_passes_and_reaches_an_async_function() -> None:
    began = anyio.Event()
    seen: list[str] = []

    async def function() -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("cancelled")

    async with anyio.create_task_group() as tasks:
        tasks.create_task(call(function))
        await began.wait()
        tasks.cancel_scope.cancel()
    assert seen == ["cancelled"]


async def test_a_function_that_awaits_something_cancelled_has_failed() -> None:
    async def function() -> None:
        task = asyncio.create_task(anyio.sleep_forever())
        task.cancel()
        await task

    assert await failure(function) == "the tool was cancelled from within"


@pytest.mark.parametrize("unit", ["a", "ä", "€", "\U0001f600"])
async def test_a_long_output_is_cut_between_characters_with_a_notice(unit: str) -> None:
    fits = unit * (MAX_OUTPUT_BYTES // len(unit.encode()))
    assert await call(tool(lambda: fits, name="fits")) == fits
    output = await call(tool(lambda: fits + "aaaa", name="more"))
    kept, notice = output.split("\n")
    assert kept == unit * len(kept)
    assert MAX_OUTPUT_BYTES - 4 < len(output.encode()) <= MAX_OUTPUT_BYTES
    assert notice == f"[cut: these are the first 32 kB of {len(fits.encode()) + 4:,} bytes]"


async def test_a_plain_function_that_runs_a_loop_of_its_own_may_fail_there() -> None:
    def function() -> str:
        """Run something that is cancelled."""

        async def cancelled() -> None:
            raise asyncio.CancelledError

        asyncio.run(cancelled())
        return "never"

    assert await failure(function) == "the tool was cancelled from within"
