"""The tools that an MCP server lists, as far as models can be offered them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from pydantic import JsonValue
from pydantic_core import to_json

from swarmstream.errors import quote
from swarmstream.json_schema.errors import SchemaError
from swarmstream.json_schema.validator import compile_schema
from swarmstream.llm.messages import JsonObject
from swarmstream.tools.errors import ToolError
from swarmstream.tools.names import is_name

MAX_TOOLS: Final = 128
"""Of one server."""
MAX_DESCRIPTION_CHARACTERS: Final = 1_024
MAX_SCHEMA_BYTES: Final = 32 * 1024
MAX_LISTING_BYTES: Final = 512 * 1024
"""Of all schemas of one server, which are kept in memory."""
MAX_NAME_CHARACTERS: Final = 256

_NAMED = 5
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")

SkippedTool: TypeAlias = tuple[str, str]
"""The name of a tool, with the reason why models cannot be offered it."""


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """A tool as its server describes it, with a name that models can call it by."""

    name: str
    original: str
    description: str
    input_schema: JsonObject
    output_schema: JsonObject | None

    def check_arguments(self, values: Mapping[str, JsonValue]) -> None:
        """Raise `ToolError`, in words for a model, if the arguments do not fit."""
        if violation := compile_schema(self.input_schema).violation(dict(values)):
            raise ToolError(f"the arguments do not fit: {violation}")


@dataclass(frozen=True, slots=True)
class ToolListing:
    """The tools of one server."""

    tools: tuple[RemoteTool, ...] = ()
    skipped: tuple[SkippedTool, ...] = ()
    """The first few."""
    skipped_count: int = 0


class UnusableTool(Exception):
    """A tool that models cannot be offered."""


def read_listing(listed: Iterable[JsonValue]) -> ToolListing:
    """Read a server's list of tools. It may take a second: not for the event loop."""
    tools: list[RemoteTool] = []
    skipped: list[SkippedTool] = []
    left = MAX_LISTING_BYTES
    for each in listed:
        if len(tools) == MAX_TOOLS:
            skipped.append((_listed_name(each), f"there are more than {MAX_TOOLS}"))
            continue
        try:
            tool, size = _read_tool(each, left)
        except UnusableTool as problem:
            skipped.append((_listed_name(each), str(problem)))
        else:
            left -= size
            tools.append(tool)
    return ToolListing(tuple(tools), tuple(skipped[:_NAMED]), len(skipped))


def describe_skipped(skipped: Iterable[SkippedTool], count: int) -> str:
    """Return which tools are missing, as the end of a sentence. `count` is that of all."""
    shown = [f"{quote(name)} ({reason})" for name, reason in skipped][:_NAMED]
    more = [f"and {count - len(shown):,} more"] if count > len(shown) else []
    return f"{'a tool was' if count == 1 else f'{count:,} tools were'} left out: {', '.join([*shown, *more])}"


def _read_tool(listed: JsonValue, left: int) -> tuple[RemoteTool, int]:
    """Return a tool with the bytes of its schemas, of which `left` may be taken."""
    fields = listed if isinstance(listed, dict) else {}
    original = fields.get("name")
    if not isinstance(original, str) or not 0 < len(original) <= MAX_NAME_CHARACTERS:
        raise UnusableTool("it has no name, or one that is too long")
    name = original if is_name(original) else _NOT_IN_NAMES.sub("_", original)[:64]
    description = fields.get("description")
    parameters, size = _read_schema(fields.get("inputSchema"), "input")
    if parameters.get("type") != "object":
        raise UnusableTool("its input schema is not of the type object")
    output, output_size = None, 0
    if fields.get("outputSchema") is not None:
        output, output_size = _read_schema(fields.get("outputSchema"), "output")
    size += output_size
    if size > left:
        raise UnusableTool(f"all schemas together are larger than {MAX_LISTING_BYTES // 1024} kB")
    cut = description[:MAX_DESCRIPTION_CHARACTERS] if isinstance(description, str) else ""
    return RemoteTool(name, original, cut, parameters, output), size


def _read_schema(schema: JsonValue, role: str) -> tuple[JsonObject, int]:
    """Return a schema that can be used, with its size in bytes."""
    if not isinstance(schema, dict):
        raise UnusableTool(f"its {role} schema is none")
    size = len(to_json(schema))
    if size > MAX_SCHEMA_BYTES:
        raise UnusableTool(f"its {role} schema is larger than {MAX_SCHEMA_BYTES // 1024} kB")
    try:
        compile_schema(schema)
    except SchemaError as error:
        raise UnusableTool(f"its {role} schema: {error}") from error
    return schema, size


def _listed_name(listed: JsonValue) -> str:
    name = listed.get("name") if isinstance(listed, dict) else None
    return name if isinstance(name, str) else "?"
