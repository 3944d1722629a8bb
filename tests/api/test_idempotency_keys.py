"""Requests with one `Idempotency-Key` are one run (docs/wire.md, section 5)."""

from pathlib import Path

import anyio
import httpx
import pytest

from tests.api.held_runs import PAYLOAD, STREAM, SWARM, server
from tests.clients.sse import events_of
from tests.conftest import OTHER_KEY, client

pytestmark = pytest.mark.anyio


@pytest.mark.promise("W-67", "W-69")
async def test_a_hundred_requests_with_one_key_are_one_run(data_dir: Path | None) -> None:
    answers: list[httpx.Response] = []
    async with server(data_dir) as (http, model):

        async def post() -> None:
            answers.append(await http.post(SWARM, json=PAYLOAD, headers={"Idempotency-Key": "once"}))

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(post)
        async with http.stream("POST", SWARM, json={**PAYLOAD}, headers={"Idempotency-Key": "once"}) as response:
            again = await response.aread()
        other = await http.post(SWARM, json={**PAYLOAD, "task": "other"}, headers={"Idempotency-Key": "once"})
        fresh = await http.post(SWARM, json=PAYLOAD, headers={"Idempotency-Key": "twice"})
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["job_id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert again == answers[0].content
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert fresh.json()["job_id"] != answers[0].json()["job_id"]
    assert len(model.calls) == 2


async def test_a_hundred_streams_with_one_key_are_one_run_from_its_first_event_on(data_dir: Path | None) -> None:
    bodies: list[bytes] = []
    replayed: list[str | None] = []
    async with server(data_dir, order="AA") as (http, model):

        async def post() -> None:
            async with http.stream("POST", SWARM, json=STREAM, headers={"Idempotency-Key": "once"}) as response:
                replayed.append(response.headers.get("idempotent-replayed"))
                bodies.append(await response.aread())

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(post)
        async with http.stream("POST", SWARM, json=STREAM, headers={"Idempotency-Key": "once"}) as response:
            late = await response.aread()
            events = [event.event async for event in events_of(httpx.Response(200, content=late))]
        runs = (await http.get("/v1/runs")).json()["data"]
    assert len(set(bodies)) == 1
    assert late == bodies[0]
    assert (events[0], events[-1]) == ("metadata", "end")
    assert (replayed.count(None), replayed.count("true")) == (1, 99)
    assert response.headers["idempotent-replayed"] == "true"
    assert len(model.calls) == len(runs) == 1


@pytest.mark.promise("W-67")
async def test_a_key_counts_for_its_route_and_its_owner_only(data_dir: Path | None) -> None:
    headers = {"Idempotency-Key": "once"}
    single = {"task": "go", "agent_config": {"agent_name": "A", "model_name": "demo/A"}}
    async with server(data_dir) as (http, model), client(str(http.base_url), key=OTHER_KEY) as other:
        answers = [
            await http.post(SWARM, json=PAYLOAD, headers=headers),
            await http.post("/v1/agent/completions", json=single, headers=headers),
            await other.post(SWARM, json=PAYLOAD, headers=headers),
        ]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert not any("idempotent-replayed" in answer.headers for answer in answers)
    assert len({answer.json()["job_id"] for answer in answers}) == len(model.calls) == 3


@pytest.mark.promise("W-33")
@pytest.mark.parametrize("key", [b"", b"x" * 256, b"tab\there", "schl\u00fcssel".encode()])
async def test_an_unusable_idempotency_key_is_refused(key: bytes) -> None:
    async with server(None) as (http, model):
        answer = await http.post(SWARM, json=PAYLOAD, headers=httpx.Headers([(b"Idempotency-Key", key)]))
        longest = await http.post(SWARM, json=PAYLOAD, headers={"Idempotency-Key": "x" * 255})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert longest.status_code == 200
    assert len(model.calls) == 1


@pytest.mark.promise("W-68")
async def test_a_refused_request_frees_its_key(data_dir: Path | None) -> None:
    async with server(data_dir) as (http, _):
        headers = {"Idempotency-Key": "once"}
        refused = await http.post(SWARM, json={**PAYLOAD, "agents": []}, headers=headers)
        answer = await http.post(SWARM, json=PAYLOAD, headers=headers)
    assert (refused.status_code, answer.status_code) == (400, 200)


async def test_idempotency_keys_and_stream_tokens_outlive_the_server(tmp_path: Path) -> None:
    headers = {"Idempotency-Key": "once"}
    async with server(tmp_path / "data") as (http, _):
        first = await http.post(SWARM, json=PAYLOAD, headers=headers)
        job_id = first.json()["job_id"]
        token = (await http.post(f"/v1/runs/{job_id}/stream-token")).json()["token"]
        run, listed = (await http.get(f"/v1/runs/{job_id}")).json(), (await http.get("/v1/runs")).json()
    async with server(tmp_path / "data") as (http, model), client(str(http.base_url), key=None) as page:
        again = await http.post(SWARM, json=PAYLOAD, headers=headers)
        other = await http.post(SWARM, json={**PAYLOAD, "task": "other"}, headers=headers)
        read = await page.get(f"/v1/runs/{job_id}/stream", params={"token": token})
        assert run == (await http.get(f"/v1/runs/{job_id}")).json()
        assert listed == (await http.get("/v1/runs")).json()
    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert read.text.count("event: end") == 1
    assert not model.calls
