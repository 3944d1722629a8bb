"""Runs are listed, cancelled and deleted by how they stand (docs/wire.md, section 5)."""

from pathlib import Path

import anyio
import httpx
import pytest

from tests.api.held_runs import PAYLOAD, ROUTES, STREAM, SWARM, finished_run, held_run, server
from tests.clients.sse import ServerEvent, check_stream, events_of
from tests.conftest import OTHER_KEY, client, serving
from tests.fakes.clock import DrivenClock
from tests.fakes.local_models import local_models
from tests.fakes.scripted_model import ScriptedModel
from tests.fakes.upstream import Exchange, provider

pytestmark = pytest.mark.anyio


@pytest.mark.promise("W-73")
async def test_a_cancelled_run_ends_for_its_reader_and_for_the_request_that_cancelled_it() -> None:
    model = ScriptedModel({"A": ["a", "b"]}, order="A never")
    with anyio.fail_after(30):
        async with (
            serving(models={"demo": model}) as url,
            client(url) as http,
            http.stream("POST", SWARM, json={**STREAM, "metadata": {"k": 1}}) as response,
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


@pytest.mark.promise("W-71")
async def test_runs_are_listed_newest_first_page_by_page(data_dir: Path | None) -> None:
    async with server(data_dir) as (http, _):
        ids = [(await http.post(SWARM, json=PAYLOAD)).json()["job_id"] for _ in range(5)][::-1]
        first = (await http.get("/v1/runs", params={"limit": 2, "include": "output"})).json()
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


@pytest.mark.promise("W-74")
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


async def test_a_cancelled_run_ends_at_once_and_so_does_the_call_that_it_pays_for(tmp_path: Path) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("word ")
        await exchange.closed_by_client.wait()

    async with (
        provider(endless) as upstream,
        local_models(upstream, tmp_path, data_dir=tmp_path / "data", clock=DrivenClock()) as url,  # which stands still
        client(url) as http,
    ):
        payload = {"task": "go", "agents": [{"agent_name": "A"}, {"agent_name": "B"}], "on_disconnect": "continue"}
        events: list[ServerEvent] = []
        answers: list[httpx.Response] = []
        with anyio.fail_after(30):
            async with http.stream("POST", SWARM, json={**payload, "stream": True}) as response:
                run = response.headers["location"].removesuffix("/stream")
                async for event in events_of(response):
                    events.append(event)
                    if event.event == "chunk":
                        answers.append(await http.post(f"{run}/cancel"))
        with anyio.fail_after(30):
            await upstream.exchanges[0].closed_by_client.wait()
        again = await http.post(f"{run}/cancel")
    check_stream(events)
    [answer] = answers
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["output"][0]["content"]) == ("cancelled", "word ")
    assert answer.json() == again.json()
    assert [event.event for event in events[-4:]] == ["agent_end", "error", "usage", "end"]
    assert events[-1].data["status"] == "cancelled"
    assert len(upstream.exchanges) == 1


async def test_a_finished_run_stays_as_it_was_when_it_is_cancelled(data_dir: Path | None) -> None:
    async with server(data_dir) as (http, _):
        job_id = await finished_run(http)
        before = (await http.get(f"/v1/runs/{job_id}")).json()
        answer = await http.post(f"/v1/runs/{job_id}/cancel")
    assert answer.status_code == 200
    assert answer.json() == before
    assert before["status"] == "success"
    assert before["usage"]["output_tokens"] > 0


async def test_runs_are_listed_by_how_they_stand(data_dir: Path | None) -> None:
    async with server(data_dir, order="AA|") as (http, _):
        done = await finished_run(http)
        live, stopped = await held_run(http), await held_run(http)
        await http.post(f"/v1/runs/{stopped}/cancel")
        found = {
            status: [run["job_id"] for run in (await http.get("/v1/runs", params={"status": status})).json()["data"]]
            for status in ("queued", "running", "success", "cancelled", "failed")
        }
        page = (await http.get("/v1/runs", params={"status": "running", "after": stopped})).json()
        empty = (await http.get("/v1/runs", params={"after": done})).json()
        wrong = [
            await http.get("/v1/runs", params=params)
            for params in ({"status": "asleep"}, {"limit": 0}, {"limit": 101}, {"limit": "x"})
        ]
        run = (await http.get(f"/v1/runs/{live}")).json()
    assert found == {"queued": [], "running": [live], "success": [done], "cancelled": [stopped], "failed": []}
    assert [body["job_id"] for body in page["data"]] == [live]
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert {answer.status_code for answer in wrong} == {422}
    assert (run["status"], run["ended_at"], run["object"], run["kind"]) == ("running", None, "run", "swarm")


async def test_a_forgotten_run_is_gone_everywhere_and_its_key_is_free(data_dir: Path | None) -> None:
    headers = {"Idempotency-Key": "once"}
    async with server(data_dir) as (http, model):
        job_id = (await http.post(SWARM, json=PAYLOAD, headers=headers)).json()["job_id"]
        token = (await http.post(f"/v1/runs/{job_id}/stream-token")).json()["token"]
        assert (await http.delete(f"/v1/runs/{job_id}")).status_code == 204
        answers = [await http.request(method, path.format(job_id)) for method, path in ROUTES]
        by_token = await http.get(f"/v1/runs/{job_id}/stream", params={"token": token})
        listed = [(await http.get("/v1/runs")).json()["data"], (await http.get("/v1/swarm/logs")).json()["logs"]]
        afresh = await http.post(SWARM, json=PAYLOAD, headers=headers)
    assert {answer.status_code for answer in answers} == {404}
    assert by_token.status_code == 401
    assert listed == [[], []]
    assert afresh.status_code == 200
    assert afresh.json()["job_id"] != job_id
    assert len(model.calls) == 2
