"""Schemas of the OpenAPI document: payloads, answers, events, with the docstrings of their fields."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

import swarmstream.api.catalog_shapes
import swarmstream.api.problems
import swarmstream.swarm.messages
import swarmstream.swarm.payloads
from swarmstream.api.openapi.answers import REF, ref
from swarmstream.api.openapi.field_docs import field_docs
from swarmstream.api.openapi.frames import AGENT_FRAMES, SWARM_FRAMES
from swarmstream.api.problems import Problem
from swarmstream.swarm.payloads import AgentRequest, SwarmRequest
from swarmstream.wire.shapes import answers, events, outputs, runs, usage

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


def component_schemas(own: dict[str, Any]) -> dict[str, Any]:
    """Return the schemas of all components, sorted by name; `own` are those that FastAPI has found."""
    schemas = own | _definitions([*_SENT, *_POSTED])
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's: ours is a problem
        schemas.pop(name, None)
    schemas["AgentEvent"] = _event(AGENT_FRAMES)
    schemas["SwarmEvent"] = _event(SWARM_FRAMES)
    schemas["RunProblem"] = _run_problem(schemas["Problem"], schemas.pop("RunSoFar"))
    _describe_fields(schemas)
    for name in _closure(schemas, {model.__name__ for model in _POSTED}):
        _relax(schemas[name])
    return dict(sorted(schemas.items()))


def _describe_fields(schemas: dict[str, Any]) -> None:
    docs = field_docs(
        usage,
        outputs,
        events,
        answers,
        runs,
        swarmstream.swarm.messages,
        swarmstream.swarm.payloads,
        swarmstream.api.catalog_shapes,
        swarmstream.api.problems,
    )
    docs["RunProblem"] = docs["Problem"] | docs["RunSoFar"]
    for name, field, schema in _each_field(schemas):
        schema.pop("title", None)
        if description := docs.get(name, {}).get(field):
            schema["description"] = description


def _definitions(models: list[type]) -> dict[str, Any]:
    adapters: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]]
    adapters = [(model.__name__, "validation", TypeAdapter[Any](model)) for model in dict.fromkeys(models)]
    _, definitions = TypeAdapter.json_schemas(adapters, ref_template=REF.format(kind="schemas", name="{model}"))
    return definitions["$defs"]


def _event(frames: dict[str, type]) -> dict[str, Any]:
    """Return the schema of an event as a JSON line has it; in an SSE frame the same three are fields of their own."""
    number = {"type": "integer", "minimum": 1, "description": "The event's id, from 1: what `Last-Event-ID` takes."}
    gap = _named_event("gap", events.GapFrame)
    named = [_named_event(name, frame) for name, frame in frames.items()]
    for event in named:
        event["required"].insert(0, "id")
        event["properties"] = {"id": number, **event["properties"]}
    return {"oneOf": [*named, gap]}


def _named_event(name: str, frame: type) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "event": {"const": name, "description": "What happened."},
            "data": {**ref(frame.__name__), "description": "What there is to say about it."},
        },
    }


def _run_problem(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {
        **second,
        "title": "RunProblem",
        "description": "The body of an answer to a run that failed, or whose end is still to come.",
        "required": [*first["required"], *second["required"]],
        "properties": {**first["properties"], **second["properties"]},
    }


def _each_field(schemas: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each field of the components: component name, field name, schema."""
    for name, component in schemas.items():
        for field, schema in component.get("properties", {}).items():
            yield name, field, schema


def _closure(schemas: dict[str, Any], names: set[str]) -> set[str]:
    """Return the names of these components and of all that they refer to."""
    found: set[str] = set()
    while names:
        found |= names
        text = json.dumps([schemas[name] for name in names])
        names = {name for name in schemas.keys() - found if f'"{REF.format(kind="schemas", name=name)}"' in text}
    return found


def _relax(component: dict[str, Any]) -> None:
    """Describe a payload so that generated types accept what the server accepts.

    A field with a `default` would be required (openapi-typescript), and an object with `additionalProperties` would
    accept any misspelt field.
    """
    if component.get("additionalProperties") is True:
        del component["additionalProperties"]
    for name, field in component.get("properties", {}).items():
        if name in component.get("required", ()):
            field.pop("default", None)
        else:
            component["properties"][name] = _optional(field)


def _optional(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field that may be left out: null means the same, and its description names the default."""
    default = field.pop("default", None)
    description = field.pop("description", "")
    if default not in (None, [], {}) and not isinstance(default, dict):
        description += f" Default: `{json.dumps(default)}`."
    branches = field.get("anyOf", [field])
    if {"type": "null"} not in branches:
        branches = [*branches, {"type": "null"}]
    around = field if "anyOf" in field else {}
    return {**around, "anyOf": branches, "description": description.strip()}
