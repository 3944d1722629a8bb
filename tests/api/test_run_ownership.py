"""Runs as things of their own: listed, joined, read with a token, forgotten, begun once (docs/wire.md, section 5)."""

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from pydantic import SecretStr

from swarmstream.api.auth import KeyRing, owner_name
from swarmstream.api.stream_tokens import TOKEN_SECONDS, make_stream_token, token_digest
from swarmstream.events import RunDescribed, RunEnded, RunStarted, Usage, UsageTotalled
from swarmstream.journal.base import RunRecord
from swarmstream.journal.memory import MemoryJournal
from swarmstream.journal.opening import journal_of
from swarmstream.journal.sqlite.journal import SqliteJournal
from swarmstream.logs import Redactor, TextFormatter
from swarmstream.settings import Settings
from tests.clients.process import OPENAI_KEY, openai_environ, server_process
from tests.clients.sse import ServerEvent, check_stream, events_of
from tests.conftest import KEY, OTHER_KEY, client, serving
from tests.fakes.clock import DrivenClock
from tests.fakes.local_models import local_models
from tests.fakes.scripted_model import ScriptedModel
from tests.fakes.upstream import Exchange, hello, provider

pytestmark = pytest.mark.anyio

PAYLOAD: dict[str, Any] = {"task": "go", "agents": [{"agent_name": "A", "model_name": "demo/A"}]}
STREAM = {**PAYLOAD, "stream": True}
SWARM = "/v1/swarm/completions"
LONG_KEY = "key-of-an-operators-client-0123456789"


@pytest.fixture(params=["memory", "sqlite"])
def data_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "data" if request.param == "sqlite" else None


@asynccontextmanager
async def server(
    data_dir: Path | None, lines: Any = "ab", order: str = "", **settings: Any
) -> AsyncGenerator[tuple[httpx.AsyncClient, ScriptedModel]]:
    model = ScriptedModel(
        {
            "A": list(lines),
        },
        order=order,
    )
    with anyio.fail_after(30):
        async with serving(models={"demo": model}, data_dir=data_dir, **settings) as url, client(url) as http:
            yield http, model


async def held_run(http: httpx.AsyncClient, **fields: Any) -> str:
    """The id of a run that goes on, and waits for its model."""
    answer = await http.post(SWARM, json={**PAYLOAD, "background": True, **fields})
    assert answer.status_code == 202, answer.text
    return answer.json()["job_id"]


async def finished_run(http: httpx.AsyncClient) -> str:
    return (await http.post(SWARM, json=PAYLOAD)).json()["job_id"]


async def spoken(http: httpx.AsyncClient, path: str) -> None:
    """Read a run up to its first chunk, and leave."""
    async with http.stream("GET", path) as response:
        await anext(event async for event in events_of(response) if event.event == "chunk")


async def answered(log: pytest.LogCaptureFixture) -> None:
    """Wait until the server has done with a request, as its log tells, because its client is gone."""
    with anyio.fail_after(30):
        while f"POST {SWARM} 200" not in log.text:
            await anyio.lowlevel.checkpoint()


async def end_of(http: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """The data of a run's last event, once it is there."""
    async with http.stream("GET", path) as response:
        assert response.status_code == 200, await response.aread()
        return [event async for event in events_of(response)][-1].data


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


@pytest.mark.parametrize("key", [b"", b"x" * 256, b"tab\there", "schl\u00fcssel".encode()])
async def test_an_unusable_idempotency_key_is_refused(key: bytes) -> None:
    async with server(None) as (http, model):
        answer = await http.post(SWARM, json=PAYLOAD, headers=httpx.Headers([(b"Idempotency-Key", key)]))
        longest = await http.post(SWARM, json=PAYLOAD, headers={"Idempotency-Key": "x" * 255})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert longest.status_code == 200
    assert len(model.calls) == 1


@pytest.mark.parametrize(
    ("fields", "headers", "goes_on"),
    [
        ({}, {}, False),
        ({"on_disconnect": "continue"}, {}, True),
        ({}, {"Idempotency-Key": "k"}, True),
        ({"on_disconnect": None}, {"Idempotency-Key": "k"}, True),
        ({"on_disconnect": "cancel"}, {"Idempotency-Key": "k"}, False),
        ({"background": True}, {}, True),
        ({"background": True, "on_disconnect": "cancel"}, {}, True),
    ],
)
async def test_what_becomes_of_a_run_whose_client_goes(
    fields: dict[str, Any], headers: dict[str, str], goes_on: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    clock = DrivenClock()
    async with server(None, order="A|A", disconnect_grace_seconds=8, clock=clock) as (http, model):
        async with http.stream("POST", SWARM, json={**STREAM, **fields}, headers=headers) as response:
            await anext(event async for event in events_of(response) if event.event == "chunk")
        path = response.headers["location"]
        await answered(caplog)
        await clock.advance(7)
        assert (await http.get(path.removesuffix("/stream"))).json()["status"] == "running"
        await clock.advance(1)
        if goes_on:
            model.skip()
        assert (await end_of(http, path))["status"] == ("success" if goes_on else "cancelled")


async def test_a_reader_that_comes_back_within_the_grace_keeps_its_run(
    data_dir: Path | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    clock = DrivenClock()
    async with server(data_dir, order="A|A", disconnect_grace_seconds=8, clock=clock) as (http, model):
        async with http.stream("POST", SWARM, json=STREAM) as response:
            await anext(event async for event in events_of(response) if event.event == "chunk")
        path = response.headers["location"]
        await answered(caplog)
        await clock.advance(7)
        async with http.stream("GET", path) as back:
            assert back.status_code == 200
            await clock.advance(30)
            model.skip()
            events = [event async for event in events_of(back)]
    check_stream(events)
    assert events[-1].data["status"] == "success"


async def test_a_background_run_may_be_streamed_at_once_and_outlives_its_reader(data_dir: Path | None) -> None:
    async with server(data_dir, order="A|A", disconnect_grace_seconds=0) as (http, model):
        async with http.stream("POST", SWARM, json={**STREAM, "background": True}) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            await anext(event async for event in events_of(response) if event.event == "chunk")
        model.skip()
        assert (await end_of(http, response.headers["location"]))["status"] == "success"


async def test_a_refused_request_leaves_no_claim(data_dir: Path | None) -> None:
    async with server(data_dir) as (http, _):
        headers = {"Idempotency-Key": "once"}
        refused = await http.post(SWARM, json={**PAYLOAD, "agents": []}, headers=headers)
        answer = await http.post(SWARM, json=PAYLOAD, headers=headers)
    assert (refused.status_code, answer.status_code) == (400, 200)


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
                await page.get(
                    f"/v1/runs/{ids[0]}/stream", params={"token": f"{token[:-2]}{'xx' if token[-2:] != 'xx' else 'yy'}"}
                ),
                await page.get(f"/v1/runs/{ids[0]}/stream", params={"token": "x"}),
                await page.get(f"/v1/runs/{ids[0]}", params={"token": token}),
                await page.get(f"/v1/runs/{ids[0]}/stream"),
            ]
            last = read.text.rpartition("id: ")[2].partition("\n")[0]
            drained = await page.get(
                f"/v1/runs/{ids[0]}/stream", params={"token": token}, headers={"Last-Event-ID": last}
            )
    assert given["expires_in"] == 60
    assert read.text.count("event: end") == 1
    assert [answer.status_code for answer in refused] == [401] * 5
    assert drained.status_code == 204


# --- Whose runs ----------------------------------------------------------------------------------------------------

ROUTES = [
    ("GET", "/v1/runs/{}"),
    ("GET", "/v1/runs/{}/stream"),
    ("POST", "/v1/runs/{}/cancel"),
    ("POST", "/v1/runs/{}/stream-token"),
    ("DELETE", "/v1/runs/{}"),
    ("GET", "/v1/runs?after={}"),
]


async def test_a_foreign_run_cannot_be_told_from_none(data_dir: Path | None) -> None:
    async with server(data_dir, order="A|") as (http, _), client(str(http.base_url), key=OTHER_KEY) as other:
        own = await held_run(http)
        for is_live in (True, False):
            if not is_live:
                await http.post(f"/v1/runs/{own}/cancel")
            missing = f"{own[:-4]}0000"
            for method, path in ROUTES:
                answers = [await other.request(method, path.format(job_id)) for job_id in (own, missing)]
                bodies = [{**answer.json(), "request_id": ""} for answer in answers]
                assert [answer.status_code for answer in answers] == [404, 404], path
                assert bodies[0] == bodies[1]
                assert own not in str(bodies)
                heads = [set(answer.headers) for answer in answers]
                assert heads[0] == heads[1]
                assert answers[0].headers["content-length"] == answers[1].headers["content-length"]
            its = (await http.get(f"/v1/runs/{own}")).json()
            assert its["status"] == ("running" if is_live else "cancelled"), "a stranger did nothing to it"


@pytest.mark.parametrize("key", [b"%s ", b" %s", b"\t%s \t"])
async def test_white_space_around_a_key_is_no_part_of_it(key: bytes) -> None:
    given = key % KEY.encode()
    async with server(None) as (http, _), client(str(http.base_url), key=None) as nobody:
        for name, value in ((b"x-api-key", given), (b"authorization", b"  Bearer " + given)):
            # Written by hand: clients drop it, or refuse to send it.
            answer = await raw_answer(str(nobody.base_url), name + b":" + value)
            assert answer.startswith(b"HTTP/1.1 200"), (name, value)
        padded = await raw_answer(str(nobody.base_url), b"x-api-key:" + KEY.encode()[:3] + b" " + KEY.encode()[3:])
    assert padded.startswith(b"HTTP/1.1 401"), "within it, it is"


async def raw_answer(url: str, header: bytes) -> bytes:
    """What `GET /v1/runs` with this line is answered."""
    host, _, port = url.removeprefix("http://").partition(":")
    async with await anyio.connect_tcp(host, int(port)) as connection:
        await connection.send(b"GET /v1/runs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + b"\r\n\r\n")
        return await connection.receive()


async def test_every_route_of_runs_wants_a_key() -> None:
    async with server(None) as (http, _), client(str(http.base_url), key=None) as nobody:
        job_id = await finished_run(http)
        paths = [*ROUTES, ("GET", "/v1/runs"), ("GET", "/v1/swarm/logs")]
        answers = [await nobody.request(method, path.format(job_id)) for method, path in paths]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(401, "invalid_api_key")}


# --- Tokens --------------------------------------------------------------------------------------------------------


def token_of(job_id: str, *, seconds_ago: float = 0, key: str = KEY) -> str:
    """A token as the server would have made it some time ago."""
    return make_stream_token(KeyRing([key]), owner_name(key), job_id, now=time.time() - seconds_ago)


def alterations(token: str) -> list[str]:
    job_id, expires, signature = token.split(".")
    return [
        "",
        token[:-1],
        f"{token}A",
        token.swapcase(),
        f"{job_id}{expires}.{signature}",
        f"{job_id}.{expires}",
        f"{job_id}.{expires}.",
        f"{job_id}.{expires}.\u00e9",
        f"{job_id}.{int(expires) + 1}.{signature}",
        f"{job_id}.{'9' * 13}.{signature}",
        token.replace(expires, "\u0661" * 10),
        "\0\0\0",
        "x" * 5000,
    ]


async def test_an_altered_token_is_refused() -> None:
    async with server(None) as (http, _), client(str(http.base_url), key=None) as page:
        job_id = await finished_run(http)
        token = (await http.post(f"/v1/runs/{job_id}/stream-token")).json()["token"]
        path = f"/v1/runs/{job_id}/stream"
        for altered in alterations(token):
            answer = await page.get(path, params={"token": altered})
            assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token"), altered
            assert token[-20:] not in answer.text
        good = await page.get(path, params={"token": token})
    assert good.status_code == 200


async def test_a_token_opens_no_other_run_and_no_other_route(data_dir: Path | None) -> None:
    async with server(data_dir) as (http, _), client(str(http.base_url), key=None) as page:
        job_id, other_id = await finished_run(http), await finished_run(http)
        token = token_of(job_id)
        elsewhere = [
            await page.get(f"/v1/runs/{other_id}/stream", params={"token": token}),
            await page.get(f"/v1/runs/{job_id[:-1]}/stream", params={"token": token}),
        ]
        for method, path in [*ROUTES, ("GET", "/v1/runs"), ("GET", "/v1/swarm/logs"), ("POST", SWARM)]:
            if not path.endswith("/stream"):
                elsewhere.append(await page.request(method, path.format(job_id), params={"token": token}))
                elsewhere.append(await page.request(method, path.format(job_id), headers={"x-api-key": token}))
    assert {answer.status_code for answer in elsewhere} == {401}


async def test_a_token_of_a_removed_key_is_worth_nothing(data_dir: Path | None) -> None:
    async with server(data_dir, api_keys=(SecretStr(KEY),)) as (http, _):
        job_id = await finished_run(http)
        path = f"/v1/runs/{job_id}/stream"
        async with client(str(http.base_url), key=None) as page:
            removed = await page.get(path, params={"token": token_of(job_id, key="a-key-that-was")})
            foreign = await page.get(path, params={"token": token_of(job_id, key=OTHER_KEY)})
    assert (removed.status_code, foreign.status_code) == (401, 401)


async def test_a_token_is_for_connecting_at_once_and_for_coming_back_until_after_the_end(
    data_dir: Path | None,
) -> None:
    resuming = {"Last-Event-ID": "2"}
    journal = journal_of(Settings.model_construct(data_dir=data_dir))
    async with (
        server(None, order="A|A", journal=journal) as (http, model),
        client(str(http.base_url), key=None) as page,
    ):
        job_id = await held_run(http)
        path = f"/v1/runs/{job_id}/stream"
        await spoken(http, path)
        query = {"token": token_of(job_id, seconds_ago=TOKEN_SECONDS + 5)}
        never_connected = await page.get(path, params=query, headers={"Last-Event-ID": "0"})
        await journal.admit_token(job_id, token_digest(query["token"]))  # as it would have been a minute ago
        too_late = await page.get(path, params=query)
        by_query = await page.get(path, params={**query, "starting_after": "2"})
        async with page.stream("GET", path, params=query, headers=resuming) as response:
            assert response.status_code == 200
            model.skip()
            events = [event async for event in events_of(response)]
        after_the_end = await page.get(path, params=query, headers=resuming)
        drained = await page.get(path, params=query, headers={"Last-Event-ID": str(events[-1].id)})
        first_after_the_end = await page.get(path, params=query)
    assert (never_connected.status_code, never_connected.json()["code"]) == (401, "invalid_token")
    assert (too_late.status_code, too_late.json()["code"]) == (401, "invalid_token")
    assert by_query.status_code == 401, "EventSource comes back with the header; a query proves nothing"
    assert [event.id for event in events] == list(range(3, 9))
    assert (after_the_end.status_code, drained.status_code) == (200, 204)
    assert first_after_the_end.status_code == 401


async def test_a_minute_after_the_end_a_token_is_over() -> None:
    journal = MemoryJournal(retain_seconds=60, retain_bytes=1 << 20)
    for job_id, age_seconds in {"swarms-old": TOKEN_SECONDS + 5, "swarms-new": TOKEN_SECONDS - 20}.items():
        began = datetime.now(UTC) - timedelta(seconds=age_seconds)
        record = RunRecord(job_id=job_id, owner=owner_name(KEY), kind="swarm", created_at=began)
        log = await journal.submit(record, on_cancel=lambda: None)
        log.append(RunDescribed(0, job_id, "swarm", None, None, "AgentRearrange", 1, "standard", None, began, (), None))
        log.append(RunStarted(0))
        log.append(UsageTotalled(1000, Usage(), ()))
        await log.commit(RunEnded(1000, status="success", duration_seconds=1, failed_agents=()))
    resuming = {"Last-Event-ID": "2"}
    async with serving(journal=journal) as url, client(url, key=None) as page:

        async def read(job_id: str, headers: dict[str, str], seconds_ago: float = 0) -> int:
            token = token_of(job_id, seconds_ago=seconds_ago)
            if seconds_ago:
                await journal.admit_token(job_id, token_digest(token))
            return (await page.get(f"/v1/runs/{job_id}/stream", params={"token": token}, headers=headers)).status_code

        back_in_time = await read("swarms-new", resuming, TOKEN_SECONDS + 30)
        too_late = await read("swarms-old", resuming, TOKEN_SECONDS + 30)
        made_late = [await read("swarms-old", {}), await read("swarms-old", resuming)]
    assert (back_in_time, too_late, made_late) == (200, 401, [200, 200])


@pytest.mark.parametrize("headers", [{}, {"Last-Event-ID": "2"}])
async def test_it_is_written_down_that_a_token_has_connected(data_dir: Path | None, headers: dict[str, str]) -> None:
    journal = journal_of(Settings.model_construct(data_dir=data_dir))
    async with server(None, journal=journal) as (http, _), client(str(http.base_url), key=None) as page:
        job_id = await finished_run(http)
        given = [(await http.post(f"/v1/runs/{job_id}/stream-token")).json()["token"]]
        given += [token_of(job_id, seconds_ago=20), token_of(job_id, seconds_ago=TOKEN_SECONDS + 5)]
        written_otherwise = given[0].replace(".", ".0", 1)
        for token in (written_otherwise, given[2]):
            await page.get(f"/v1/runs/{job_id}/stream", params={"token": token}, headers=headers)
        assert [await journal.has_admitted(job_id, token_digest(token)) for token in given] == [True, False, False]


async def test_that_a_token_has_connected_is_known_after_a_crash(tmp_path: Path) -> None:
    environ = {"SWARMSTREAM_API_KEYS": KEY, "SWARMSTREAM_DATA_DIR": str(tmp_path / "data")}
    with anyio.fail_after(60):
        async with server_process(environ=environ) as process, client(process.url) as http:
            job_id = await finished_run(http)
            path = f"/v1/runs/{job_id}/stream"
            used, unused = token_of(job_id, seconds_ago=1), token_of(job_id, seconds_ago=2)
            assert (await http.get(path, params={"token": used})).status_code == 200
            process.process.kill()
            await process.process.wait()
        journal = SqliteJournal(tmp_path / "data", retain_seconds=60, retain_bytes=1 << 20)
        await journal.open()
        assert [await journal.has_admitted(job_id, token_digest(token)) for token in (used, unused)] == [True, False]
        await journal.close()


# --- Logs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["text", "json"])
async def test_no_log_tells_a_key_or_a_token(layout: str, tmp_path: Path) -> None:
    with anyio.fail_after(30):
        async with provider(hello) as upstream:
            environ = openai_environ(
                upstream,
                SWARMSTREAM_API_KEYS=LONG_KEY,
                SWARMSTREAM_LOG_LEVEL="DEBUG",
                SWARMSTREAM_LOG_FORMAT=layout,
                SWARMSTREAM_DATA_DIR=str(tmp_path / "data"),
            )
            async with server_process(environ=environ) as server, client(server.url, key=LONG_KEY) as http:
                payload = {"task": "go", "agents": [{"agent_name": "A"}], "background": True}
                answer = await http.post(SWARM, json=payload, headers={"Idempotency-Key": "idem-secret"})
                path = answer.headers["location"]
                token = (await http.post(path.replace("/stream", "/stream-token"))).json()["token"]
                async with client(server.url, key=None) as page:
                    for given in (token, token + "x", LONG_KEY):
                        await page.get(path, params={"token": given})
                    await page.get("/v1/runs", headers={"authorization": f"Bearer {LONG_KEY}x"})
                    await page.get(path, params={"token": token}, headers={"Last-Event-ID": "x"})
                listed = (await http.get("/v1/swarm/logs")).json()
                server.process.terminate()
                await server.stopped(30)
    assert path in server.log
    secrets = {LONG_KEY, OPENAI_KEY, token, token.rpartition(".")[2], "idem-secret"}
    assert [secret for secret in secrets if secret in server.log + server.out] == []
    [entry] = listed["logs"]
    assert (entry["api_key"], entry["category"], entry["data"]["status"]) == ("***6789", "completion", "success")
    stored = b"".join(file.read_bytes() for file in (tmp_path / "data").iterdir())
    assert [secret for secret in secrets if secret.encode() in stored] == [], "nor does the data directory"
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0, "which is for its owner only"


def test_an_access_log_of_uvicorns_would_not_tell_a_token() -> None:
    """Ours has no query strings, and uvicorn's is off. An operator may put it on."""
    token = token_of("swarms-0")
    line = TextFormatter(Redactor(())).format(
        logging.LogRecord(
            *("uvicorn.access", logging.INFO, "", 0, '%s - "%s %s HTTP/%s" %d'),
            ("127.0.0.1:1", "GET", f"/v1/runs/swarms-0/stream?coalesce_ms=5&token={token}", "1.1", 200),
            None,
        )
    )
    assert "coalesce_ms=5" in line
    assert token.rpartition(".")[2] not in line


# --- Their end -----------------------------------------------------------------------------------------------------


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
    assert [its["job_id"] for its in page["data"]] == [live]
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


# --- Restarts ------------------------------------------------------------------------------------------------------


async def test_keys_claims_and_tokens_outlive_the_server(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("key", [None, "once"])
async def test_a_client_that_waits_for_an_answer_is_told_where_its_run_goes_on(tmp_path: Path, key: str | None) -> None:
    """The server stops under it. Sent again, the request would be a second run, unless it has a key."""
    go_on = anyio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await go_on.wait()
        await exchange.say("word")
        await exchange.finish()

    payload = {"task": "go", "agents": [{"agent_name": "A"}], "on_disconnect": "continue"}
    headers = {"Idempotency-Key": key} if key else {}
    answers: list[httpx.Response] = []
    with anyio.fail_after(30):
        async with provider(script) as upstream:
            environ = openai_environ(
                upstream, SWARMSTREAM_DATA_DIR=str(tmp_path / "data"), SWARMSTREAM_DRAIN_SECONDS="0"
            )
            async with server_process(environ=environ) as process, client(process.url) as http:

                async def post() -> None:
                    answers.append(await http.post(SWARM, json=payload, headers=headers))

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(post)
                    await upstream.asked(1)
                    process.process.terminate()
                assert await process.stopped(30) == 0
            go_on.set()
            [told] = answers
            async with server_process(environ=environ) as process, client(process.url) as http:
                end = await end_of(http, told.headers["location"])
                again = await http.post(SWARM, json=payload, headers=headers) if key else None
    assert (told.status_code, told.json()["code"]) == (503, "unavailable")
    assert told.headers["retry-after"] == "1"
    assert told.headers.get("x-should-retry") == (None if key else "false")
    assert end["output"] == [{"role": "A", "content": "word"}]
    if again is not None:
        assert (again.status_code, again.json()["output"]) == (200, end["output"])
        assert len(upstream.exchanges) == 2, "the turn that the restart cut off, and the same once more"
