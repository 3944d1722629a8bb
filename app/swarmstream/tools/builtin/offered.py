"""The built-in tools: they reach nothing outside themselves, and their cost is bounded."""

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from types import MappingProxyType
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic_core import from_json, to_json

from swarmstream.errors import quote
from swarmstream.tools.base import Tool
from swarmstream.tools.builtin.arithmetic import calculate
from swarmstream.tools.builtin.json_path import value_at
from swarmstream.tools.errors import ToolError
from swarmstream.tools.functions import tool

MAX_DOCUMENT_BYTES: Final = 256 * 1024
MAX_PATH_CHARACTERS: Final = 1_000


@tool
def calculator(
    expression: Annotated[
        str,
        "Numbers, + - * / // % **, parentheses, pi, e, and the functions sqrt, abs, round, min, max, log, log10, exp, "
        "sin, cos, tan, floor, ceil. Angles are in radians.",
    ],
) -> str:
    """Calculate the value of an arithmetic expression."""
    return str(calculate(expression))


@tool
def clock(timezone: Annotated[str, 'An IANA time zone such as "Europe/Berlin".'] = "UTC") -> str:
    """Tell the current date and time in a time zone, as ISO 8601 with the offset from UTC."""
    return datetime.now(_zone(timezone)).isoformat(timespec="seconds")


@tool
def query_json(
    document: Annotated[str, "The JSON text."],
    path: Annotated[str, 'A JSON Pointer such as "/orders/0/id" or a dotted path such as "orders[0].id".'],
) -> str:
    """Look up one value in a JSON document. The answer is JSON, too."""
    if len(path) > MAX_PATH_CHARACTERS:
        raise ToolError(f"the path is longer than {MAX_PATH_CHARACTERS:,} characters")
    try:
        encoded = document.encode()
        if len(encoded) > MAX_DOCUMENT_BYTES:
            raise ToolError(f"the document is larger than {MAX_DOCUMENT_BYTES // 1024} kB")
        parsed = from_json(encoded, allow_inf_nan=False)
    except ValueError as error:
        raise ToolError(f"the document is not valid JSON: {error}") from error
    return to_json(value_at(parsed, path), inf_nan_mode="strings").decode()


BUILTIN_TOOLS: Mapping[str, Tool] = MappingProxyType({each.name: each for each in (calculator, clock, query_json)})


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # also where the system has no time zones
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ToolError(
            f'{quote(name)} is no time zone that is known here; write one such as "Europe/Berlin"'
        ) from error
