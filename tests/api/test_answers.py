"""What clients of the hosted API and of OpenAI find in our answers (docs/wire.md, sections 1 and 3)."""

import re
from datetime import datetime
from typing import Any

import anyio
import httpx
import pytest

from tests.clients.sse import ServerEvent, check_stream, events_of
from tests.conftest import client, serving
from tests.fakes.clock import DrivenClock
from tests.fakes.scripted_model import ScriptedModel

pytestmark = pytest.mark.anyio


def agent(name: str, **fields: Any) -> dict[str, Any]:
    return {"agent_name": name, "model_name": f"demo/{name}", **fields}


@pytest.mark.promise("W-35", "W-40")
async def test_a_swarms_answer_has_the_hosted_shape() -> None:
    payload = {
        "name": "team",
        "description": "two of them",
        "task": "go",
        "agents": [agent("A"), agent("B")],
        "service_tier": "flex",
        "metadata": {"ticket": 7},
    }
    async with serving(models={"demo": ScriptedModel({"A": ["a"], "B": ["b"]})}) as url, client(url) as http:
        body = (await http.post("/v1/swarm/completions", json=payload)).json()
    assert re.fullmatch(r"swarms-[0-9a-f]{32,}", body["job_id"])
    assert {name: body[name] for name in ("status", "swarm_name", "description", "swarm_type", "service_tier")} == {
        "status": "success",
        "swarm_name": "team",
        "description": "two of them",
        "swarm_type": "SequentialWorkflow",
        "service_tier": "flex",
    }
    assert body["output"] == [{"role": "A", "content": "a"}, {"role": "B", "content": "b"}]
    assert body["number_of_agents"] == 2
    assert body["metadata"] == {"ticket": 7}
    usage = body["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (20, 2, 22)
    assert [(row["agent"], row["turns"], row["input_tokens"]) for row in usage["agents"]] == [
        ("A", 1, 10),
        ("B", 1, 10),
    ]
    bill = usage["billing_info"]
    assert bill["cost_breakdown"]["token_counts"] == {
        "total_input_tokens": 20,
        "total_output_tokens": 2,
        "total_tokens": 22,
    }
    assert bill["cost_breakdown"]["num_agents"] == 2
    assert (bill["discount_active"], bill["discount_type"], bill["discount_percentage"]) == (False, "none", 0)


@pytest.mark.promise("W-34")
async def test_an_agents_answer_has_the_hosted_shape() -> None:
    payload = {"agent_config": agent("A", description="d", temperature=0.5), "task": "go"}
    async with serving(models={"demo": ScriptedModel({"A": ["a", "b"]})}) as url, client(url) as http:
        body = (await http.post("/v1/agent/completions", json=payload)).json()
    assert re.fullmatch(r"agent-[0-9a-f]{32,}", body["job_id"])
    assert (body["success"], body["name"], body["description"], body["temperature"]) == (True, "A", "d", 0.5)
    (output,) = body["outputs"]
    assert (output["role"], output["content"]) == ("A", "ab")
    assert output["message_id"]
    assert datetime.fromisoformat(output["timestamp"]) <= datetime.fromisoformat(body["timestamp"])
    assert body["usage"]["total_tokens"] == 12
    assert body["usage"]["img_cost"] == 0
    assert body["usage"]["total_cost"] == 0


async def test_streaming_on_streams_as_stream_does() -> None:
    payload = {"agent_config": agent("A", streaming_on=True), "task": "go"}
    async with (
        serving(models={"demo": ScriptedModel({"A": ["a"]})}) as url,
        client(url) as http,
        http.stream("POST", "/v1/agent/completions", json=payload, headers={"Accept": "application/json"}) as response,
    ):
        events = [event async for event in events_of(response)]
    check_stream(events)
    first, second, *_, end = (event.data for event in events)
    assert (first["type"], first["success"], first["stream"], first["name"]) == ("metadata", True, True, "A")
    assert (second["message"], second["status"]) == ("Starting agent processing...", "started")
    assert end["complete"] is True
    assert end["outputs"][0]["content"] == "a"
    assert end["usage"]["total_tokens"] == 11


@pytest.mark.promise("W-6")
async def test_unknown_fields_are_named_back_in_both_answers() -> None:
    payload = {"task": "go", "modle": 1, "agents": [agent("A", modle_name="x", tags=["t"])]}
    async with serving(models={"demo": ScriptedModel({"A": ["a"]})}) as url, client(url) as http:
        document = (await http.post("/v1/swarm/completions", json=payload)).json()
        async with http.stream("POST", "/v1/swarm/completions", json={**payload, "stream": True}) as response:
            events = [event async for event in events_of(response)]
    assert document["warnings"] == [
        "unknown field modle",
        "unknown field agents.0.modle_name; did you mean model_name?",
    ]
    assert events[0].data["warnings"] == document["warnings"]


async def test_each_task_has_its_index() -> None:
    payload = {"tasks": ["one", "two"], "agents": [agent("A")], "stream": True}
    async with (
        serving(models={"demo": ScriptedModel({"A": [["a1"], ["a2"]]})}) as url,
        client(url) as http,
        http.stream("POST", "/v1/swarm/completions", json=payload) as response,
    ):
        events = [event async for event in events_of(response)]
    assert [event.data["task_index"] for event in events if event.event == "agent_start"] == [0, 1]
    assert events[-1].data["output"] == [
        {"role": "A", "content": "a1", "task_index": 0},
        {"role": "A", "content": "a2", "task_index": 1},
    ]


async def test_a_run_that_takes_too_long_names_its_active_agents() -> None:
    model = ScriptedModel({"A": ["a"], "B": ["b"], "C": ["c"]}, order="A-")
    payload = {
        "task": "go",
        "agents": [agent("A"), agent("B"), agent("C")],
        "rearrange_flow": "A -> B, C",
        "stream": True,
        "timeout": 20,
    }
    clock = DrivenClock()
    document = httpx.Response(0)

    async def time_passes() -> None:
        await clock.waiting(20)
        await clock.advance(20)

    async with serving(models={"demo": model}, clock=clock) as url, client(url) as http:
        with anyio.fail_after(30):
            events: list[ServerEvent] = []
            async with http.stream("POST", "/v1/swarm/completions", json=payload) as response:
                async for event in events_of(response):
                    events.append(event)
                    if event.event == "agent_start" and event.data["agent"] == "C":
                        await clock.advance(20)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(time_passes)
                document = await http.post("/v1/swarm/completions", json={**payload, "stream": False})
    check_stream(events)
    error = next(event.data for event in events if event.event == "error")
    assert (error["code"], error["timeout"], error["active_agents"]) == ("timed_out", 20, ["B", "C"])
    assert events[-1].data["status"] == "timed_out"
    assert events[-1].data["output"][0] == {"role": "A", "content": "a"}
    assert document.status_code == 504
    assert document.json()["code"] == "timed_out"


@pytest.mark.promise("W-37")
async def test_openai_clients_find_the_models() -> None:
    async with serving(model_aliases={"gpt-4.1": "demo/swarm", "claude-*": "demo/swarm"}) as url, client(url) as http:
        available = (await http.get("/v1/models/available")).json()
        models = (await http.get("/v1/models")).json()
    assert available["success"] is True
    assert available["models"] == ["demo/swarm", "gpt-4.1"]
    assert available["count"] == 2
    assert models["object"] == "list"
    assert [model["id"] for model in models["data"]] == available["models"]


@pytest.mark.promise("W-37")
async def test_a_model_is_there_if_an_agent_may_name_it() -> None:
    aliases = {"gpt-4.1": "demo/swarm", "team/*": "demo/swarm"}
    async with serving(model_aliases=aliases, environ={"GROQ_API_KEY": "k"}) as url, client(url) as http:
        for name in ("gpt-4.1", "demo/swarm", "team/a/b", "groq/any-name", "groq%2Fany-name"):
            answer = await http.get(f"/v1/models/{name}")
            name = name.replace("%2F", "/")
            assert answer.json() == {"id": name, "object": "model", "created": 0, "owned_by": "swarmstream"}
        for name in ("nobody-knows-this", "anthropic/claude-sonnet-4-5", "team", "x" * 3000):
            answer = await http.get(f"/v1/models/{name}")
            body = answer.json()
            assert (answer.status_code, body["code"], body["error"]["type"]) == (404, "not_found", "not_found_error")
            assert name[:50] in body["detail"]
    async with serving() as url, client(url, key=None) as http:
        assert (await http.get("/v1/models/gpt-4.1")).status_code == 401


async def test_rate_limits_have_the_hosted_apis_shape_and_are_unlimited() -> None:
    async with serving() as url, client(url) as http:
        answer = await http.get("/v1/rate/limits")
        body = answer.json()
    assert (body["success"], body["tier"]) == (True, "unlimited")
    assert list(body["rate_limits"]) == ["minute", "hour", "day"]
    asked = datetime.fromisoformat(body["timestamp"])
    for seconds, window in zip((60, 3600, 86_400), body["rate_limits"].values(), strict=True):
        assert set(window) == {"count", "limit", "exceeded", "remaining", "reset_time"}
        assert (window["count"], window["exceeded"]) == (0, False)
        assert window["limit"] == window["remaining"] == 2**53 - 1
        assert (datetime.fromisoformat(window["reset_time"]) - asked).total_seconds() == seconds
    assert set(body["limits"]) == {
        "maximum_requests_per_minute",
        "maximum_requests_per_hour",
        "maximum_requests_per_day",
        "tokens_per_agent",
    }
    assert set(body["limits"].values()) == {2**53 - 1}
    assert not [name for name in answer.headers if "ratelimit" in name]


async def test_the_swarm_types_are_those_that_run() -> None:
    async with serving() as url, client(url) as http:
        body = (await http.get("/v1/swarms/available")).json()
    assert body["swarm_types"] == ["SequentialWorkflow", "AgentRearrange", "ConcurrentWorkflow"]
    assert [detail["streams"] for detail in body["details"]] == ["token"] * 3
    assert (body["success"], body["status"]) == (True, True)


@pytest.mark.promise("W-2")
async def test_open_routes_need_no_key() -> None:
    async with serving() as url, client(url, key=None) as http:
        assert (await http.get("/health")).json() == {"status": "ok"}
        for path in ("/", "/health/live", "/health/ready", "/docs", "/openapi.json"):
            assert (await http.get(path)).status_code == 200, path
        for path in ("/", "/health", "/health/live", "/health/ready"):
            assert (await http.head(path)).status_code == 200, path
    async with serving(docs=False) as url, client(url, key=None) as http:
        for path in ("/docs", "/openapi.json"):
            assert (await http.get(path)).status_code == 404, path


@pytest.mark.promise("W-16")
async def test_a_request_id_is_taken_over_or_made() -> None:
    async with serving() as url, client(url) as http:
        assert (await http.get("/health", headers={"x-request-id": "mine-1"})).headers["x-request-id"] == "mine-1"
        made = [(await http.get("/health")).headers["x-request-id"] for _ in range(2)]
        too_long = (await http.get("/health", headers={"x-request-id": "x" * 129})).headers["x-request-id"]
    assert made[0] != made[1]
    assert too_long != "x" * 129


async def test_pages_of_listed_origins_may_call() -> None:
    preflight = {
        "origin": "https://page.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-api-key,content-type,x-accel-buffering,last-event-id",
    }
    async with serving(cors_origins=("https://page.example",)) as url, client(url, key=None) as http:
        allowed = await http.options("/v1/swarm/completions", headers=preflight)
        stranger = await http.options("/v1/swarm/completions", headers={**preflight, "origin": "https://x.example"})
        answer = await http.get("/health", headers={"origin": "https://page.example"})
        refused = await http.post("/v1/swarm/completions", headers={"origin": "https://page.example"})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://page.example"
    assert stranger.status_code == 400
    assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()
    assert refused.headers["access-control-allow-origin"] == "https://page.example"
