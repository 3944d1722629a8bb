"""Requests that no route takes: the answer says what the client may have meant, and what there is instead.

Routes are public (docs/, `/openapi.json`): nothing is told here that needs a key.
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
"""What there is here for who asks for one of these routes of the hosted Swarms API's or of OpenAI's."""


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


def no_such_route(request: Request) -> str:
    """What to tell about a path that is no route."""
    routes, path = request.app.routes, request.scope["path"]
    for tidy in _tidied(path):
        if tidy in INSTEAD:
            return f"{tidy} is not a route of this server; {INSTEAD[tidy]}"
        if tidy != path and methods_of(routes, tidy):
            return f"{quote(path)} is not a route; did you mean {quote(tidy)}?"
    if near := closest_name(path, NAMES):
        return f"{quote(path)} is not a route; did you mean {quote(near)}?"
    return "there is no such route; see /docs" if methods_of(routes, "/docs") else "there is no such route"


def methods_of(routes: Sequence[BaseRoute], path: str) -> list[str]:
    """The methods that a path can be asked with: none where it is no route."""

    def is_taken(method: str) -> bool:
        scope = {"type": "http", "method": method, "path": path, "root_path": ""}
        return any(route.matches(dict(scope))[0] is Match.FULL for route in routes)

    return [method for method in _METHODS if is_taken(method)]


def _tidied(path: str) -> list[str]:
    """The path as it may have been meant: without slashes too many, and with one `/v1`, which a base address may have
    or lack."""
    tidy = re.sub("/{2,}", "/", path).rstrip("/")
    rest = re.sub("^(/v1)+(?=/)", "", tidy)
    return [tidy, f"/v1{rest}", rest]
