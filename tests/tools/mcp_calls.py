"""Calls of MCP servers' tools through a hub."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from anyio import fail_after
from pydantic import JsonValue

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.tools.base import Tool
from swarmstream.tools.context import ToolContext
from swarmstream.tools.mcp.hub import McpHub, McpTools
from swarmstream.tools.mcp.server import McpServer
from tests.fakes.mcp_server import OBJECT, McpRequest

SECRET = "hush-hush-token"
Written = list[tuple[str, JsonValue]]


def hub(*entries: str, clock: Clock = SYSTEM_CLOCK) -> McpHub:
    return McpHub(AllowedHosts(entries or ["127.0.0.1", "localhost"]), clock=clock)


def server(url: str, **more: Any) -> McpServer:
    return McpServer(url, (("authorization", f"Bearer {SECRET}"),), **more)


def named(session: McpTools) -> dict[str, Tool]:
    assert not session.faults, session.faults
    return {tool.name: tool for tool in session.tools}


async def call(tool: Tool, events: Written | None = None, clock: Clock = SYSTEM_CLOCK, **values: Any) -> str:
    written: Written = [] if events is None else events

    def sink(name: str, data: JsonValue) -> None:
        written.append((name, data))

    context = ToolContext(agent="a", turn=1, tool_call_id="c", tool=tool.name, sink=sink)
    with fail_after(30):
        return await tool.call(json.dumps(values), context, clock)


@asynccontextmanager
async def tools_of(url: str, mcp_hub: McpHub | None = None, **more: Any) -> AsyncGenerator[dict[str, Tool]]:
    with fail_after(30):
        async with (mcp_hub or hub()).session([server(url, **more)]) as session:
            yield named(session)


async def fault_of(url: str, mcp_hub: McpHub | None = None) -> str:
    """Why this server offers nothing."""
    with fail_after(30):
        async with (mcp_hub or hub()).session([server(url)]) as session:
            [fault] = session.faults
            assert not session.tools
    assert SECRET not in fault.message
    return fault.message


def described(name: str, **more: JsonValue) -> JsonValue:
    return {"name": name, "inputSchema": OBJECT, **more}


def answering(*parts: Any, **more: Any) -> Any:
    async def answer(asked: McpRequest) -> None:
        await asked.result({"content": list(parts), **more})

    return answer
