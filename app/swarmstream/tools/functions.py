"""Python functions as tools."""

import inspect
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar, overload

from pydantic import JsonValue
from pydantic_core import PydanticSerializationError, to_json

from swarmstream.tools.base import DEFAULT_TIMEOUT_SECONDS, Tool, is_being_cancelled
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolDefinitionError, ToolError
from swarmstream.tools.function_schema import FunctionSchema, function_schema
from swarmstream.tools.threads import tool_threads

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FunctionTool(Tool, Generic[P, R]):
    """A Python function as a tool; called, it is that function."""

    function: Callable[P, R]
    _schema: FunctionSchema

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    async def perform(self, values: Mapping[str, JsonValue], context: ToolContext) -> str:
        """Await an async function; run any other in a thread, with the context variables of the caller.

        A thread cannot be stopped: when the call is given up, it runs on. It can find that out with
        `anyio.from_thread.check_cancelled()`.
        """
        positional, named = self._schema.bind(values, context)
        function: Callable[..., Any] = self.function
        if _is_async(function):
            return _as_text(await _uncancelled(function(*positional, **named)))

        def work() -> Any:
            result = function(*positional, **named)
            return result if inspect.isawaitable(result) else _as_text(result)

        result = await _uncancelled(tool_threads().run(work))
        return result if isinstance(result, str) else _as_text(await _uncancelled(result))


@overload
def tool(
    function: Callable[P, R],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> FunctionTool[P, R]: ...
@overload
def tool(
    *, name: str | None = None, description: str | None = None, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> Any:
    """Make a tool of a function: `@tool`, `@tool(name=…)` or `tool(function)`.

    Name, description and parameters come from the function: its signature, annotations and docstring.

    Raises:
        ToolDefinitionError: models cannot be offered it.
    """

    def make(function: Callable[..., Any]) -> FunctionTool[..., Any]:
        schema = function_schema(function, name=name, description=description)
        return FunctionTool(
            name=schema.name,
            description=schema.description,
            parameters=schema.parameters,
            timeout_seconds=timeout_seconds,
            function=function,
            _schema=schema,
        )

    return make if function is None else make(function)


def as_tool(value: object) -> Tool:
    """Return a tool as it is, a function as a tool.

    Raises:
        ToolDefinitionError: the value is neither, or models cannot be offered it.
    """
    if isinstance(value, Tool):
        return value
    if not callable(value):
        raise ToolDefinitionError(f"{type(value).__name__} is no function")
    return tool(value)


async def _uncancelled(result: Awaitable[Any]) -> Any:
    """Return the result of what is awaited.

    Raises:
        ToolError: it was cancelled, and the call was not.
    """
    try:
        return await result
    except CancelledError as error:
        if is_being_cancelled():
            raise
        raise ToolError("the tool was cancelled from within") from error


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _as_text(result: object) -> str:
    """Return a result as models read it: text as it is, all else as JSON."""
    if isinstance(result, str):
        return result
    try:
        return to_json(result, fallback=str, inf_nan_mode="strings").decode()
    except PydanticSerializationError as error:
        raise ToolError(f"the result cannot be written as JSON: {error}") from error
