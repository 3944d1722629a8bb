"""Runs by their ids: how they stand, and their end on demand (docs/wire.md, section 5)."""

import anyio
import httpx
import pytest

from tests.clients.sse import check_stream, events_of
from tests.conftest import OTHER_KEY, client, serving
from tests.fakes.scripted_model import ScriptedModel

pytestmark = pytest.mark.anyio

PAYLOAD = {"task": "go", "agents": [{"agent_name": "A", "model_name": "demo/A"}], "metadata": {"k": 1}}


@pytest.mark.promise("W-73")
async def test_a_run_that_is_cancelled_tells_its_reader_and_whoever_asked() -> None:
    model = ScriptedModel({"A": ["a", "b"]}, order="A never")
    with anyio.fail_after(30):
        async with (
            serving(models={"demo": model}) as url,
            client(url) as http,
            http.stream("POST", "/v1/swarm/completions", json={**PAYLOAD, "stream": True}) as response,
        ):
            run = response.headers["location"].removesuffix("/stream")
            events = events_of(response)
            seen = [await anext(events) for _ in range(4)]
            standing = (await http.get(run)).json()
            first, again = [(await http.post(f"{run}/cancel")).json() for _ in range(2)]
            seen += [event async for event in events]
    check_stream(seen)
    assert (standing["status"], standing["ended_at"], standing["last_event_id"]) == ("running", None, 4)
    assert first == again
    assert (first["status"], first["output"]) == ("cancelled", [{"role": "A", "content": "a"}])
    assert first["last_event_id"] == seen[-1].id
    assert first["metadata"] == {"k": 1}
    assert [event.data["code"] for event in seen if event.event == "error"] == ["cancelled"]
    assert model.open == 0


@pytest.mark.promise("W-73")
async def test_a_run_that_has_ended_stays_as_it_is() -> None:
    async with serving(models={"demo": ScriptedModel({"A": ["a"]})}) as url, client(url) as http:
        job_id = (await http.post("/v1/swarm/completions", json=PAYLOAD)).json()["job_id"]
        cancelled = await http.post(f"/v1/runs/{job_id}/cancel")
        read = await http.get(f"/v1/runs/{job_id}")
    assert cancelled.status_code == 200
    assert cancelled.json() == read.json()
    assert read.json()["status"] == "success"
    assert read.json()["usage"]["output_tokens"] > 0


async def test_the_run_of_another_key_does_not_exist() -> None:
    async with serving(models={"demo": ScriptedModel({"A": ["a"]})}) as url, client(url) as http:
        job_id = (await http.post("/v1/swarm/completions", json=PAYLOAD)).json()["job_id"]
        async with client(url, key=OTHER_KEY) as other:
            answers: list[httpx.Response] = [
                *(await other.get(f"/v1/runs/{job_id}"), await other.post(f"/v1/runs/{job_id}/cancel")),
                *(await other.get("/v1/runs/no"), await other.post("/v1/runs/no/cancel")),
            ]
    assert [answer.status_code for answer in answers] == [404] * 4
    assert len({answer.json()["detail"] for answer in answers}) == 1
