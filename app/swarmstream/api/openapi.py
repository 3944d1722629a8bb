"""The OpenAPI document: FastAPI's, completed by the bodies that we read ourselves, by event streams and by what fields
mean, which is said in the source under each of them."""

import json
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

import swarmstream.api.catalog_shapes
import swarmstream.api.problems
import swarmstream.swarm.messages
import swarmstream.swarm.payloads
from swarmstream.api.field_docs import field_docs
from swarmstream.api.openapi_answers import HEADERS, PROBLEMS, REF, answers_of, ref
from swarmstream.api.openapi_examples import AGENT_EXAMPLES, SWARM_EXAMPLES
from swarmstream.api.problems import Problem
from swarmstream.swarm.payloads import AgentRequest, SwarmRequest
from swarmstream.wire.shapes import answers, events, outputs, runs, usage

_SHARED_FRAMES: dict[str, type] = {
    "start": events.StartFrame,
    "agent_start": events.AgentStartFrame,
    "turn_restart": events.TurnRestartFrame,
    "chunk": events.ChunkFrame,
    "reasoning": events.ReasoningFrame,
    "tool_start": events.ToolStartFrame,
    "tool_end": events.ToolEndFrame,
    "custom": events.CustomFrame,
    "agent_end": events.AgentEndFrame,
    "error": events.ErrorFrame,
}
AGENT_FRAMES: dict[str, type] = {
    "metadata": events.AgentMetadataFrame,
    **_SHARED_FRAMES,
    "usage": events.AgentUsageFrame,
    "end": events.AgentRunEndFrame,
}
"""The `data` of each event on the agent route."""
SWARM_FRAMES: dict[str, type] = {
    "metadata": events.SwarmMetadataFrame,
    **_SHARED_FRAMES,
    "usage": events.SwarmUsageFrame,
    "end": events.SwarmEndFrame,
}
"""The `data` of each event on the swarm route."""

_POSTED: list[type] = [AgentRequest, SwarmRequest]
_SENT: list[type] = [
    *AGENT_FRAMES.values(),
    *SWARM_FRAMES.values(),
    events.GapFrame,
    answers.AgentAnswer,
    answers.SwarmAnswer,
    answers.QueuedRun,
    runs.RunAnswer,
    runs.RunList,
    answers.RunSoFar,
    runs.StreamToken,
    runs.SwarmLogs,
    Problem,
]

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
_PARAMETERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {
        "description": "Your id for the request, which the answer and the log repeat: 1 to 128 letters, digits and "
        "`_ . : -`. Anything else is replaced by an id of the server's.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,128}$"},
    },
    "Idempotency-Key": {
        "description": "Makes the request one run, however often it is sent within 24 hours: later ones get the same "
        "run. With another body it is refused with 422. The run goes on without its client then.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    },
    "Last-Event-ID": {
        "description": "With an `Idempotency-Key`, on a repeated request: the last event that the client has of the "
        "run. What comes begins behind it.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,16}$"},
    },
    "traceparent": {
        "description": "The caller's place in a trace (W3C Trace Context), which is kept with the run.",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
    },
}
"""Headers that we read ourselves."""
_OF_COMPLETIONS = ("Idempotency-Key", "Last-Event-ID", "traceparent")


def describe(app: FastAPI) -> None:
    """Let the app serve the completed document, made when it is first asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    summary="Teams of LLM agents, every token streamed.",
                    description=_ABOUT,
                    license_info={"name": "MIT", "identifier": "MIT"},
                    tags=[{"name": name, "description": words} for name, words in _TAGS.items()],
                    routes=app.routes,
                )
            )
        return app.openapi_schema

    app.openapi = document


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document["components"]["schemas"] | _definitions([*_SENT, *_POSTED])
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's: ours is a problem
        schemas.pop(name, None)
    schemas["AgentEvent"] = _event(AGENT_FRAMES)
    schemas["SwarmEvent"] = _event(SWARM_FRAMES)
    schemas["RunProblem"] = _both(schemas["Problem"], schemas.pop("RunSoFar"))
    docs = field_docs(
        *(usage, outputs, events, answers, runs),
        swarmstream.swarm.messages,
        swarmstream.swarm.payloads,
        swarmstream.api.catalog_shapes,
        swarmstream.api.problems,
    )
    docs["RunProblem"] = docs["Problem"] | docs["RunSoFar"]
    for name, field, described in _fields(schemas):
        described.pop("title", None)
        if words := docs.get(name, {}).get(field):
            described["description"] = words
    for name in _within(schemas, {model.__name__ for model in _POSTED}):
        _as_posted(schemas[name])
    document["components"] = {
        "schemas": dict(sorted(schemas.items())),
        "responses": PROBLEMS,
        "headers": HEADERS,
        "parameters": {name: {"name": name, "in": "header", **rest} for name, rest in _PARAMETERS.items()},
        "securitySchemes": _SECURITY,
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"] = answers_of(operation, path)
            parameters = operation.get("parameters", [])
            for parameter in parameters:
                _tidy(parameter)
            is_completion = operation["tags"] == ["completions"]
            ours = ("X-Request-Id", *(_OF_COMPLETIONS if is_completion else ()))
            operation["parameters"] = [*parameters, *(ref(name, "parameters") for name in ours)]
            if path.startswith("/v1/"):
                ways = ("ApiKey", "Bearer", *(["StreamToken"] if operation["operationId"] == "stream_run" else []))
                operation["security"] = [dict[str, list[str]]({way: []}) for way in ways]
    for path, model, examples in (
        ("/v1/agent/completions", AgentRequest, AGENT_EXAMPLES),
        ("/v1/swarm/completions", SwarmRequest, SWARM_EXAMPLES),
    ):
        body = {"schema": ref(model.__name__), "examples": examples}
        document["paths"][path]["post"]["requestBody"] = {"required": True, "content": {"application/json": body}}
    return document


def _definitions(models: list[type]) -> dict[str, Any]:
    adapters: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]]
    adapters = [(model.__name__, "validation", TypeAdapter[Any](model)) for model in dict.fromkeys(models)]
    _, definitions = TypeAdapter.json_schemas(adapters, ref_template=REF.format(kind="schemas", name="{model}"))
    return definitions["$defs"]


def _event(frames: dict[str, type]) -> dict[str, Any]:
    """An event as a JSON line has it; in an SSE frame the same three stand in fields of their own."""
    number = {"type": "integer", "minimum": 1, "description": "The event's id, from 1: what `Last-Event-ID` takes."}
    gap = _named("gap", events.GapFrame)
    named = [_named(name, frame) for name, frame in frames.items()]
    for event in named:
        event["required"].insert(0, "id")
        event["properties"] = {"id": number, **event["properties"]}
    return {"oneOf": [*named, gap]}


def _named(name: str, frame: type) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "event": {"const": name, "description": "What happened."},
            "data": {**ref(frame.__name__), "description": "What there is to say about it."},
        },
    }


def _both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {
        **second,
        "title": "RunProblem",
        "description": "The body of an answer to a run that failed, or whose end is still to come.",
        "required": [*first["required"], *second["required"]],
        "properties": {**first["properties"], **second["properties"]},
    }


def _fields(schemas: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each field of the components, under the name of its component and its own."""
    for name, component in schemas.items():
        for field, described in component.get("properties", {}).items():
            yield name, field, described


def _within(schemas: dict[str, Any], names: set[str]) -> set[str]:
    """The names of these components and of all that they refer to."""
    found: set[str] = set()
    while names:
        found |= names
        text = json.dumps([schemas[name] for name in names])
        names = {name for name in schemas.keys() - found if f'"{REF.format(kind="schemas", name=name)}"' in text}
    return found


def _as_posted(component: dict[str, Any]) -> None:
    """Tell what a request may look like so that generated types take it: a field with a `default` would have to be
    there (openapi-typescript), an object with `additionalProperties` could have any misspelt field."""
    if component.get("additionalProperties") is True:
        del component["additionalProperties"]
    for name, field in component.get("properties", {}).items():
        if name in component.get("required", ()):
            field.pop("default", None)
        else:
            component["properties"][name] = _optional(field)


def _optional(field: dict[str, Any]) -> dict[str, Any]:
    """The field as it may be left out: null means the same, and the default is told in words."""
    default = field.pop("default", None)
    words = field.pop("description", "")
    if default not in (None, [], {}) and not isinstance(default, dict):
        words += f" Default: `{json.dumps(default)}`."
    branches = field.get("anyOf", [field])
    if {"type": "null"} not in branches:
        branches = [*branches, {"type": "null"}]
    around = field if "anyOf" in field else {}
    return {**around, "anyOf": branches, "description": words.strip()}


def _tidy(parameter: dict[str, Any]) -> None:
    """Take from a parameter what only bodies have: null, and the name again as a title."""
    described = parameter["schema"]
    described.pop("title", None)
    default = described.pop("default", None)
    if default is not None:
        parameter["description"] = f"{parameter.get('description', '')} Default: `{json.dumps(default)}`.".strip()
    if "anyOf" in described:
        branches = [branch for branch in described["anyOf"] if branch != {"type": "null"}]
        parameter["schema"] = branches[0] if len(branches) == 1 else {"anyOf": branches}
    parameter["schema"].pop("description", None)
