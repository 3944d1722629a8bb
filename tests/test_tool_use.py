"""Agents that call tools, over HTTP: what the provider is asked, what the client sees (ENGINE.md, "One turn")."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.conftest import client
from tests.local import local_models
from tests.sse import ServerEvent, check_stream, events_of
from tests.upstream import Exchange, Script, provider

pytestmark = pytest.mark.anyio


def add(a: int, b: int) -> int:
    """Add two integers and return the result."""
    return a + b


def call(name: str, arguments: Any, *, index: int = 0) -> dict[str, Any]:
    """A whole tool call as a provider sends it."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {
        "index": index,
        "id": f"call_{name}_{index}",
        "type": "function",
        "function": {"name": name, "arguments": text},
    }


async def calls(exchange: Exchange, *tool_calls: dict[str, Any], text: str = "") -> None:
    """An answer that says something and calls tools."""
    await exchange.open()
    if text:
        await exchange.say(text)
    await exchange.delta(tool_calls=list(tool_calls))
    await exchange.finish("tool_calls")


async def says(exchange: Exchange, *texts: str) -> None:
    await exchange.open()
    await exchange.say(*texts)
    await exchange.finish()


def results(exchange: Exchange) -> list[str]:
    """What the tools answered, as the model is told."""
    return [message["content"] for message in exchange.body["messages"] if message["role"] == "tool"]


def offered(exchange: Exchange) -> list[str]:
    return [tool["function"]["name"] for tool in exchange.body.get("tools", [])]


async def run(
    script: Script, tmp_path: Path, agent: dict[str, Any], *, settings: dict[str, Any] | None = None, **fields: Any
) -> tuple[list[ServerEvent], list[Exchange]]:
    """The events of one agent's run, and what its provider was asked."""
    payload = {"agent_config": {"agent_name": "A", **agent}, "task": "go", "stream": True, **fields}
    with anyio.fail_after(20):
        async with (
            provider(script) as upstream,
            local_models(upstream, tmp_path, **(settings or {})) as url,
            client(url) as http,
            http.stream("POST", "/v1/agent/completions", json=payload) as response,
        ):
            assert response.status_code == 200, (await response.aread()).decode()
            events = [event async for event in events_of(response)]
            await upstream.idle()
    check_stream(events)
    return events, upstream.exchanges


def named(events: list[ServerEvent], *names: str) -> list[ServerEvent]:
    return [event for event in events if event.event in names]


ADD = {"tools": ("tests.test_tool_use:add",)}


async def test_the_result_of_a_tool_comes_back_once(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        if not results(exchange):
            await calls(exchange, call("add", {"a": 17, "b": 25}), text="Let me add. ")
        else:
            await says(exchange, "17 + 25 = ", results(exchange)[0])

    events, exchanges = await run(script, tmp_path, {"selected_tools": ["add"], "max_loops": 3}, settings=ADD)
    assert [event.event for event in events] == [
        *("metadata", "start", "agent_start", "chunk", "tool_start", "tool_end", "chunk", "chunk", "agent_end"),
        *("usage", "end"),
    ]
    started, ended = named(events, "tool_start", "tool_end")
    assert (started.data["tool"], started.data["arguments"]) == ("add", {"a": 17, "b": 25})
    assert (ended.data["output"], ended.data["is_error"]) == ("42", False)
    assert started.data["tool_call_id"] == ended.data["tool_call_id"] == "call_add_0"
    assert [chunk.data.get("step") for chunk in named(events, "chunk")] == [None, 2, 2]
    assert named(events, "agent_end")[0].data["output"] == "17 + 25 = 42"
    assert len(exchanges) == 2
    assert [message["role"] for message in exchanges[1].body["messages"]] == ["user", "assistant", "tool"]
