"""A client that has agents run against a scripted provider."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import httpx

from tests.clients.sse import ServerEvent, check_stream, events_of
from tests.conftest import client
from tests.fakes.local_models import local_models
from tests.fakes.tools import TOOLS
from tests.fakes.upstream import Exchange, Script, provider

AGENT = "/v1/agent/completions"
SWARM = "/v1/swarm/completions"

Listener: TypeAlias = Callable[[ServerEvent], None]


def swarm_of(*agents: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A swarm of agents that tell the provider their names."""
    return {"agents": [{"system_prompt": agent["agent_name"], **agent} for agent in agents], **fields}


async def run(
    script: Script,
    tmp_path: Path,
    agent: dict[str, Any] | None = None,
    *,
    settings: dict[str, Any] | None = None,
    on: Listener | None = None,
    meanwhile: Callable[[], Coroutine[Any, Any, None]] | None = None,
    **fields: Any,
) -> tuple[list[ServerEvent], list[Exchange]]:
    """The events of a run of one agent, or of a swarm, and what their provider was asked. `on` is told of each event
    as it comes; `meanwhile` goes on beside it."""
    path = SWARM if agent is None else AGENT
    config = {} if agent is None else {"agent_config": {"agent_name": "A", **agent}}
    payload = {**config, "task": "go", "stream": True, **fields}
    events: list[ServerEvent] = []
    async with (
        provider(script) as upstream,
        local_models(upstream, tmp_path, **{**TOOLS, **(settings or {})}) as url,
        client(url) as http,
    ):
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                if meanwhile is not None:
                    tasks.start_soon(meanwhile)
                async with http.stream("POST", path, json=payload) as response:
                    assert response.status_code == 200, (await response.aread()).decode()
                    async for event in events_of(response):
                        events.append(event)
                        if on is not None:
                            on(event)
            await upstream.idle()
    check_stream(events)
    return events, upstream.exchanges


async def answer_of(script: Script, tmp_path: Path, payload: dict[str, Any], **settings: Any) -> httpx.Response:
    """The answer to a request that does not stream."""
    path = AGENT if "agent_config" in payload else SWARM
    async with (
        provider(script) as upstream,
        local_models(upstream, tmp_path, **TOOLS, **settings) as url,
        client(url) as http,
    ):
        with anyio.fail_after(30):
            return await http.post(path, json={"task": "go", **payload})


def named(events: list[ServerEvent], *names: str) -> list[ServerEvent]:
    return [event for event in events if event.event in names]


def outline(events: list[ServerEvent]) -> list[str]:
    """The events between the first two and the last two."""
    return [event.event for event in events[2:-2]]
