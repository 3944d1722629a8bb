"""The port of tools: a model calls a tool by its name, with JSON arguments, for a text."""

import logging
import traceback
from abc import ABC, abstractmethod
from asyncio import CancelledError, current_task
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue
from pydantic_core import from_json

from swarmstream.clock import SYSTEM_CLOCK, Clock, time_limit
from swarmstream.llm.messages import JsonObject
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolDefinitionError, ToolError
from swarmstream.tools.names import check_name
from swarmstream.unicode import replace_lone_surrogates

DEFAULT_TIMEOUT_SECONDS: Final = 60.0
MAX_OUTPUT_BYTES: Final = 32 * 1024
"""Of a result's text as UTF-8, the notice that it was cut included."""
MAX_ERROR_CHARACTERS: Final = 500

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tool(ABC):
    """A tool that models are offered. It holds no state of a run: one tool serves many calls at once."""

    name: str
    description: str
    parameters: JsonObject
    """The JSON schema of the arguments."""
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        check_name(self.name)
        if not self.timeout_seconds > 0:
            raise ToolDefinitionError(f"{self.name}: timeout_seconds must be greater than 0")

    @abstractmethod
    async def perform(self, values: Mapping[str, JsonValue], context: ToolContext) -> str:
        """Carry out one call. Anything may be raised: `call` bounds the time and the result, and translates errors."""

    async def call(self, arguments: str, context: ToolContext, clock: Clock = SYSTEM_CLOCK) -> str:
        """Answer one call and close `context`. `arguments` is the model's own text; an empty one counts as `{}`.

        Raises:
            ToolError: whatever went wrong, in words for the model. Cancellation passes.
        """
        try:
            with time_limit(clock, self.timeout_seconds):
                return _capped(await self.perform(_json_object(arguments), context))
        except ToolError as error:
            raise ToolError(_cut(str(error))) from error
        # Whatever it is, also SystemExit and a Rust library's panic: a tool must not stop the server.
        except BaseException as error:
            if isinstance(error, CancelledError) and is_being_cancelled():
                raise
            # Where, and what kind: its words may be the user's.
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.warning("tool %s failed: %s\n%s", self.name, type(error).__name__, frames)
            raise ToolError(_cut(f"{self.name} failed: {type(error).__name__}: {_message(error)}")) from error
        finally:
            context.close()
        raise ToolError(f"{self.name} took longer than {self.timeout_seconds:g} s and was given up")

    def schema(self) -> JsonObject:
        """Return the tool in the format of OpenAI's API, as the caller's own copy.

        Without a description the key is absent: some providers refuse "" there.
        """
        description: JsonObject = {"description": self.description} if self.description else {}
        function: JsonObject = {"name": self.name, **description, "parameters": deepcopy(self.parameters)}
        return {"type": "function", "function": function}


def is_being_cancelled() -> bool:
    """Return True if the current task was asked to stop, rather than something that it awaits."""
    task = current_task()
    return task is not None and task.cancelling() > 0


def _json_object(arguments: str) -> JsonObject:
    if not arguments.strip():
        return {}
    try:
        values = from_json(arguments.encode(), allow_inf_nan=False)
    except ValueError as error:
        reason = "half a surrogate pair" if isinstance(error, UnicodeEncodeError) else str(error)
        raise ToolError(f"the arguments are not valid JSON: {reason}") from error
    if not isinstance(values, dict):
        raise ToolError("the arguments must be a JSON object with the parameters' names as its keys")
    return values  # pyright: ignore[reportUnknownVariableType]


def _capped(text: str) -> str:
    text = replace_lone_surrogates(text)
    encoded = text.encode()
    if len(encoded) <= MAX_OUTPUT_BYTES:
        return text
    notice = f"\n[cut: these are the first {MAX_OUTPUT_BYTES // 1024} kB of {len(encoded):,} bytes]"
    return encoded[: MAX_OUTPUT_BYTES - len(notice)].decode(errors="ignore") + notice


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # `__str__` is foreign code, too
        return "(no message)"


def _cut(text: str) -> str:
    text = replace_lone_surrogates(text)
    return text if len(text) <= MAX_ERROR_CHARACTERS else f"{text[: MAX_ERROR_CHARACTERS - 1]}…"
