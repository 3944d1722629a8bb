"""What MCP servers offer and answer, as tools and texts for models."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from pydantic import JsonValue
from pydantic_core import to_json

from swarmstream.errors import quote
from swarmstream.json_schema.errors import SchemaError
from swarmstream.json_schema.validator import compile_schema
from swarmstream.llm.base import JsonObject
from swarmstream.tools.errors import ToolError
from swarmstream.tools.names import is_name

MAX_TOOLS: Final = 128
"""Of one server."""
MAX_DESCRIPTION_CHARACTERS: Final = 1_024
MAX_SCHEMA_BYTES: Final = 32 * 1024
MAX_OFFER_BYTES: Final = 512 * 1024
"""Of all schemas of one server: they are remembered."""
MAX_NAME_CHARACTERS: Final = 256

_NAMED = 5
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")

LeftOut: TypeAlias = tuple[str, str]
"""The name of a tool, and why no model is offered it."""


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """A tool as its server has it, with a name that models can be offered it by."""

    name: str
    original: str
    description: str
    input_schema: JsonObject
    output_schema: JsonObject | None

    def check_arguments(self, values: Mapping[str, JsonValue]) -> None:
        """Raises `ToolError`, in words for a model, if they do not fit."""
        if violation := compile_schema(self.input_schema).violation(dict(values)):
            raise ToolError(f"the arguments do not fit: {violation}")


@dataclass(frozen=True, slots=True)
class ToolListing:
    """The tools of one server."""

    tools: tuple[RemoteTool, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    """The first few."""
    left_out_count: int = 0


def read_listing(listed: Iterable[JsonValue]) -> ToolListing:
    """Those of a server's tools that models can be offered. It may take a second: not for the event loop."""
    tools: list[RemoteTool] = []
    left_out: list[LeftOut] = []
    left = MAX_OFFER_BYTES
    for each in listed:
        if len(tools) == MAX_TOOLS:
            left_out.append((_name_of(each), f"there are more than {MAX_TOOLS}"))
            continue
        try:
            tool, size = _read(each, left)
        except UnusableTool as problem:
            left_out.append((_name_of(each), str(problem)))
        else:
            left -= size
            tools.append(tool)
    return ToolListing(tuple(tools), tuple(left_out[:_NAMED]), len(left_out))


def told(left_out: Iterable[LeftOut], count: int) -> str:
    """Which tools are missing, as a sentence's end."""
    shown = [f"{quote(name)} ({reason})" for name, reason in left_out][:_NAMED]
    more = [f"and {count - len(shown):,} more"] if count > len(shown) else []
    return f"{'a tool was' if count == 1 else f'{count:,} tools were'} left out: {', '.join([*shown, *more])}"


def text_of(tool: RemoteTool, result: Mapping[str, JsonValue]) -> str:
    """What a model reads of a result.

    Raises:
        ToolError: the server says that the call failed, or the result is none, or not as the server promised.
    """
    content = result.get("content", [])
    if not isinstance(content, list) or result.get("resultType", "complete") != "complete":
        raise ToolError(f"{tool.name} answered with something that cannot be read")
    text = "\n".join(map(_part, content))
    structured = result.get("structuredContent")
    if result.get("isError") is True:
        raise ToolError(text or f"{tool.name} failed without a word")
    _check_promise(tool, result)
    return text if text or structured is None else to_json(structured).decode()


class UnusableTool(Exception):
    """No model can be offered the tool."""


def _read(each: JsonValue, left: int) -> tuple[RemoteTool, int]:
    """A tool, and the bytes that its schemas take, of those that are left."""
    fields = each if isinstance(each, dict) else {}
    original = fields.get("name")
    if not isinstance(original, str) or not 0 < len(original) <= MAX_NAME_CHARACTERS:
        raise UnusableTool("it has no name, or one that is too long")
    name = original if is_name(original) else _NOT_IN_NAMES.sub("_", original)[:64]
    description = fields.get("description")
    parameters, size = _schema(fields.get("inputSchema"), "input")
    if parameters.get("type") != "object":
        raise UnusableTool("its input schema is not of the type object")
    output, output_size = None, 0
    if fields.get("outputSchema") is not None:
        output, output_size = _schema(fields.get("outputSchema"), "output")
    size += output_size
    if size > left:
        raise UnusableTool(f"all schemas together are larger than {MAX_OFFER_BYTES // 1024} kB")
    said = description[:MAX_DESCRIPTION_CHARACTERS] if isinstance(description, str) else ""
    return RemoteTool(name, original, said, parameters, output), size


def _schema(schema: JsonValue, role: str) -> tuple[JsonObject, int]:
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


def _name_of(each: JsonValue) -> str:
    name = each.get("name") if isinstance(each, dict) else None
    return name if isinstance(name, str) else "?"


def _check_promise(tool: RemoteTool, result: Mapping[str, JsonValue]) -> None:
    if tool.output_schema is None:
        return
    schema = compile_schema(tool.output_schema)
    if "structuredContent" not in result or schema.violation(result["structuredContent"]):
        raise ToolError(f"the result of {tool.name} does not keep to the schema that the server declared")


def _part(part: JsonValue) -> str:
    """One part of a result's content."""
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "image" | "audio" as kind, "data": str(encoded)}:
            return f"[{_kind(part) or kind}, {len(encoded) * 3 // 4:,} bytes]"
        case {"type": "resource", "resource": {"text": str(text)}}:
            return text
        case {"type": "resource", "resource": {"blob": str(encoded)} as resource}:
            return f"[{_kind(resource) or 'resource'}, {len(encoded) * 3 // 4:,} bytes]"
        case {"type": "resource_link", "uri": str(uri)}:
            return f"[{uri}]"
        case _:
            return "[something that cannot be shown]"


def _kind(part: object) -> str:
    kind = cast("JsonObject", part).get("mimeType")
    return kind if isinstance(kind, str) else ""
