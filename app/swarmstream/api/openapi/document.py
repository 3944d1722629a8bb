"""The OpenAPI document: FastAPI's, completed.

FastAPI does not see the bodies that we read ourselves, event streams, problems, and docstrings of fields.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from swarmstream.api.openapi.answers import HEADERS, PROBLEMS, operation_answers, ref
from swarmstream.api.openapi.components import component_schemas
from swarmstream.api.openapi.examples import AGENT_EXAMPLES, SWARM_EXAMPLES
from swarmstream.api.openapi.parameters import PARAMETERS, operation_parameters
from swarmstream.swarm.payloads import AgentRequest, SwarmRequest

_ABOUT = """\
Runs one agent, or a team of agents, and streams every token, tagged with the agent who said it.

- **Keys**: send yours as `x-api-key` or as `Authorization: Bearer`.
- **Streams**: with `stream`, a completion route answers with Server-Sent Events, or with JSON lines where the request
  says `Accept: application/x-ndjson`. `AgentEvent` and `SwarmEvent` are the events as JSON lines have them; in an SSE
  frame `id`, `event` and `data` are fields of their own. `end` is always last, and nothing ends without it: a
  connection that closes earlier is broken, and `GET /v1/runs/{job_id}/stream` goes on where it was.
- **Mistakes** are answered by `application/problem+json` (RFC 9457) with a `code` for programs. In an open stream they
  are `error` events with the same codes.
- **Fields**: optional ones accept null as "not given". Ones that nobody knows are ignored, and named in `warnings`.
  Ignore events and fields of answers that you do not know: more will come.
"""
_TAGS = {
    "completions": "Runs an agent or a swarm of agents.",
    "runs": "Finds runs again: reads their streams from any event on, tells how they stand, ends or deletes them.",
    "catalog": "Tells what this server has: kinds of swarms, models, tools.",
    "health": "Tells how the server is, without a key.",
}
_SECURITY = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "One of the server's API keys."},
    "Bearer": {"type": "http", "scheme": "bearer", "description": "The same, as `Authorization: Bearer`."},
    "StreamToken": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "A token of `POST /v1/runs/{job_id}/stream-token`, which opens that run's stream only.",
    },
}


def serve_document(app: FastAPI) -> None:
    """Have the app serve the completed document, which is made at the first request for it."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    summary="Teams of LLM agents, every token streamed.",
                    description=_ABOUT,
                    license_info={"name": "MIT", "identifier": "MIT"},
                    tags=[{"name": name, "description": description} for name, description in _TAGS.items()],
                    routes=app.routes,
                )
            )
        return app.openapi_schema

    app.openapi = document


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    document["components"] = {
        "schemas": component_schemas(document["components"]["schemas"]),
        "responses": PROBLEMS,
        "headers": HEADERS,
        "parameters": {name: {"name": name, "in": "header", **rest} for name, rest in PARAMETERS.items()},
        "securitySchemes": _SECURITY,
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"] = operation_answers(operation, path)
            operation["parameters"] = operation_parameters(operation)
            if path.startswith("/v1/"):
                operation["security"] = _security(operation)
    for path, model, examples in (
        ("/v1/agent/completions", AgentRequest, AGENT_EXAMPLES),
        ("/v1/swarm/completions", SwarmRequest, SWARM_EXAMPLES),
    ):
        body = {"schema": ref(model.__name__), "examples": examples}
        document["paths"][path]["post"]["requestBody"] = {"required": True, "content": {"application/json": body}}
    return document


def _security(operation: dict[str, Any]) -> list[dict[str, list[str]]]:
    ways = ("ApiKey", "Bearer", *(["StreamToken"] if operation["operationId"] == "stream_run" else []))
    return [{way: []} for way in ways]
