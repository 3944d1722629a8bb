"""The OpenAPI document: FastAPI's, completed by the bodies that we read ourselves, and by event streams."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from app.api.problems import Problem
from app.swarm.spec import AgentRequest, SwarmRequest
from app.wire import schema

_REF = "#/components/schemas/{model}"

_SHARED_FRAMES: dict[str, type] = {
    "start": schema.StartFrame,
    "agent_start": schema.AgentStartFrame,
    "turn_restart": schema.TurnRestartFrame,
    "chunk": schema.ChunkFrame,
    "reasoning": schema.ReasoningFrame,
    "tool_start": schema.ToolStartFrame,
    "tool_end": schema.ToolEndFrame,
    "custom": schema.CustomFrame,
    "agent_end": schema.AgentEndFrame,
    "error": schema.ErrorFrame,
}
AGENT_FRAMES: dict[str, type] = {
    "metadata": schema.AgentMetadataFrame,
    **_SHARED_FRAMES,
    "usage": schema.AgentUsageFrame,
    "end": schema.AgentRunEndFrame,
}
"""The `data` of each event on the agent route."""
SWARM_FRAMES: dict[str, type] = {
    "metadata": schema.SwarmMetadataFrame,
    **_SHARED_FRAMES,
    "usage": schema.SwarmUsageFrame,
    "end": schema.SwarmEndFrame,
}
"""The `data` of each event on the swarm route."""

_REFUSALS = {
    "400": "the payload cannot be run as it is",
    "401": "the key is missing or wrong",
    "403": "a tool is not for this key",
    "408": "the head or the body did not arrive in time",
    "413": "the body is too large",
    "415": "the body is not JSON",
    "422": "the body has the wrong shape",
    "431": "the head is too large",
    "503": "the server is full or about to stop; see Retry-After",
}
_FAILURES = {
    "409": "not streamed: the run was cancelled",
    "500": "not streamed: a bug of this server's",
    "502": "not streamed: a provider failed",
    "504": "not streamed: a clock ran out",
}


def describe(app: FastAPI) -> None:
    """Let the app serve the completed document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(get_openapi(title=app.title, version=app.version, routes=app.routes))
        return app.openapi_schema

    app.openapi = document


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    shapes = [*AGENT_FRAMES.values(), *SWARM_FRAMES.values(), schema.AgentAnswer, schema.SwarmAnswer, schema.RunAnswer]
    shapes += [AgentRequest, SwarmRequest, Problem]
    adapters: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]]
    adapters = [(shape.__name__, "validation", TypeAdapter[Any](shape)) for shape in dict.fromkeys(shapes)]
    _, definitions = TypeAdapter.json_schemas(adapters, ref_template=_REF)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas |= definitions["$defs"]
    schemas["AgentEvent"] = _event(AGENT_FRAMES)
    schemas["SwarmEvent"] = _event(SWARM_FRAMES)
    components["schemas"] = dict(sorted(schemas.items()))
    components["securitySchemes"] = {
        "ApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "Bearer": {"type": "http", "scheme": "bearer"},
    }
    _completion(document, "/v1/agent/completions", "AgentRequest", "AgentAnswer", "AgentEvent")
    _completion(document, "/v1/swarm/completions", "SwarmRequest", "SwarmAnswer", "SwarmEvent")
    stream = document["paths"]["/v1/runs/{job_id}/stream"]["get"]["responses"]
    stream["200"] = {
        "description": "The run's events",
        "content": {"text/event-stream": {"schema": {"anyOf": [_ref("AgentEvent"), _ref("SwarmEvent")]}}},
    }
    stream["204"] = {"description": "The run is over and has been read to its end"}
    stream |= {"400": _problem("the cursor is no number"), "404": _problem("there is no such run, or not of this key")}
    for path, method in {"/v1/runs/{job_id}": "get", "/v1/runs/{job_id}/cancel": "post"}.items():
        run = document["paths"][path][method]["responses"]
        run["200"] = {"description": "The run", "content": {"application/json": {"schema": _ref("RunAnswer")}}}
        run["404"] = _problem("there is no such run, or not of this key")
    for path, operations in document["paths"].items():
        if path.startswith("/v1/"):
            for operation in operations.values():
                operation["security"] = [{"ApiKey": []}, {"Bearer": []}]
                operation["responses"].setdefault("401", _problem(_REFUSALS["401"]))
    return document


def _completion(document: dict[str, Any], path: str, request: str, answer: str, event: str) -> None:
    operation = document["paths"][path]["post"]
    operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(request)}}}
    operation["responses"] = {
        "200": {
            "description": "The answer; with `stream`, events (as JSON lines with `Accept: application/x-ndjson`)",
            "headers": {"Location": {"schema": {"type": "string"}, "description": "where the run can be read again"}},
            "content": {
                "application/json": {"schema": _ref(answer)},
                "text/event-stream": {"schema": _ref(event)},
                "application/x-ndjson": {"schema": _ref(event)},
            },
        },
        **{status: _problem(words) for status, words in sorted((_REFUSALS | _FAILURES).items())},
    }


def _event(frames: dict[str, type]) -> dict[str, Any]:
    """An event as a JSON line has it; in an SSE frame the same three stand in fields of their own."""
    return {
        "oneOf": [
            {
                "type": "object",
                "required": ["id", "event", "data"],
                "properties": {
                    "id": {"type": "integer", "minimum": 1},
                    "event": {"const": name},
                    "data": _ref(model.__name__),
                },
            }
            for name, model in frames.items()
        ]
    }


def _problem(words: str) -> dict[str, Any]:
    return {"description": words, "content": {"application/problem+json": {"schema": _ref("Problem")}}}


def _ref(model: str) -> dict[str, str]:
    return {"$ref": _REF.format(model=model)}
