"""Functions become schemas by their signatures, annotations and docstrings (docs/tools.md)."""

import functools
import json
import math
import threading
from collections.abc import Callable, Mapping
from datetime import date
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import Field, JsonValue

from swarmstream.tools.base import Tool
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolDefinitionError
from swarmstream.tools.functions import tool
from tests.tools.functions import Address, Color, Order, Point, Shop, call, collects, failure, plus

pytestmark = pytest.mark.anyio


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


async def test_bound_methods_objects_and_wrapped_functions_are_tools() -> None:
    assert (tool(Shop(3).sell).description, await call(Shop(3).sell, {"count": 1})) == ("Sell some.", "2")
    assert (tool(Shop(3)).name, tool(Shop(3)).description, await call(Shop(3), {"count": 1})) == (
        "Shop",
        "Buy some.",
        "4",
    )
    assert await call(functools.lru_cache(plus), {"a": 1, "b": 2}) == "3"
    assert await call(math.sqrt, {"x": 4}) == "2.0"


async def test_arguments_that_a_partial_has_bound_are_hidden_from_models() -> None:
    made = tool(functools.partial(plus, b=40))
    assert (made.name, list(made.parameters["properties"] or ())) == ("plus", ["a"])  # pyright: ignore[reportArgumentType]
    assert await call(made, {"a": 2}) == "42"
    assert "no parameter" in await failure(made, {"a": 2, "b": 1})
    assert await call(functools.partial(plus, 40), {"b": 2}) == "42"
    assert await call(functools.partial(functools.partial(plus, a=1), b=2)) == "3"


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
def test_a_function_that_no_model_can_call_is_refused_at_its_definition(
    function: Callable[..., Any], reason: str
) -> None:
    with pytest.raises(ToolDefinitionError) as caught:
        tool(function)
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize("name", ["a b", "ä", "a" * 65, "a.b", "a\n", "٣"])
def test_a_name_that_openai_does_not_accept_is_refused(name: str) -> None:
    with pytest.raises(ToolDefinitionError, match="cannot be a tool's name"):
        tool(name=name)(plus)


async def test_name_and_description_of_the_decorator_win_and_the_function_stays_callable() -> None:
    @tool(name="sum-up", description="Sum up.", timeout_seconds=5)
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    assert (add.name, add.description, add.timeout_seconds) == ("sum-up", "Sum up.", 5)
    assert add(17, 25) == 42


@pytest.mark.parametrize("seconds", [0, -1, math.nan])
def test_a_time_limit_that_is_not_positive_is_refused(seconds: float) -> None:
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
