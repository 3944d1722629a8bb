"""A tool of an MCP server, as models call it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from swarmstream.tools.base import Tool
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolError
from swarmstream.tools.mcp.connection import ServerConnection
from swarmstream.tools.mcp.errors import McpUnavailable
from swarmstream.tools.mcp.listing import RemoteTool
from swarmstream.tools.mcp.results import result_text

MAX_PROGRESS_EVENTS: Final = 100
"""Of one call."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class McpTool(Tool):
    """A server's tool during one turn."""

    _remote: RemoteTool
    _connection: ServerConnection

    async def perform(self, values: Mapping[str, JsonValue], context: ToolContext) -> str:
        self._remote.check_arguments(values)
        left = MAX_PROGRESS_EVENTS

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            nonlocal left
            if left > 0:
                left -= 1
                await context.report_progress(progress, total)

        try:
            result = await self._connection.use(
                lambda session: session.call(self._remote.original, values, on_progress)
            )
        except McpUnavailable as error:
            raise ToolError(f"the MCP server {self._connection.origin} {error}") from error
        return result_text(self._remote, result)


def mcp_tool(remote: RemoteTool, connection: ServerConnection) -> McpTool:
    """Return the tool that calls `remote` through this connection."""
    return McpTool(
        name=remote.name,
        description=remote.description,
        parameters=remote.input_schema,
        timeout_seconds=connection.server.timeout_seconds,
        _remote=remote,
        _connection=connection,
    )
