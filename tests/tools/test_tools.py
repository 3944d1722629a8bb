"""Tools: how a function becomes one, what a call may do to us, which ones there are (docs/engine.md, "One turn")."""

import asyncio
import functools
import json
import math
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from importlib.metadata import EntryPoint
from typing import Annotated, Any, Literal, NotRequired, Optional

import anyio
import anyio.from_thread
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field, JsonValue
from typing_extensions import TypedDict

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.errors import UnknownTool
from swarmstream.main import create_app
from swarmstream.settings import Settings
from swarmstream.tools.base import MAX_ERROR_CHARACTERS, MAX_OUTPUT_BYTES, Tool
from swarmstream.tools.builtin.arithmetic import MAX_BITS, calculate
from swarmstream.tools.builtin.offered import BUILTIN_TOOLS, calculator, clock, query_json
from swarmstream.tools.context import MAX_EVENT_BYTES, ToolContext
from swarmstream.tools.errors import ToolDefinitionError, ToolError, ToolLoadError
from swarmstream.tools.functions import tool
from swarmstream.tools.loading import installed_tools, load_tools
from swarmstream.tools.policy import AllowedTools
from swarmstream.tools.toolbox import missing_descriptions, toolbox
from tests.conftest import ROOT
from tests.fakes.clock import DrivenClock

pytestmark = pytest.mark.anyio


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int = 0


class Address(TypedDict):
    city: str
    street: NotRequired[str]


class Order(BaseModel):
    id: int
    tags: list[str] = []


Written = list[tuple[str, JsonValue]]


def context(written: Written | None = None, name: str = "tool") -> ToolContext:
    def sink(event: str, data: JsonValue) -> None:
        if written is not None:
            written.append((event, data))

    return ToolContext(agent="A", turn=1, tool_call_id="call_1", tool=name, sink=sink)


async def call(
    function: Callable[..., Any] | Tool,
    arguments: Any = "{}",
    written: Written | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> str:
    """What a model is told that calls it; `arguments` is JSON text, or becomes it."""
    made = function if isinstance(function, Tool) else tool(function)
    with anyio.fail_after(30):
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        return await made.call(text, context(written, made.name), clock)


async def failure(function: Callable[..., Any] | Tool, arguments: Any = "{}") -> str:
    """What a model is told when the call fails."""
    with pytest.raises(ToolError) as caught:
        await call(function, arguments)
    return str(caught.value)


def parameter(annotation: Any, default: Any = ...) -> Any:
    """The schema of a function's only parameter, and whether it is required."""

    def function(value: Any) -> None: ...

    function.__annotations__["value"] = annotation
    if default is not ...:
        function.__defaults__ = (default,)
    parameters = tool(function).parameters
    Draft202012Validator.check_schema(parameters)
    assert ("required" in parameters) == (default is ...)
    properties = parameters["properties"]
    assert isinstance(properties, dict)
    return properties["value"]


# --- The schema -----------------------------------------------------------------------------------------------------


def test_a_function_is_offered_in_the_format_of_openai() -> None:
    @tool
    def add(a: int, b: int = 2) -> int:
        """Add two numbers.

        They may be negative.
        """
        return a + b

    assert add.schema() == {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Add two numbers.",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 2}},
                "required": ["a"],
                "additionalProperties": False,
            },
        },
    }


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (int, {"type": "integer"}),
        (Any, {}),
        (Annotated[int, "how many"], {"type": "integer", "description": "how many"}),
        (
            Annotated[int, Field(ge=1, description="how many")],
            {"type": "integer", "minimum": 1, "description": "how many"},
        ),
        (Annotated[int, "one", Field(description="other")], {"type": "integer", "description": "other"}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),  # noqa: UP045
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (list[str], {"type": "array", "items": {"type": "string"}}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (date, {"type": "string", "format": "date"}),
        (None, {"type": "null"}),
        ("list[int]", {"type": "array", "items": {"type": "integer"}}),
    ],
)
def test_annotations_become_json_schema(annotation: Any, schema: JsonValue) -> None:
    assert parameter(annotation) == schema


@pytest.mark.parametrize(
    "annotation", [Color, Point, Address, Order, "Order", list["Order"], Annotated[Point, "where"]]
)
def test_types_with_a_structure_are_described_by_reference(annotation: Any) -> None:
    written = json.dumps(parameter(annotation))
    assert '"$ref": "#/$defs/' in written


def test_a_parameter_with_a_default_is_not_required() -> None:
    assert parameter(int, 5) == {"type": "integer", "default": 5}
    assert parameter(int, Field(5, description="how many")) == {
        "type": "integer",
        "default": 5,
        "description": "how many",
    }
    assert parameter(Any, object()) == {}, "a default that JSON cannot write is not shown"


def test_no_annotations_and_no_docstring_are_no_error() -> None:
    def function(a, b=1): ...  # pyright: ignore[reportUnknownParameterType, reportMissingParameterType]

    schema = tool(function).schema()  # pyright: ignore[reportUnknownArgumentType]
    assert schema["function"] == {
        "name": "function",
        "parameters": {
            "type": "object",
            "properties": {"a": {}, "b": {"default": 1}},
            "required": ["a"],
            "additionalProperties": False,
        },
    }


def google(first: int, second: str, third: int = 0) -> None:
    """Do it
    well.
    Args:
        first (dict[str, int], optional): The first one,
            which is: long.
        second: The second one.

        nobody: Not a parameter.
    Returns:
        third: Not this.
    """


def numpy(first: int, second: str, third: int = 0) -> None:
    """
    Do it
    well.

    Parameters
    ----------
    first : int, optional
        The first one,
        which is: long.

    second
        The second one.
    nobody : int
        Not a parameter.

    Returns
    -------
    third : int
        Not this.
    """


def rest(first: int, second: str, third: int = 0) -> None:
    """Do it
    well.

    :param first: The first one,
        which is: long.
    :param str second: The second one.
    :param nobody: Not a parameter.
    :returns: third: Not this.
    """


@pytest.mark.parametrize("function", [google, numpy, rest])
def test_docstrings_of_three_styles_describe_the_parameters(function: Callable[..., Any]) -> None:
    made = tool(function)
    assert made.description == "Do it well."
    assert made.parameters["properties"] == {
        "first": {"type": "integer", "description": "The first one, which is: long."},
        "second": {"type": "string", "description": "The second one."},
        "third": {"type": "integer", "default": 0},
    }


@given(st.text(st.sampled_from("Args:\n -_ParametersReturns:param a(b)")))
@settings(deadline=None, max_examples=50)
def test_any_docstring_will_do(docstring: str) -> None:
    def function(a: int) -> None: ...

    function.__doc__ = docstring
    Draft202012Validator.check_schema(tool(function).parameters)


async def test_names_that_pydantic_keeps_for_itself_are_parameters_like_others() -> None:
    def function(json: str, schema: int, model_config: int, _private: int, self: int) -> list[Any]:
        return [json, schema, model_config, _private, self]

    arguments = {"json": "a", "schema": 1, "model_config": 2, "_private": 3, "self": 4}
    assert await call(function, arguments) == '["a",1,2,3,4]'


async def test_positional_only_and_keyword_only_parameters_are_filled() -> None:
    def function(a: int, b: int = 2, /, c: int = 3, *, d: int = 4) -> list[int]:
        return [a, b, c, d]

    assert await call(function, {"a": 1}) == "[1,2,3,4]"
    assert await call(function, {"a": 1, "b": 5, "d": 6}) == "[1,5,3,6]"


async def test_a_mutable_default_is_each_call_s_own() -> None:
    def function(items: list[int] = []) -> list[int]:  # noqa: B006
        items.append(1)
        return items

    made = tool(function)
    assert [await call(made), await call(made)] == ["[1]", "[1]"]


class Shop:
    def __init__(self, stock: int) -> None:
        self.stock = stock

    def sell(self, count: int) -> int:
        """Sell some."""
        return self.stock - count

    async def __call__(self, count: int) -> int:
        """Buy some."""
        return self.stock + count


def plus(a: int, b: int) -> int:
    """Add."""
    return a + b


async def test_bound_methods_objects_and_wrapped_functions_are_tools() -> None:
    assert (tool(Shop(3).sell).description, await call(Shop(3).sell, {"count": 1})) == ("Sell some.", "2")
    assert (tool(Shop(3)).name, tool(Shop(3)).description, await call(Shop(3), {"count": 1})) == (
        "Shop",
        "Buy some.",
        "4",
    )
    assert await call(functools.lru_cache(plus), {"a": 1, "b": 2}) == "3"
    assert await call(math.sqrt, {"x": 4}) == "2.0"


async def test_what_a_partial_has_bound_is_not_the_model_s_to_see_or_change() -> None:
    made = tool(functools.partial(plus, b=40))
    assert (made.name, list(made.parameters["properties"] or ())) == ("plus", ["a"])  # pyright: ignore[reportArgumentType]
    assert await call(made, {"a": 2}) == "42"
    assert "no parameter" in await failure(made, {"a": 2, "b": 1})
    assert await call(functools.partial(plus, 40), {"b": 2}) == "42"
    assert await call(functools.partial(functools.partial(plus, a=1), b=2)) == "3"


def collects(*values: int) -> None: ...


def gathers(**values: int) -> None: ...


def unreadable(a: Any) -> None: ...


unreadable.__annotations__["a"] = "Nonsense"


def opaque(a: threading.Lock) -> None: ...


async def generates(a: int) -> Any:
    yield a


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (collects, "collects takes *values, and models need to know each parameter's name"),
        (gathers, "gathers takes **values"),
        (unreadable, "the signature of unreadable cannot be read: name 'Nonsense' is not defined"),
        (opaque, "a parameter of opaque cannot be given as JSON: Unable to generate pydantic-core schema"),
        (generates, '"generates" yields'),
        (lambda: 1, '"<lambda>" cannot be a tool\'s name: 1 to 64 of'),
        (Order, '"Order" is no function'),
        (max, "the signature of max cannot be read"),
    ],
)
def test_what_no_model_could_call_is_refused_where_it_is_written(function: Callable[..., Any], reason: str) -> None:
    with pytest.raises(ToolDefinitionError) as caught:
        tool(function)
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize("name", ["a b", "ä", "a" * 65, "a.b", "a\n", "٣"])
def test_a_name_that_openai_does_not_accept_is_refused(name: str) -> None:
    with pytest.raises(ToolDefinitionError, match="cannot be a tool's name"):
        tool(name=name)(plus)


async def test_the_decorator_s_words_win_and_the_function_stays_callable() -> None:
    @tool(name="sum-up", description="Sum up.", timeout_seconds=5)
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    assert (add.name, add.description, add.timeout_seconds) == ("sum-up", "Sum up.", 5)
    assert add(17, 25) == 42


@pytest.mark.parametrize("seconds", [0, -1, math.nan])
def test_a_time_limit_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ToolDefinitionError, match="timeout_seconds must be greater than 0"):
        tool(plus, timeout_seconds=seconds)


async def test_a_tool_may_be_something_else_than_a_function() -> None:
    class Echo(Tool):
        async def perform(self, values: Mapping[str, JsonValue], context: ToolContext) -> str:
            return f"{values} for {context.agent}"

    echo = Echo(name="echo", description="", parameters={"type": "object"})
    assert await call(echo, {"a": 1}) == "{'a': 1} for A"


def test_a_schema_is_the_caller_s_own_copy() -> None:
    made = tool(plus)
    made.schema()["function"]["parameters"].clear()  # pyright: ignore
    assert made.parameters["properties"]


# --- The arguments --------------------------------------------------------------------------------------------------


async def test_arguments_arrive_as_what_the_annotations_say() -> None:
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
async def test_no_arguments_at_all_are_none(arguments: str) -> None:
    assert await call(lambda_named("nothing"), arguments) == "null"


def lambda_named(name: str) -> Tool:
    return tool(lambda: None, name=name)


@pytest.mark.parametrize(
    ("arguments", "told"),
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
async def test_arguments_that_do_not_fit_are_told_to_the_model(arguments: str, told: str) -> None:
    assert (await failure(plus, arguments)).startswith(told)


async def test_a_misfit_deep_inside_is_told_by_its_path() -> None:
    def function(orders: list[Order]) -> None: ...

    told = await failure(function, {"orders": [{"id": 1}, {"id": "x"}]})
    assert told == 'the arguments do not fit: "orders.1.id": input should be a valid integer'


LONG_NAMES = {"a": 1, "b": 2} | {"z" * length: 1 for length in range(1000, 1010)}


@pytest.mark.parametrize(
    "arguments", [{"z" * 10_000: 1}, "z" * 10_000, {"a": "z" * 10_000, "b": {"z" * 10_000: 1}}, LONG_NAMES]
)
async def test_what_the_model_sent_is_not_repeated_to_it(arguments: Any) -> None:
    told = await failure(plus, arguments)
    assert told.count("z") <= 200
    assert len(told) <= MAX_ERROR_CHARACTERS


# --- The call -------------------------------------------------------------------------------------------------------


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
async def test_an_exception_is_told_by_its_type_and_message() -> None:
    def function() -> None:
        raise ValueError("no such customer")

    assert await failure(function) == "function failed: ValueError: no such customer"


@pytest.mark.noisy
@pytest.mark.parametrize("error", [ValueError("x" * 10_000), SystemExit(3), StopIteration(1), TimeoutError("its own")])
async def test_whatever_a_function_raises_ends_the_call_alone(error: BaseException) -> None:
    def function() -> None:
        raise error

    told = await failure(function)
    assert told.startswith("function failed: ")
    assert len(told) <= MAX_ERROR_CHARACTERS


@pytest.mark.noisy
async def test_an_exception_that_cannot_be_shown_is_told_by_its_type() -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise ValueError

    async def function() -> None:
        raise Rude

    assert await failure(function) == "function failed: Rude: (no message)"


async def test_a_tool_may_speak_to_the_model_in_its_own_words() -> None:
    def function() -> None:
        raise ToolError("ask for a smaller range")

    assert await failure(function) == "ask for a smaller range"

    def talkative() -> None:
        raise ToolError("\ud800" + "x" * 10_000)

    told = await failure(talkative)
    assert told.startswith("\ufffdx")
    assert len(told) == MAX_ERROR_CHARACTERS


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


async def test_a_thread_that_takes_too_long_is_left_to_itself_and_can_write_no_more() -> None:
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
    said = await call(tool(lambda: fits + "aaaa", name="more"))
    kept, notice = said.split("\n")
    assert kept == unit * len(kept)
    assert MAX_OUTPUT_BYTES - 4 < len(said.encode()) <= MAX_OUTPUT_BYTES
    assert notice == f"[cut: these are the first 32 kB of {len(fits.encode()) + 4:,} bytes]"


# --- The context ----------------------------------------------------------------------------------------------------


async def test_a_context_is_filled_in_and_no_parameter_of_the_model_s() -> None:
    async def function(count: int, ctx: ToolContext) -> list[Any]:
        return [count, ctx.agent, ctx.turn, ctx.tool_call_id]

    made = tool(function)
    assert list(made.parameters["properties"] or ()) == ["count"]  # pyright: ignore[reportArgumentType]
    assert await call(made, {"count": 3}) == '[3,"A",1,"call_1"]'
    assert "no parameter" in await failure(made, {"count": 3, "ctx": {}})


async def test_a_context_is_recognised_however_it_is_annotated() -> None:
    def function(
        a: ToolContext, b: "ToolContext", c: ToolContext | None = None, *, d: Annotated[ToolContext, "x"]
    ) -> int:
        return len({a, b, c, d})

    assert tool(function).parameters["properties"] == {}
    assert await call(function) == "1"


async def test_a_tool_writes_to_the_stream_from_the_loop_and_from_a_thread() -> None:
    async def search(ctx: ToolContext) -> None:
        await ctx.write_event_to_stream("found", {"at": date(2026, 11, 20), 1: ("a",)})
        await ctx.report_progress(1, 2)

    def download(ctx: ToolContext) -> None:
        anyio.from_thread.run(ctx.report_progress, 0.5)

    written: Written = []
    await call(search, written=written)
    await call(download, written=written)
    assert written == [
        ("found", {"at": "2026-11-20", "1": ["a"]}),
        ("progress", {"tool": "search", "done": 1, "total": 2}),
        ("progress", {"tool": "download", "done": 0.5, "total": None}),
    ]


async def test_what_is_written_is_a_copy() -> None:
    written: Written = []
    data = {"a": [1]}
    await context(written).write_event_to_stream("x", data)
    data["a"].append(2)
    assert written == [("x", {"a": [1]})]


@pytest.mark.parametrize("name", ["", "a" * 65, "a b", "ä", "a\n", 'a"'])
async def test_an_event_s_name_is_short_and_plain(name: str) -> None:
    with pytest.raises(ValueError, match="no event's name"):
        await context().write_event_to_stream(name, 1)


@pytest.mark.parametrize("data", [object(), math.nan, "\ud800", 2**64, [2**64], {"a": lambda: 1}])
async def test_an_event_s_data_are_json_that_every_reader_takes(data: Any) -> None:
    with pytest.raises(ValueError, match="must be JSON"):
        await context().write_event_to_stream("x", data)


async def test_an_event_s_data_are_bounded() -> None:
    written: Written = []
    await context(written).write_event_to_stream("x", "a" * (MAX_EVENT_BYTES - 2))
    assert len(written) == 1
    with pytest.raises(ValueError, match="may take 65,536 bytes, these take 65,537"):
        await context(written).write_event_to_stream("x", "a" * (MAX_EVENT_BYTES - 1))


# --- The calculator -------------------------------------------------------------------------------------------------

PIECES = [*"0123456789.,+-*/%() _ej", "**", "//", "max(", "round(", "9**9", " if ", "é"]
OF_ONE = ["sqrt", "abs", "round", "log", "log10", "sin", "cos", "tan", "floor", "ceil"]
LITERALS = st.integers(0, 10**6).map(str) | st.floats(1e-3, 1e6).map(repr) | st.sampled_from(["pi", "e"])
FUNCTIONS: dict[str, Any] = {
    name: getattr(math, name)
    for name in ("sqrt", "log", "log10", "exp", "sin", "cos", "tan", "floor", "ceil", "pi", "e")
} | {"abs": abs, "round": round, "min": min, "max": max, "__builtins__": {}}
EXPRESSIONS = st.recursive(
    LITERALS | st.builds("{}**{}".format, LITERALS, st.integers(-3, 3)),
    lambda inner: (
        st.builds("{}{}{}".format, inner, st.sampled_from(["+", "-", "*", "/", "//", "%", " + "]), inner)
        | st.builds("({})".format, inner)
        | st.builds("{}{}".format, st.sampled_from("+-"), inner)
        | st.builds("{}({})".format, st.sampled_from(OF_ONE), inner)
        | st.builds("{}({},{})".format, st.sampled_from(["min", "max", "log"]), inner, inner)
        | st.builds("round({},{})".format, inner, st.integers(-9, 9))
    ),
    max_leaves=8,
)


def by_python(expression: str) -> str:
    try:
        value = eval(expression, dict(FUNCTIONS))
    except (ArithmeticError, ValueError):
        return "no value"
    return str(value) if math.isfinite(value) else "no value"


def by_us(expression: str) -> str:
    try:
        return calculator(expression)
    except ToolError:
        return "no value"


def value_or_failure(function: Callable[..., Any], *arguments: str, failed: Any = 0) -> Any:
    """What it returns, or `failed` where it says no, shortly."""
    try:
        return function(*arguments)
    except ToolError as error:
        return failed if len(str(error)) <= 300 else error


@given(EXPRESSIONS)
@settings(deadline=None, max_examples=150)
def test_the_calculator_has_the_values_that_python_has(expression: str) -> None:
    assert by_us(expression) == by_python(expression)


@given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join))
@settings(deadline=None, max_examples=200)
@example("9**9**9")
@example("2**2**100")
@example("2**-9**9**9")
@example("9999999999**9999999999")
@example("*".join(["9**999"] * 100))
@example("round(1, -10**9)")
@example("round(1, 0-9**300)")
@example("1e308*1e308 - 1e308*1e308")
@example("(-8)**0.5")
@example("10**400*1.5")
@example("(1).__class__")
@example("().__class__.__bases__[0]")
@example("__import__('os')")
@example("max(1, key=abs)")
@example("max(*1)")
@example("'a'*10**9")
@example("True")
@example("1if 1else 2")
@example("١+١")
@example("1\x00+1")
@example("\ud800")
@example("1" * 10_000)
@example("0x" + "f" * 998)
@example("(" * 500 + "1" + ")" * 499)
@example("-" * 999 + "1")
@example("max(" * 200 + "1 1")
@example("1" + "**1" * 300)
def test_no_expression_does_more_than_fail(expression: str) -> None:
    assert abs(value_or_failure(calculate, expression)) < math.inf


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("9**9**9", "a number on the way is too large"),
        ("1e999", "a number on the way is too large"),
        ("1/0", "division by zero"),
        ("sqrt(-1)", "a function has no real value for that argument"),
        ("(-8)**0.5", "the expression has no real value"),
        ("(1).__class__", "only numbers, + - * / // % **, parentheses, constants and functions can be used"),
        ("True", "only numbers"),
        ("'a'", '"\'" cannot stand in an expression'),
        ("2^8", '"^" cannot stand in an expression; powers are written **'),
        ("open(1)", '"open" is no function; there are sqrt, abs, '),
        ("x + 1", '"x" is not known; there are pi, e'),
        ("1 +", "the expression cannot be read"),
        ("", "the expression is empty"),
        ("log()", "log takes 1 or 2 numbers, not 0"),
        ("1" * 1001, "the expression is longer than 1,000 characters"),
        ("(" * 51 + "1" + ")" * 51, "the expression is nested more than 50 deep"),
        ("-" * 51 + "1", "the expression is nested more than 50 deep"),
    ],
)
async def test_the_calculator_says_what_is_wrong(expression: str, told: str) -> None:
    assert (await failure(calculator, {"expression": expression})).startswith(told)


def test_integers_may_have_4096_bits_and_no_more() -> None:
    assert calculate("2**4095 + (2**4095 - 1)") == 2**MAX_BITS - 1
    assert by_us("2**4095 + 2**4095") == by_us("2**4096") == by_us("2**2048 * 2**2048") == "no value"


def test_what_python_s_parser_would_warn_of_never_reaches_it() -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for glued in ["1if 1else 2", "0x1for 2", "1.in(1)", "1jand 1", "x.5if 1", "1_0or 1", "1e5is 1", "0b1not 1"]:
            assert by_us(glued) == "no value"
    assert warned == []


def test_a_long_sum_is_not_nested() -> None:
    assert calculator("+".join(["1"] * 500)) == "500"
    assert calculator("(" * 50 + "1" + ")" * 50) == "1"


# --- The clock and the JSON query -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("timezone", "name"), [("UTC", "UTC"), ("Asia/Kathmandu", "UTC+05:45")])
def test_the_clock_tells_the_time_with_its_offset(timezone: str, name: str) -> None:
    before = datetime.now().astimezone().replace(microsecond=0)
    told = datetime.fromisoformat(clock(timezone))
    assert before <= told <= datetime.now().astimezone()
    assert told.tzname() == name


@pytest.mark.parametrize(
    "timezone", ["", "Mars/Olympus", "../../etc/passwd", "/etc/passwd", "America", "a\x00b", "x" * 9000]
)
async def test_a_time_zone_that_is_none_is_a_failure(timezone: str) -> None:
    assert "is no time zone that is known here" in await failure(clock, {"timezone": timezone})


DOCUMENT = {
    "": 0,
    "~1": "tilde",
    "a/b": 1,
    "m~n": 2,
    "orders": [{"id": 7, "tags": ["x"]}],
    "$ref": 3,
    "a": {"0": "zero"},
    "é": None,
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", DOCUMENT),
        ("$", DOCUMENT),
        ("/", 0),
        ("/a~1b", 1),
        ("/m~0n", 2),
        ("/~01", "tilde"),
        ("/orders/0/id", 7),
        ("orders[0].tags[0]", "x"),
        ("orders.0.id", 7),
        ("$.orders[0].id", 7),
        ("$ref", 3),
        ("a.0", "zero"),
        ("é", None),
    ],
)
def test_a_query_finds_what_stands_at_its_path(path: str, value: Any) -> None:
    assert json.loads(query_json(json.dumps(DOCUMENT), path)) == value


def test_a_query_s_answer_is_json_whatever_the_document_holds() -> None:
    assert query_json("[1e999]", "0") == '"Infinity"'


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/nothing", 'there is no "nothing"; the object there has "", "~1", "a/b", "m~n", "orders" and 3 more'),
        ("/orders/1", 'there is no item "1"; the array there has 1 items, from 0'),
        ("/orders/-", 'there is no item "-"'),
        ("/orders/00", 'there is no item "00"'),
        ("/orders/٠", 'there is no item "٠"'),
        ("/orders/0/id/x", 'there is no "x"; the value there is neither an object nor an array'),
        ("/m~2n", "the path is no JSON Pointer: after ~ comes 0 or 1"),
        ("orders[", 'the path cannot be read: write "/orders/0/id" or "orders[0].id"'),
        ("orders..id", "the path cannot be read"),
        ("a." * 501, "the path is longer than 1,000 characters"),
    ],
)
async def test_a_query_says_what_is_wrong_with_its_path(path: str, told: str) -> None:
    assert (await failure(query_json, {"document": json.dumps(DOCUMENT), "path": path})).startswith(told)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("{", "the document is not valid JSON: EOF"),
        ("[" * 1000, "the document is not valid JSON: recursion limit exceeded"),
        ('"' + "ä" * 131_072 + '"', "the document is larger than 256 kB"),
    ],
)
async def test_a_query_says_what_is_wrong_with_its_document(document: str, told: str) -> None:
    assert (await failure(query_json, {"document": document, "path": ""})).startswith(told)


@given(st.text(), st.text(st.sampled_from("$.[]/~01a")))
@settings(deadline=None, max_examples=100)
@example("\ud800", "")
def test_no_query_does_more_than_fail(document: str, path: str) -> None:
    for text in (document, '{"a":[[1,{"$":0}]]}'):
        json.loads(value_or_failure(query_json, text, path, failed="null"))


# --- The registry ---------------------------------------------------------------------------------------------------


decorated = tool(plus, name="decorated")
not_a_function = 42
named_like_a_built_in = tool(plus, name="clock")


class Namespace:
    @staticmethod
    def inner(a: int) -> int:
        return a


def test_every_server_has_the_built_in_tools() -> None:
    allowed = AllowedTools(toolbox())
    assert allowed.names() == sorted(BUILTIN_TOOLS) == ["calculator", "clock", "query_json"]
    assert allowed.get("clock") is clock
    with pytest.raises(UnknownTool):
        allowed.get("shell")


def test_an_operator_s_tools_are_named_by_reference_or_installed() -> None:
    entry = EntryPoint(name="anything", value=f"{__name__}:Namespace.inner", group="swarmstream.tools")
    tools = load_tools([f"{__name__}:plus", f"{__name__}:decorated"], [entry])
    assert sorted(tools) == ["calculator", "clock", "decorated", "inner", "plus", "query_json"]
    assert not list(installed_tools()), "no package of ours offers any"


@pytest.mark.parametrize(
    ("references", "told"),
    [
        (["plus"], 'the tool "plus" is not of the form package.module:function'),
        (["os:system('x')"], "is not of the form package.module:function"),
        (["..os:system"], "is not of the form package.module:function"),
        ([""], 'the tool "" is not of the form'),
        (["no.such.module:f"], 'the tool "no.such.module:f" cannot be imported: ModuleNotFoundError'),
        (["no.such.module:f"], f"; looked in {sys.path[0]}"),
        (["tests.nothing:f"], f", {ROOT}"),
        (["orders.py:find"], "; write orders:find"),
        (["./mine/orders.py:find"], "function; write mine.orders:find"),
        (["orders.py"], "; write orders:function"),
        ([f"{__name__}:nothing"], f"; {__name__} is {__file__}"),
        ([f"{__name__}:nothing"], f'the tool "{__name__}:nothing" cannot be imported: AttributeError'),
        ([f"{__name__}:not_a_function"], f'the tool "{__name__}:not_a_function" cannot be offered: int is no function'),
        ([f"{__name__}:Order"], "cannot be offered"),
        ([f"{__name__}:collects"], "cannot be offered: collects takes *values"),
        (
            [f"{__name__}:named_like_a_built_in"],
            f'the tool "{__name__}:named_like_a_built_in" is named "clock", as a built-in one is',
        ),
        (
            [f"{__name__}:plus", f"{__name__}:plus"],
            f'the tool "{__name__}:plus" is named "plus", as "{__name__}:plus" is',
        ),
    ],
)
def test_a_reference_that_is_no_tool_is_refused_by_its_name(references: list[str], told: str) -> None:
    with pytest.raises(ToolLoadError) as caught:
        load_tools(references)
    assert told in str(caught.value)


def test_an_installed_tool_cannot_take_the_name_of_another() -> None:
    entry = EntryPoint(name="sum", value=f"{__name__}:plus", group="swarmstream.tools")
    with pytest.raises(ToolLoadError, match=r'the tool "sum = .*:plus" is named "plus", as ".*:plus" is'):
        load_tools([f"{__name__}:plus"], [entry])


async def test_a_plain_function_that_runs_a_loop_of_its_own_may_fail_there() -> None:
    def function() -> str:
        """Run something that is cancelled."""

        async def cancelled() -> None:
            raise asyncio.CancelledError

        asyncio.run(cancelled())
        return "never"

    assert await failure(function) == "the tool was cancelled from within"


def _undescribed(a, b: int, c: Any = 1) -> None:  # pyright: ignore[reportUnknownParameterType, reportMissingParameterType]
    pass


undescribed: Callable[..., Any] = _undescribed  # pyright: ignore[reportUnknownVariableType]


def _described(a: int | None, b: Color, c: Literal["x"], d: Order, e: Annotated[str, "e"]) -> None:
    """Do it."""


def test_what_models_are_not_told_of_an_operators_tool_is_said() -> None:
    tools = toolbox([("a:undescribed", tool(undescribed)), ("a:described", tool(_described))])
    assert list(missing_descriptions(tools)) == [
        'the tool "_undescribed" has no docstring: models are not told what it does',
        'the tool "_undescribed" has no type for "a", "c": models may send anything there',
    ]


@pytest.mark.noisy
def test_it_is_said_when_the_server_starts(caplog: pytest.LogCaptureFixture) -> None:
    create_app(Settings.model_construct(tools=(f"{__name__}:undescribed",), data_dir=None), environ={})
    assert [record.levelname for record in caplog.records if 'no type for "a"' in record.getMessage()] == ["WARNING"]
