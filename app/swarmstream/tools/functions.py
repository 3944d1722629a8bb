"""A tool: something that a model can call by its name, with JSON, for a text."""

import inspect
import logging
import traceback
from abc import ABC, abstractmethod
from asyncio import CancelledError, current_task
from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final, Generic, ParamSpec, TypeVar, overload

from pydantic import JsonValue
from pydantic_core import PydanticSerializationError, from_json, to_json

from swarmstream.clock import SYSTEM_CLOCK, Clock, time_limit
from swarmstream.llm.base import JsonObject
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolDefinitionError, ToolError
from swarmstream.tools.function_schema import FunctionSchema, checked_name, openai_schema, schema_of
from swarmstream.tools.threads import tool_threads
from swarmstream.unicode import replace_lone_surrogates

__all__ = ["FunctionTool", "Tool", "ToolContext", "ToolDefinitionError", "ToolError", "as_tool", "tool"]

DEFAULT_TIMEOUT_SECONDS: Final = 60.0
MAX_OUTPUT_BYTES: Final = 32 * 1024
"""Of a result's text as UTF-8, the notice that it was cut included."""
MAX_ERROR_CHARACTERS: Final = 500

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tool(ABC):
    """What a model is offered. It has no state of a run: one tool serves many calls at once."""

    name: str
    description: str
    parameters: JsonObject
    """The JSON schema of the arguments."""
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        checked_name(self.name)
        if not self.timeout_seconds > 0:
            raise ToolDefinitionError(f"{self.name}: timeout_seconds must be greater than 0")

    @abstractmethod
    async def perform(self, values: Mapping[str, JsonValue], context: ToolContext) -> str:
        """Do it. What it raises is told to the model; how long it may take and its answer be is `call`'s business."""

    async def call(self, arguments: str, context: ToolContext, clock: Clock = SYSTEM_CLOCK) -> str:
        """Answer one call. `arguments` is the model's own text; none at all is taken for `{}`.

        Nothing can be written to `context` any more when this returns.

        Raises:
            ToolError: whatever went wrong, in words for the model. Cancellation passes.
        """
        try:
            with time_limit(clock, self.timeout_seconds):
                return _capped(await self.perform(_object_in(arguments), context))
        except ToolError as error:
            raise ToolError(_cut(str(error))) from error
        # Whatever it is, also SystemExit and a Rust library's panic: a tool must not stop the server.
        except BaseException as error:
            if isinstance(error, CancelledError) and _is_being_cancelled():
                raise
            # Where, and what kind: its words may be the user's.
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.warning("tool %s failed: %s\n%s", self.name, type(error).__name__, frames)
            raise ToolError(_cut(f"{self.name} failed: {type(error).__name__}: {_said(error)}")) from error
        finally:
            context.close()
        raise ToolError(f"{self.name} took longer than {self.timeout_seconds:g} s and was given up")

    def schema(self) -> JsonObject:
        """The tool in the format of OpenAI's API: the caller's own copy."""
        return openai_schema(self.name, self.description, deepcopy(self.parameters))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FunctionTool(Tool, Generic[P, R]):
    """A Python function as a tool; called, it is that function."""

    function: Callable[P, R]
    _schema: FunctionSchema

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    async def perform(self, values: Mapping[str, JsonValue], context: ToolContext) -> str:
        """An async function is awaited; any other runs in a thread, with the context variables of the caller.

        A thread cannot be stopped: when the call is given up, it is left to itself. It may look for that with
        `anyio.from_thread.check_cancelled()`.
        """
        positional, named = self._schema.bind(values, context)
        function: Callable[..., Any] = self.function
        if _is_async(function):
            return _text(await _alone(function(*positional, **named)))

        def work() -> Any:
            result = function(*positional, **named)
            return result if inspect.isawaitable(result) else _text(result)

        result = await _alone(tool_threads().run(work))
        return result if isinstance(result, str) else _text(await _alone(result))


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

    Its name, its description and its parameters are the function's own: signature, annotations and docstring.

    Raises:
        ToolDefinitionError: models could not be offered it.
    """

    def made(function: Callable[..., Any]) -> FunctionTool[..., Any]:
        schema = schema_of(function, name=name, description=description)
        return FunctionTool(
            name=schema.name,
            description=schema.description,
            parameters=schema.parameters,
            timeout_seconds=timeout_seconds,
            function=function,
            _schema=schema,
        )

    return made if function is None else made(function)


def as_tool(given: object) -> Tool:
    """A tool as it is, a function as a tool.

    Raises:
        ToolDefinitionError: it is neither, or models could not be offered it.
    """
    if isinstance(given, Tool):
        return given
    if not callable(given):
        raise ToolDefinitionError(f"{type(given).__name__} is no function")
    return tool(given)


def _object_in(arguments: str) -> JsonObject:
    if not arguments.strip():
        return {}
    try:
        values = from_json(arguments.encode(), allow_inf_nan=False)
    except ValueError as error:
        raise ToolError(f"the arguments are not valid JSON: {_reason(error)}") from error
    if not isinstance(values, dict):
        raise ToolError("the arguments must be a JSON object with the parameters' names as its keys")
    return values  # pyright: ignore[reportUnknownVariableType]


def _reason(error: ValueError) -> str:
    return "half a surrogate pair" if isinstance(error, UnicodeEncodeError) else str(error)


async def _alone(result: Awaitable[Any]) -> Any:
    """The result of what is awaited. Where it was cancelled and we are not, it has failed like any other."""
    try:
        return await result
    except CancelledError as error:
        if _is_being_cancelled():
            raise
        raise ToolError("the tool was cancelled from within") from error


def _is_being_cancelled() -> bool:
    task = current_task()
    return task is not None and task.cancelling() > 0


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _text(result: object) -> str:
    """A result as a model reads it: text as it is, all else as JSON."""
    if isinstance(result, str):
        return result
    try:
        return to_json(result, fallback=str, inf_nan_mode="strings").decode()
    except PydanticSerializationError as error:
        raise ToolError(f"the result cannot be written as JSON: {error}") from error


def _capped(text: str) -> str:
    text = replace_lone_surrogates(text)
    written = text.encode()
    if len(written) <= MAX_OUTPUT_BYTES:
        return text
    notice = f"\n[cut: these are the first {MAX_OUTPUT_BYTES // 1024} kB of {len(written):,} bytes]"
    return written[: MAX_OUTPUT_BYTES - len(notice)].decode(errors="ignore") + notice


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # it is foreign code, too
        return "(no message)"


def _cut(text: str) -> str:
    text = replace_lone_surrogates(text)
    return text if len(text) <= MAX_ERROR_CHARACTERS else f"{text[: MAX_ERROR_CHARACTERS - 1]}…"
