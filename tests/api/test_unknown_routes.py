"""Requests for unknown routes."""

from itertools import pairwise

import pytest

from swarmstream.api.unknown_routes import INSTEAD, NAMES, allowed_methods
from swarmstream.main import create_app
from swarmstream.settings import Settings
from tests.clients.raw import raw_client, status_of
from tests.conftest import client, serving

pytestmark = pytest.mark.anyio

HOSTED = """
graph-workflow/completions batched-grid-workflow/completions agent/batch/completions swarm/batch/completions
advanced-research/completions reasoning-agent/completions reasoning-agent/types agents/list account/credits
metrics/summary agents/auto-generate chat/completions responses embeddings
"""


async def test_a_route_of_the_hosted_api_or_of_openai_is_answered_with_its_replacement() -> None:
    async with serving() as url, client(url, key=None) as http:
        for path in [*INSTEAD, *(f"/v1/{path}" for path in HOSTED.split())]:
            for answer in (await http.get(path), await http.post(path, json={})):
                body = answer.json()
                assert (answer.status_code, body["code"]) == (404, "not_found"), path
                assert answer.headers["content-type"] == "application/problem+json"
                assert body["detail"].startswith(f"{path} is not a route of this server; "), path
                assert body["error"]["message"] == body["detail"]


def test_every_replacement_exists() -> None:
    routes = create_app(Settings.model_construct(), environ={}).routes
    for path, instead in INSTEAD.items():
        assert not allowed_methods(routes, path), path
        pieces = instead.replace(";", " ").replace(",", " ").split()
        for method, route in pairwise(pieces):
            if route.startswith("/v1/"):
                assert method in allowed_methods(routes, route), instead


async def test_a_path_that_is_nearly_a_route_is_answered_with_the_route() -> None:
    meant = {
        "/v1/runs/": "/v1/runs",
        "/v1/swarm/completions/": "/v1/swarm/completions",
        "/v1/runs/agent-1/": "/v1/runs/agent-1",
        "/v1/v1/models": "/v1/models",
        "/models": "/v1/models",
        "/v1/models/": "/v1/models",
        "/v1/models/available/": "/v1/models/available",
        "/v1/health": "/health",
        "/docs/": "/docs",
        "/v1/swarm/completion": "/v1/swarm/completions",
        "/v1/swarms/completions": "/v1/swarm/completions",
        "/v1/agents/completions": "/v1/agent/completions",
    }
    async with serving() as url, client(url) as http:
        for path, route in meant.items():
            answer = await http.get(path)
            assert answer.status_code == 404, path
            assert "location" not in answer.headers
            assert answer.json()["detail"] == f'"{path}" is not a route; did you mean "{route}"?'
        for path in ("/chat/completions", "/v1/chat/completions/", "/v1/v1/chat/completions"):
            assert (await http.post(path)).json()["detail"].startswith("/v1/chat/completions is not a route"), path
    async with serving() as url, raw_client(url) as raw:
        await raw.send(b"GET //v1//runs HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer, _ = await raw.rest()
    assert status_of(answer) == 404
    assert b'did you mean \\"/v1/runs\\"?' in answer


def test_every_suggested_route_exists() -> None:
    routes = create_app(Settings.model_construct(), environ={}).routes
    assert [path for path in NAMES if not allowed_methods(routes, path)] == []


async def test_any_other_path_is_answered_with_the_docs_page() -> None:
    async with serving() as url, client(url, key=None) as http:
        for path in ("/nowhere", "/v1", "/v1/", "/v1/v1", "/docs/x", "/v1/runs/a/b/c", "/" + "x" * 5000, "/%0a%00"):
            answer = await http.get(path)
            assert answer.status_code == 404
            assert answer.json()["detail"] == "there is no such route; see /docs", path
        long = (await http.get("/docs/" + "/" * 5000)).json()["detail"]
    assert len(long) < 300


async def test_a_wrong_method_is_answered_with_the_allowed_ones() -> None:
    taken = {
        ("GET", "/v1/swarm/completions"): "POST",
        ("POST", "/v1/runs/agent-1"): "GET, DELETE",
        ("PUT", "/v1/runs"): "GET",
        ("OPTIONS", "/v1/runs"): "GET",
        ("POST", "/"): "GET, HEAD",
        ("PATCH", "/docs/swagger-ui.css"): "GET",
    }
    async with serving() as url, client(url, key=None) as http:
        for (method, path), methods in taken.items():
            answer = await http.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
            assert answer.headers["allow"] == methods
            assert answer.json()["detail"] == f'"{path}" takes {methods}, not "{method}"'
