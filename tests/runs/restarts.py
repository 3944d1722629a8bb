"""Runs of a server that is stopped or killed, and read again from the next process."""

from collections.abc import Sequence
from typing import Any

import httpx

from tests.clients.sse import ServerEvent, events_of
from tests.conftest import KEY

SWARM = "/v1/swarm/completions"
TEAM: dict[str, Any] = {
    "task": "go",
    "rearrange_flow": "A -> B -> C",
    "agents": [{"agent_name": name, "system_prompt": name, "num_retries": 0} for name in "ABC"],
    "stream": True,
    "stream_options": {"include_output": False},
    "on_disconnect": "continue",
}


def headers(**more: str) -> dict[str, str]:
    return {"x-api-key": KEY, **more}


async def read(url: str, path: str, after: int = 0) -> list[ServerEvent]:
    """The events of a run from behind this one to its end."""
    async with (
        httpx.AsyncClient(base_url=url, timeout=10) as http,
        http.stream("GET", path, headers=headers(**{"Last-Event-ID": str(after)})) as response,
    ):
        assert response.status_code == 200, await response.aread()
        return [event async for event in events_of(response)]


def fold(events: Sequence[ServerEvent]) -> dict[int, str]:
    """Each turn's text, as a client has it that discards what it is told to discard."""
    texts: dict[int, list[tuple[int, str]]] = {}
    for event in events:
        turn = event.data.get("turn", 0)
        if event.event == "agent_start":
            texts[turn] = []
        elif event.event == "chunk":
            assert event.id is not None
            texts[turn].append((event.id, event.data["content"]))
        elif event.event == "turn_restart":
            texts[turn] = [piece for piece in texts[turn] if piece[0] < event.data["discard_from"]]
        elif event.event == "agent_end":
            assert "".join(text for _, text in texts[turn]).endswith(event.data["output"])
    return {turn: "".join(text for _, text in pieces) for turn, pieces in texts.items()}
