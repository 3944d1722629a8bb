"""Functions that tests make tools of, and calls of these tools."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NotRequired

import anyio
import pytest
from pydantic import BaseModel, JsonValue
from typing_extensions import TypedDict

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.tools.base import Tool
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolError
from swarmstream.tools.functions import tool


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
    """Return the text for a model that calls it. `arguments` is JSON text, or becomes it."""
    made = function if isinstance(function, Tool) else tool(function)
    with anyio.fail_after(30):
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        return await made.call(text, context(written, made.name), clock)


async def failure(function: Callable[..., Any] | Tool, arguments: Any = "{}") -> str:
    """Return the error for the model when the call fails."""
    with pytest.raises(ToolError) as caught:
        await call(function, arguments)
    return str(caught.value)


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


def collects(*values: int) -> None: ...


def value_or_failure(function: Callable[..., Any], *arguments: str, failed: Any = 0) -> Any:
    """Return the value, or `failed` for a short tool error."""
    try:
        return function(*arguments)
    except ToolError as error:
        return failed if len(str(error)) <= 300 else error
