"""Runs as things of their own: listed, joined, read with a token, forgotten, begun once (WIRE.md, section 5)."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.conftest import OTHER_KEY, client, serving
from tests.scripted import ScriptedModel
from tests.sse import check_stream, events_of

pytestmark = pytest.mark.anyio

PAYLOAD: dict[str, Any] = {"task": "go", "agents": [{"agent_name": "A", "model_name": "demo/A"}]}
SWARM = "/v1/swarm/completions"


@pytest.fixture(params=["memory", "sqlite"])
def data_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "data" if request.param == "sqlite" else None


@asynccontextmanager
async def server(
    data_dir: Path | None, lines: Any = "ab", order: str = ""
) -> AsyncGenerator[tuple[httpx.AsyncClient, ScriptedModel]]:
    model = ScriptedModel({"A": list(lines)}, order=order)
    with anyio.fail_after(20):
        async with serving(models={"demo": model}, data_dir=data_dir) as url, client(url) as http:
            yield http, model


async def test_a_run_in_the_background_answers_at_once_and_goes_on(data_dir: Path | None) -> None:
    async with server(data_dir) as (http, _):
        answer = await http.post(SWARM, json={**PAYLOAD, "background": True})
        assert answer.status_code == 202
        job_id = answer.json()["job_id"]
        assert answer.json() == {"job_id": job_id, "status": "queued"}
        assert answer.headers["location"] == f"/v1/runs/{job_id}/stream"
        async with http.stream("GET", answer.headers["location"]) as response:
            events = [event async for event in events_of(response)]
        check_stream(events)
        run = (await http.get(f"/v1/runs/{job_id}")).json()
    assert (run["status"], run["output"]) == ("success", [{"role": "A", "content": "ab"}])


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


async def test_a_refused_request_leaves_no_claim(data_dir: Path | None) -> None:
    async with server(data_dir) as (http, _):
        headers = {"Idempotency-Key": "once"}
        refused = await http.post(SWARM, json={**PAYLOAD, "agents": []}, headers=headers)
        answer = await http.post(SWARM, json=PAYLOAD, headers=headers)
    assert (refused.status_code, answer.status_code) == (400, 200)


async def test_runs_are_listed_newest_first_page_by_page(data_dir: Path | None) -> None:
    async with server(data_dir) as (http, _):
        ids = [(await http.post(SWARM, json=PAYLOAD)).json()["job_id"] for _ in range(5)][::-1]
        first = (await http.get("/v1/runs", params={"limit": 2})).json()
        second = (await http.get("/v1/runs", params={"limit": 2, "after": first["last_id"]})).json()
        last = (await http.get("/v1/runs", params={"limit": 2, "after": second["last_id"]})).json()
        running = (await http.get("/v1/runs", params={"status": "running"})).json()
        logs = (await http.get("/v1/swarm/logs")).json()
        async with client(str(http.base_url), key=OTHER_KEY) as other:
            others = (await other.get("/v1/runs")).json()
    assert [run["job_id"] for page in (first, second, last) for run in page["data"]] == ids
    assert [page["has_more"] for page in (first, second, last)] == [True, True, False]
    assert first["first_id"] == ids[0]
    assert first["data"][0]["output"] == [{"role": "A", "content": "ab"}]
    assert running["data"] == others["data"] == []
    assert (logs["count"], [log["id"] for log in logs["logs"]]) == (5, ids)
    assert "test-key-1" not in str(logs)


async def test_a_finished_run_can_be_forgotten_and_a_live_one_not(data_dir: Path | None) -> None:
    async with server(data_dir, order="A never") as (http, _):
        job_id = (await http.post(SWARM, json={**PAYLOAD, "background": True})).json()["job_id"]
        live = await http.delete(f"/v1/runs/{job_id}")
        await http.post(f"/v1/runs/{job_id}/cancel")
        gone = await http.delete(f"/v1/runs/{job_id}")
        missing = [await http.get(f"/v1/runs/{job_id}"), await http.delete(f"/v1/runs/{job_id}")]
    assert (live.status_code, live.json()["code"]) == (409, "still_running")
    assert (gone.status_code, gone.content) == (204, b"")
    assert [answer.status_code for answer in missing] == [404, 404]


async def test_a_token_reads_its_run_and_nothing_else(data_dir: Path | None) -> None:
    async with server(data_dir) as (http, _):
        ids = [(await http.post(SWARM, json=PAYLOAD)).json()["job_id"] for _ in range(2)]
        given = (await http.post(f"/v1/runs/{ids[0]}/stream-token")).json()
        token = given["token"]
        async with client(str(http.base_url), key=None) as page:
            read = await page.get(f"/v1/runs/{ids[0]}/stream", params={"token": token})
            refused = [
                await page.get(f"/v1/runs/{ids[1]}/stream", params={"token": token}),
                await page.get(f"/v1/runs/{ids[0]}/stream", params={"token": token[:-1] + "A"}),
                await page.get(f"/v1/runs/{ids[0]}/stream", params={"token": "x"}),
                await page.get(f"/v1/runs/{ids[0]}", params={"token": token}),
                await page.get(f"/v1/runs/{ids[0]}/stream"),
            ]
            drained = await page.get(
                f"/v1/runs/{ids[0]}/stream", params={"token": token}, headers={"Last-Event-ID": "99"}
            )
    assert given["expires_in"] == 60
    assert read.text.count("event: end") == 1
    assert [answer.status_code for answer in refused] == [401] * 5
    assert drained.status_code == 204
