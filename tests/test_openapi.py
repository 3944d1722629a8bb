"""The OpenAPI document is what the code serves, and what is served keeps to it."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from app.api.openapi import AGENT_FRAMES, SWARM_FRAMES
from app.errors import ProviderError
from app.llm.base import Opened, Reasoning, ToolCallDelta
from app.main import create_app
from app.settings import Settings
from tests.clock import DrivenClock
from tests.conftest import client, serving
from tests.scripted import Line, ScriptedModel
from tests.sse import ServerEvent, check_stream, events_of

pytestmark = pytest.mark.anyio

DOCUMENT = Path(__file__).parent.parent / "openapi" / "openapi.json"


def _document() -> dict[str, Any]:
    return json.loads(DOCUMENT.read_text())


def _check(name: str, value: Any) -> None:
    """Hold a value to one of the document's components, which must name all of its fields."""
    document = _document()
    for schema in document["components"]["schemas"].values():
        if schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
    resource: Resource[Any] = Resource.from_contents(document, DRAFT202012)
    registry: Registry[Any] = Registry([("urn:doc", resource)])  # pyright: ignore[reportCallIssue]
    validator: Any = Draft202012Validator({"$ref": f"urn:doc#/components/schemas/{name}"}, registry=registry)
    validator.validate(value)


def test_the_committed_document_is_the_codes() -> None:
    served = create_app(Settings.model_construct()).openapi()
    assert _document() == json.loads(json.dumps(served)), "run scripts/openapi"


def test_every_event_has_a_schema_for_its_data() -> None:
    components = _document()["components"]["schemas"]
    for name, frames in (("SwarmEvent", SWARM_FRAMES), ("AgentEvent", AGENT_FRAMES)):
        named = {
            event["properties"]["event"]["const"]: event["properties"]["data"]["$ref"].rpartition("/")[2]
            for event in components[name]["oneOf"]
        }
        assert named == {event: model.__name__ for event, model in frames.items()}
        assert components.keys() >= set(named.values())


async def _stream(path: str, payload: dict[str, Any], model: ScriptedModel, seconds: float = 0) -> list[ServerEvent]:
    """The events of a run; so much time passes once it goes on."""
    clock = DrivenClock()
    async with (
        serving(models={"demo": model}, clock=clock) as url,
        client(url) as http,
        http.stream("POST", path, json={**payload, "stream": True}) as response,
    ):
        events = [await anext(following := events_of(response))]
        await clock.advance(seconds)
        events += [event async for event in following]
    check_stream(events)
    return events


def _agent(name: str) -> dict[str, Any]:
    return {"agent_name": name, "model_name": f"demo/{name}", "num_retries": 0}


async def test_every_frame_of_a_stream_keeps_to_its_schema() -> None:
    lines: dict[str, list[Line | list[Line]]] = {
        "A": [
            [Opened(), Reasoning("hm"), ToolCallDelta(0, "1", "create_plan", '{"subtasks": [{"title": "t"}]}')],
            ["a"],
        ],
        "B": ["b", ProviderError("no")],
    }
    swarm = {
        "tasks": ["go", "again"],
        "agents": [{**_agent("A"), "max_loops": "auto"}, _agent("B")],
        "on_error": "continue",
        "metadata": {"k": 1},
    }
    asked: list[dict[str, Any]] = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
    agent = {"task": "go", "agent_config": _agent("A")}
    calling: dict[str, Any] = {"task": "go", "agent_config": {**_agent("A"), "tools_list_dictionary": asked}}
    events = await _stream("/v1/swarm/completions", swarm, ScriptedModel(lines))
    assert {event.event for event in events} == set(SWARM_FRAMES) - {"turn_restart"}, "which comes after a crash only"
    for event in events:
        _check(SWARM_FRAMES[event.event].__name__, event.data)
    timed_out = await _stream(
        "/v1/swarm/completions", {**swarm, "timeout": 20}, ScriptedModel(lines, order="never"), 20
    )
    for event in timed_out:
        _check(SWARM_FRAMES[event.event].__name__, event.data)
    for event in await _stream("/v1/agent/completions", agent, ScriptedModel(lines)):
        _check(AGENT_FRAMES[event.event].__name__, event.data)
    called = ScriptedModel({"A": [ToolCallDelta(0, "1", "look_up", "{}")]})
    events = await _stream("/v1/agent/completions", calling, called)
    assert [len(event.data["tool_calls"]) for event in events if event.event == "agent_end"] == [1]
    for event in events:
        _check(AGENT_FRAMES[event.event].__name__, event.data)


async def test_the_documents_keep_to_their_schemas() -> None:
    lines = {"A": ["a"], "B": ["b"]}
    async with serving(models={"demo": ScriptedModel(lines)}) as url, client(url) as http:
        swarm = await http.post("/v1/swarm/completions", json={"task": "go", "agents": [_agent("A"), _agent("B")]})
        agent = await http.post("/v1/agent/completions", json={"task": "go", "agent_config": _agent("A")})
        refused = await http.post("/v1/agent/completions", json={"task": "go"})
        served = await http.get("/openapi.json")
        for path in (
            "/v1/swarms/available",
            "/v1/models/available",
            "/v1/models",
            "/v1/tools/available",
            "/health",
            "/health/ready",
            "/",
        ):
            operation = _document()["paths"][path]["get"]
            schema = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            _check(schema, (await http.get(path)).json())
    _check("SwarmAnswer", swarm.json())
    _check("AgentAnswer", agent.json())
    _check("Problem", refused.json())
    assert served.json() == _document()
