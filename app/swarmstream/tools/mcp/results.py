"""The results of MCP tools, as text for models."""

from collections.abc import Mapping
from typing import cast

from pydantic import JsonValue
from pydantic_core import to_json

from swarmstream.json_schema.validator import compile_schema
from swarmstream.llm.messages import JsonObject
from swarmstream.tools.errors import ToolError
from swarmstream.tools.mcp.listing import RemoteTool


def result_text(tool: RemoteTool, result: Mapping[str, JsonValue]) -> str:
    """Return the text of a result: its content, else its structured content as JSON.

    Raises:
        ToolError: the server reports a failure, or the result is malformed or breaks the tool's output schema.
    """
    content = result.get("content", [])
    if not isinstance(content, list) or result.get("resultType", "complete") != "complete":
        raise ToolError(f"{tool.name} answered with something that cannot be read")
    text = "\n".join(map(_part_text, content))
    structured = result.get("structuredContent")
    if result.get("isError") is True:
        raise ToolError(text or f"{tool.name} failed without a word")
    _check_output(tool, result)
    return text if text or structured is None else to_json(structured).decode()


def _check_output(tool: RemoteTool, result: Mapping[str, JsonValue]) -> None:
    if tool.output_schema is None:
        return
    schema = compile_schema(tool.output_schema)
    if "structuredContent" not in result or schema.violation(result["structuredContent"]):
        raise ToolError(f"the result of {tool.name} does not keep to the schema that the server declared")


def _part_text(part: JsonValue) -> str:
    """Return one part of a result's content: text as it is, anything else as a note in brackets."""
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "image" | "audio" as kind, "data": str(encoded)}:
            return f"[{_mime_type(part) or kind}, {len(encoded) * 3 // 4:,} bytes]"
        case {"type": "resource", "resource": {"text": str(text)}}:
            return text
        case {"type": "resource", "resource": {"blob": str(encoded)} as resource}:
            return f"[{_mime_type(resource) or 'resource'}, {len(encoded) * 3 // 4:,} bytes]"
        case {"type": "resource_link", "uri": str(uri)}:
            return f"[{uri}]"
        case _:
            return "[something that cannot be shown]"


def _mime_type(part: object) -> str:
    mime_type = cast("JsonObject", part).get("mimeType")
    return mime_type if isinstance(mime_type, str) else ""
