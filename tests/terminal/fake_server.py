"""A server that answers `swarmstream run` with frames of the test."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.conftest import TestServer

METADATA: dict[str, Any] = {
    "id": 1,
    "event": "metadata",
    "data": {"job_id": "swarms-1", "swarm_name": "x", "warnings": [], "t": 0},
}

START: dict[str, Any] = {
    "id": 2,
    "event": "agent_start",
    "data": {"agent": "A", "turn": 1, "stage": 1, "loop": 1, "t": 0},
}

USAGE: dict[str, Any] = {"id": 9, "event": "usage", "data": {"total_tokens": 7, "total_cost": 0.5, "t": 1}}


def ended(status: str) -> dict[str, Any]:
    data: dict[str, Any] = {"job_id": "swarms-1", "status": status, "execution_time": 1.0, "failed_agents": [], "t": 1}
    return {"id": 10, "event": "end", "data": data}


def line(frame: dict[str, Any]) -> bytes:
    return json.dumps(frame).encode() + b"\n"


Body = Callable[[], AsyncIterator[bytes]]


@asynccontextmanager
async def scripted_server(body: Body, on_cancel: Callable[[], Response] | None = None) -> AsyncGenerator[str]:
    """The URL of a server that answers each run with this body, and that may know how to cancel one."""

    def stream(_: Request) -> Response:
        return StreamingResponse(body(), media_type="application/x-ndjson")

    def cancel(_: Request) -> Response:
        return on_cancel() if on_cancel else Response(status_code=404)

    async with routes_served(
        Route("/v1/swarm/completions", stream, methods=["POST"]),
        Route("/v1/runs/swarms-1/cancel", cancel, methods=["POST"]),
    ) as url:
        yield url


@asynccontextmanager
async def routes_served(*routes: Route) -> AsyncGenerator[str]:
    server = TestServer(uvicorn.Config(Starlette(routes=routes), port=0, log_config=None, access_log=False))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.run_here)
        with anyio.fail_after(30):
            await server.listening.wait()
        try:
            yield server.url
        finally:
            server.should_exit = True
            server.leaving.set()
            with anyio.move_on_after(5, shield=True):
                await server.stopped.wait()
