"""A server whose model is held, the runs of its client, and the routes that a run has."""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx

from swarmstream.api.auth import KeyRing, owner_name
from swarmstream.api.stream_tokens import make_stream_token
from tests.clients.sse import events_of
from tests.conftest import KEY, client, serving
from tests.fakes.scripted_model import ScriptedModel

PAYLOAD: dict[str, Any] = {"task": "go", "agents": [{"agent_name": "A", "model_name": "demo/A"}]}
STREAM = {**PAYLOAD, "stream": True}
SWARM = "/v1/swarm/completions"


@asynccontextmanager
async def server(
    data_dir: Path | None, lines: Any = "ab", order: str = "", **settings: Any
) -> AsyncGenerator[tuple[httpx.AsyncClient, ScriptedModel]]:
    model = ScriptedModel(
        {
            "A": list(lines),
        },
        order=order,
    )
    with anyio.fail_after(30):
        async with serving(models={"demo": model}, data_dir=data_dir, **settings) as url, client(url) as http:
            yield http, model


async def held_run(http: httpx.AsyncClient, **fields: Any) -> str:
    """The id of a run that goes on, and waits for its model."""
    answer = await http.post(SWARM, json={**PAYLOAD, "background": True, **fields})
    assert answer.status_code == 202, answer.text
    return answer.json()["job_id"]


async def finished_run(http: httpx.AsyncClient) -> str:
    return (await http.post(SWARM, json=PAYLOAD)).json()["job_id"]


async def end_of(http: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """The data of a run's last event, once it is there."""
    async with http.stream("GET", path) as response:
        assert response.status_code == 200, await response.aread()
        return [event async for event in events_of(response)][-1].data


ROUTES = [
    ("GET", "/v1/runs/{}"),
    ("GET", "/v1/runs/{}/stream"),
    ("POST", "/v1/runs/{}/cancel"),
    ("POST", "/v1/runs/{}/stream-token"),
    ("DELETE", "/v1/runs/{}"),
    ("GET", "/v1/runs?after={}"),
]


def token_of(job_id: str, *, seconds_ago: float = 0, key: str = KEY) -> str:
    """A token as the server would have made it some time ago."""
    return make_stream_token(KeyRing([key]), owner_name(key), job_id, now=time.time() - seconds_ago)
