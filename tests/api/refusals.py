"""The error body that all routes share, and a server whose model must not be asked."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.conftest import client, serving
from tests.fakes.scripted_model import ScriptedModel

SWARM = "/v1/swarm/completions"
AGENT = "/v1/agent/completions"
MAX_ERROR_BYTES = 4096


def agent(name: str = "A", **fields: Any) -> dict[str, Any]:
    return {"agent_name": name, "model_name": f"demo/{name}", **fields}


def swarm(**fields: Any) -> dict[str, Any]:
    return {"task": "go", "agents": [agent("A"), agent("B")], **fields}


def check_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Whether an answer has the error body that all routes share; the body."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) <= MAX_ERROR_BYTES
    body = answer.json()
    assert body.keys() >= {"type", "title", "status", "detail", "code", "request_id", "errors", "error"}
    assert body["status"] == status
    assert body["code"] == body["error"]["code"] == code
    assert body["error"]["message"] == body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    return body


@asynccontextmanager
async def refusing_server(**settings: Any) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of a server whose model must not be asked."""
    model = ScriptedModel({"A": ["a"], "B": ["b"]})
    async with serving(models={"demo": model}, **settings) as url, client(url) as http:
        yield http
    assert not model.calls
