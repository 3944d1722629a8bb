"""Answers to requests for unknown routes: the route that may be meant, and what this server has instead.

Routes are public (docs/, `/openapi.json`), so these answers need no key.
"""

import re
from collections.abc import Sequence

from starlette.requests import Request
from starlette.routing import BaseRoute, Match

from swarmstream.errors import quote
from swarmstream.spelling import closest_name

_METHODS = ("GET", "HEAD", "POST", "DELETE")

_ONE_BY_ONE = "POST /v1/{kind}/completions takes one at a time; with background: true it answers at once"
_SWARMS = "POST /v1/swarm/completions runs the swarm types that GET /v1/swarms/available lists"
_REASONING = "POST /v1/agent/completions takes reasoning_effort and thinking_tokens"
_RUNS = "GET /v1/runs lists your runs and their usage"
_OWN_AGENTS = "each request brings its own agents, and none are kept"
_OPENAI = (
    "POST /v1/agent/completions runs an agent and takes OpenAI's messages as history; of OpenAI's routes, "
    "GET /v1/models is here"
)

INSTEAD = {
    "/v1/agent/batch/completions": _ONE_BY_ONE.format(kind="agent"),
    "/v1/swarm/batch/completions": _ONE_BY_ONE.format(kind="swarm"),
    "/v1/swarm/schedule": "POST /v1/swarm/completions runs a swarm now; with background: true it answers at once",
    "/v1/batched-grid-workflow/completions": _ONE_BY_ONE.format(kind="swarm"),
    "/v1/graph-workflow/completions": "AgentRearrange on POST /v1/swarm/completions runs flows such as A -> B, C -> D",
    "/v1/advanced-research/completions": _SWARMS,
    "/v1/advanced-research/batch/completions": _SWARMS,
    "/v1/auto-swarm-builder/completions": _SWARMS,
    "/v1/auto-swarm-builder/execution-types": _SWARMS,
    "/v1/reasoning-agent/completions": _REASONING,
    "/v1/reasoning-agent/types": _REASONING,
    "/v1/agents/list": _OWN_AGENTS,
    "/v1/agents/auto-generate": _OWN_AGENTS,
    "/v1/account/credits": _RUNS,
    "/v1/account/logs": _RUNS,
    "/v1/account/metrics/summary": _RUNS,
    "/v1/metrics/summary": _RUNS,
    "/v1/usage/costs": _RUNS,
    "/v1/chat/completions": _OPENAI,
    "/v1/completions": _OPENAI,
    "/v1/responses": _OPENAI,
    "/v1/embeddings": _OPENAI,
    "/v1/audio/speech": _OPENAI,
    "/v1/audio/transcriptions": _OPENAI,
}
"""Routes of the hosted Swarms API and of OpenAI, with what this server has instead."""


NAMES = (
    "/v1/agent/completions",
    "/v1/swarm/completions",
    "/v1/swarm/logs",
    "/v1/swarms/available",
    "/v1/models",
    "/v1/models/available",
    "/v1/tools/available",
    "/v1/rate/limits",
    "/v1/runs",
    "/openapi.json",
    "/health",
)
"""Routes that a misspelt path may stand for."""


def explain_unknown_route(request: Request) -> str:
    """Return the sentence for a path that is no route."""
    routes, path = request.app.routes, request.scope["path"]
    for tidy in _tidy_forms(path):
        if tidy in INSTEAD:
            return f"{tidy} is not a route of this server; {INSTEAD[tidy]}"
        if tidy != path and allowed_methods(routes, tidy):
            return f"{quote(path)} is not a route; did you mean {quote(tidy)}?"
    if closest := closest_name(path, NAMES):
        return f"{quote(path)} is not a route; did you mean {quote(closest)}?"
    return "there is no such route; see /docs" if allowed_methods(routes, "/docs") else "there is no such route"


def allowed_methods(routes: Sequence[BaseRoute], path: str) -> list[str]:
    """Return the methods that a path takes; empty if it is no route."""

    def is_taken(method: str) -> bool:
        scope = {"type": "http", "method": method, "path": path, "root_path": ""}
        return any(route.matches(dict(scope))[0] is Match.FULL for route in routes)

    return [method for method in _METHODS if is_taken(method)]


def _tidy_forms(path: str) -> list[str]:
    """Return forms of the path without repeated slashes and with exactly one `/v1`, which a base address may have or
    lack."""
    tidy = re.sub("/{2,}", "/", path).rstrip("/")
    rest = re.sub("^(/v1)+(?=/)", "", tidy)
    return [tidy, f"/v1{rest}", rest]
