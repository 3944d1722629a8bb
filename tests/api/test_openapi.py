"""The OpenAPI document is generated from the code, and every answer keeps to it."""

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import anyio
import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import SecretStr

from swarmstream.api.openapi.examples import AGENT_EXAMPLES, SWARM_EXAMPLES
from swarmstream.api.openapi.frames import AGENT_FRAMES, SWARM_FRAMES
from swarmstream.errors import ProviderError
from swarmstream.llm.base import ModelCall, OnDeltas, Opened, Reasoning, ToolCallDelta
from swarmstream.llm.providers.demo.model import DemoModel
from swarmstream.main import create_app
from swarmstream.settings import Settings
from swarmstream.wire.framing import NDJSON, gap_frame
from swarmstream.wire.shapes.events import GapFrame
from tests.clients.openapi_document import check, check_answer, document, operations, resolved
from tests.clients.raw import raw_client, status_of
from tests.clients.sse import ServerEvent, check_stream, events_of
from tests.conftest import OTHER_KEY, client, serving
from tests.fakes.clock import DrivenClock
from tests.fakes.scripted_model import Line, ScriptedModel

pytestmark = pytest.mark.anyio

_OF_EVERY_ROUTE = {"408", "431", "500", "503"}
"""Which any request may be answered."""


def test_the_committed_document_equals_the_generated_one() -> None:
    served = create_app(Settings.model_construct()).openapi()
    assert document() == json.loads(json.dumps(served)), "run scripts/openapi"


def test_the_document_is_openapi_3_1() -> None:
    assert document()["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(document()).iter_errors()] == []


def test_every_event_has_a_schema_for_its_data() -> None:
    components = document()["components"]["schemas"]
    for name, frames in (("SwarmEvent", SWARM_FRAMES), ("AgentEvent", AGENT_FRAMES)):
        named = {
            event["properties"]["event"]["const"]: event["properties"]["data"]["$ref"].rpartition("/")[2]
            for event in components[name]["oneOf"]
        }
        assert named == {event: model.__name__ for event, model in {**frames, "gap": GapFrame}.items()}
        assert components.keys() >= set(named.values())


async def _stream(path: str, payload: dict[str, Any], model: ScriptedModel, seconds: float = 0) -> list[ServerEvent]:
    """Run the payload and return its events; so many seconds pass after the first of them."""
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


@pytest.mark.promise("W-50")
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
        check(SWARM_FRAMES[event.event].__name__, event.data)
    timed_out = await _stream(
        "/v1/swarm/completions", {**swarm, "timeout": 20}, ScriptedModel(lines, order="never"), 20
    )
    for event in timed_out:
        check(SWARM_FRAMES[event.event].__name__, event.data)
    for event in await _stream("/v1/agent/completions", agent, ScriptedModel(lines)):
        check(AGENT_FRAMES[event.event].__name__, event.data)
    called = ScriptedModel({"A": [ToolCallDelta(0, "1", "look_up", "{}")]})
    events = await _stream("/v1/agent/completions", calling, called)
    assert [len(event.data["tool_calls"]) for event in events if event.event == "agent_end"] == [1]
    for event in events:
        check(AGENT_FRAMES[event.event].__name__, event.data)


@pytest.mark.promise("W-53")
def test_a_gap_is_an_event_of_either_route() -> None:
    event = json.loads(gap_frame(NDJSON, requested=1, first_available=3))
    check("SwarmEvent", event)
    check("AgentEvent", event)


_SENTENCE = re.compile(r"(?!Default:)[A-Z`].+\.")


def _undescribed(schema: Any, path: str) -> Iterator[str]:
    """Yield the paths of the properties within that have no description."""
    for name, field in schema.get("properties", {}).items():
        if not _SENTENCE.fullmatch(field.get("description", "")):
            yield f"{path}.{name}"
        yield from _undescribed(field, f"{path}.{name}")
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for index, part in enumerate(schema.get(key, ())):
            yield from _undescribed(part, f"{path}.{key}.{index}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _undescribed(schema[key], f"{path}.{key}")


def test_every_property_parameter_and_header_is_described() -> None:
    components = document()["components"]
    missing = [path for name, schema in components["schemas"].items() for path in _undescribed(schema, name)]
    named = [(f"{kind}.{name}", part) for kind in ("headers", "parameters") for name, part in components[kind].items()]
    for _, _, operation in operations():
        at = operation["operationId"]
        assert operation["summary"]
        named += [(f"{at}.{part['name']}", part) for part in map(resolved, operation["parameters"])]
        bodies = [("request", operation.get("requestBody", {}))]
        bodies += [(status, resolved(answer)) for status, answer in operation["responses"].items()]
        for name, part in bodies:
            named += [(f"{at}.{name}.{header}", resolved(ref)) for header, ref in part.get("headers", {}).items()]
            for kind, content in part.get("content", {}).items():
                missing += _undescribed(content["schema"], f"{at}.{name}.{kind}")
    missing += [path for path, part in named if not _SENTENCE.fullmatch(part.get("description", ""))]
    assert not missing


def test_operation_ids_are_readable_names() -> None:
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(ids)) == len(ids)
    assert {"run_agent", "run_swarm", "list_runs", "get_run", "stream_run", "cancel_run", "delete_run"} <= set(ids)
    assert not [name for name in ids if not re.fullmatch(r"(run|list|get|stream|cancel|delete|create)(_[a-z]+)+", name)]
    assert {tag for _, _, operation in operations() for tag in operation["tags"]} == {
        tag["name"] for tag in document()["tags"] if tag["description"]
    }


def _posted() -> Iterator[tuple[str, Any]]:
    """Return the components that payloads are made of."""
    waiting, seen = ["AgentRequest", "SwarmRequest"], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            schema = document()["components"]["schemas"][name]
            yield name, schema
            waiting += re.findall(r'"#/components/schemas/(\w+)"', json.dumps(schema))


def test_generated_types_make_optional_fields_optional_and_refuse_misspelt_ones() -> None:
    """openapi-typescript makes fields with a `default` required; scripts/types compiles a program against its types."""
    names: list[str] = []
    for name, schema in _posted():
        names.append(name)
        assert schema.get("additionalProperties") is not True, name
        for field, described in schema.get("properties", {}).items():
            assert '"default":' not in json.dumps(described), f"{name}.{field}"
            if field not in schema.get("required", ()):
                assert {"type": "null"} in described["anyOf"], f"{name}.{field} may be null"
    assert {"AgentSpec", "StreamOptions", "Message", "McpConfig"} <= set(names)
    retries = document()["components"]["schemas"]["AgentSpec"]["properties"]["num_retries"]
    assert retries["description"].endswith("Default: `2`.")


@pytest.mark.parametrize(("path", "examples"), [("agent", AGENT_EXAMPLES), ("swarm", SWARM_EXAMPLES)])
async def test_every_example_runs_on_the_demo_model(path: str, examples: dict[str, Any]) -> None:
    model = DemoModel(first_token_seconds=0, token_seconds=0)
    async with (
        serving(models={"demo": model}, default_model="demo/swarm") as url,
        client(url) as http,
    ):
        for name, example in examples.items():
            check(f"{path.title()}Request", example["value"])
            answer = await http.post(f"/v1/{path}/completions", json=example["value"])
            check_answer(answer)
            if name == "structured_output" and answer.status_code == 502:
                assert answer.json()["code"] == "invalid_output", "the demo model writes no JSON"
                continue
            assert answer.status_code == (202 if name == "background" else 200), (name, answer.text)
            if example["value"].get("stream"):
                ends = [json.loads(line[6:]) for line in answer.text.splitlines() if '"failed_agents"' in line]
                assert [end["status"] for end in ends] == ["success"], name
            else:
                assert answer.json().get("warnings", []) == [], name


class _Buggy(ScriptedModel):
    """A model whose adapter has a bug where the test asks for it."""

    called = anyio.Event()

    async def stream(self, call: ModelCall, on_deltas: OnDeltas) -> None:
        if call.model.target == "bug":
            raise RuntimeError("a bug")
        self.called.set()
        await super().stream(call, on_deltas)


async def _all_answers(http: httpx.AsyncClient, clock: DrivenClock, model: _Buggy) -> list[httpx.Response]:
    """Yield requests to the completion routes, one for each status that a test can cause."""
    answers: list[httpx.Response] = []

    async def post(path: str, model: str = "A", headers: dict[str, str] | None = None, **fields: Any) -> None:
        spec = {**_agent(model), **fields.pop("agent", {})}
        agents = {"agent_config": spec} if path == "/v1/agent/completions" else {"agents": [spec]}
        answers.append(await http.post(path, json={"task": "go", **agents, **fields}, headers=headers))

    async def cancel() -> None:
        await model.called.wait()
        (run,) = (await http.get("/v1/runs", params={"status": "running"})).json()["data"]
        await http.post(f"/v1/runs/{run['job_id']}/cancel")

    for path in ("/v1/agent/completions", "/v1/swarm/completions"):
        await post(path)
        await post(path, stream=True)
        await post(path, stream=True, headers={"Accept": "application/x-ndjson"})
        await post(path, background=True, headers={"Idempotency-Key": path})
        await post(path, background=True, headers={"Idempotency-Key": path})
        await post(path, stream=True, headers={"Idempotency-Key": "new", "Last-Event-ID": "5"})
        await post(path, task="")
        await post(path, headers={"x-api-key": "none"})
        await post(path, max_total_tokens=1)
        await post(path, agent={"selected_tools": ["calculator"]})
        model.called = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(post, path, "never")
            await cancel()
        await post(path, task="x" * 1_100_000)
        answers.append(await http.post(path, content="{}", headers={"content-type": "text/plain"}))
        answers.append(await http.post(path, json={"agents": 1}))
        await post(path, headers={"x-long": "x" * 70_000})
        await post(path, "bug")
        await post(path, "refuses")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(post, path, "never", timeout=7))
            await clock.waiting(7)
            await clock.advance(7)
        occupied: list[str] = []
        for _ in range(5):
            await post(path, "never", background=True)
            if answers[-1].status_code == 503:
                break
            occupied.append(answers[-1].json()["job_id"])
        for job_id in occupied:
            await http.post(f"/v1/runs/{job_id}/cancel")
    return answers


@pytest.mark.noisy
async def test_completions_answer_only_as_the_document_declares() -> None:
    clock = DrivenClock()
    model = _Buggy({"A": ["a"], "never": ["b"], "refuses": [ProviderError("no")]}, order="A" * 100)
    async with (
        serving(
            models={"demo": model},
            clock=clock,
            max_runs=4,
            tool_keys={"calculator": (SecretStr(OTHER_KEY),)},
        ) as url,
        client(url) as http,
    ):
        with anyio.fail_after(60):
            answers = await _all_answers(http, clock, model)
        seen = {check_answer(answer) for answer in answers}
        async with raw_client(url) as late:
            await late.send(b"POST /v1/swarm/completions HTTP/1.1\r\nHost: x\r\n")
            await clock.waiting(15)
            await clock.advance(15)
            head, _, body = (await late.rest())[0].partition(b"\r\n\r\n")
        assert status_of(head) == 408
        check("Problem", json.loads(body))
    for name in ("run_agent", "run_swarm"):
        (declared,) = [operation["responses"] for _, _, operation in operations() if operation["operationId"] == name]
        assert {str(status) for operation, status in seen if operation == name} | {"408"} == set(declared)


async def test_the_other_routes_answer_only_as_the_document_declares() -> None:
    agents = {"task": "go", "agents": [_agent("A")]}
    async with (
        serving(models={"demo": ScriptedModel({"A": ["a"], "never": ["b"]}, order="A" * 9)}) as url,
        client(url) as http,
    ):
        ended = (await http.post("/v1/swarm/completions", json=agents)).json()
        job_id, never = ended["job_id"], {"task": "go", "agent_config": _agent("never"), "background": True}
        going = (await http.post("/v1/agent/completions", json=never)).json()["job_id"]
        asked: list[tuple[str, str]] = [
            (method, path.replace("{job_id}", run).replace("{name}", "demo/swarm"))
            for method, path, operation in operations()
            if operation["tags"] != ["completions"]
            for run in ((job_id,) if path.endswith("/stream") else (going, job_id))
        ]
        asked.sort(key=lambda request: (request[0] == "DELETE", request[1].endswith("/cancel")))
        lists = [
            ("GET", "/v1/runs?limit=0"),
            ("GET", "/v1/runs?include=x"),
            ("GET", "/v1/runs?after=nobodys"),
            ("GET", "/v1/runs?limit=1"),
        ]
        stream = f"/v1/runs/{job_id}/stream"
        last = (await http.get(f"/v1/runs/{job_id}")).json()["last_event_id"]
        queries = (f"?starting_after={last}", f"?starting_after={last + 1}", "?starting_after=x", "?coalesce_ms=-1")
        streams = [("GET", stream + query) for query in queries]
        deleted = [("DELETE", f"/v1/runs/{going}")]
        unknown = [
            (method, path.replace("{job_id}", "nobodys")) for method, path, _ in operations() if "{job_id}" in path
        ]
        lists.append(("GET", "/v1/models/nobodys"))
        answers = [await http.request(*request) for request in [*deleted, *lists, *streams, *unknown, *asked]]
        async with client(url, key=None) as stranger:
            answers += [await stranger.request(method, path) for method, path in asked]
    seen = {check_answer(answer) for answer in answers}
    for _, _, operation in operations():
        name, declared = operation["operationId"], set(operation["responses"])
        if not name.startswith("run_"):
            sent = {str(status) for operation, status in seen if operation == name}
            assert sent | _OF_EVERY_ROUTE == declared, name


async def test_the_document_is_served() -> None:
    async with serving() as url, client(url, key=None) as http:
        assert (await http.get("/openapi.json")).json() == document()
