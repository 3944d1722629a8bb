"""Runs whose client goes: in the background, within the grace, or as its server stops (docs/wire.md, section 5)."""

from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.api.held_runs import PAYLOAD, STREAM, SWARM, end_of, server
from tests.clients.process import openai_environ, server_process
from tests.clients.sse import check_stream, events_of
from tests.conftest import client
from tests.fakes.clock import DrivenClock
from tests.fakes.upstream import Exchange, provider

pytestmark = pytest.mark.anyio


async def wait_until_answered(log: pytest.LogCaptureFixture) -> None:
    """Wait until the server has done with a request, as its log tells, because its client is gone."""
    with anyio.fail_after(30):
        while f"POST {SWARM} 200" not in log.text:
            await anyio.lowlevel.checkpoint()


@pytest.mark.promise("W-36")
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


@pytest.mark.promise("W-77")
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
async def test_on_disconnect_decides_whether_a_run_outlives_its_client(
    fields: dict[str, Any], headers: dict[str, str], goes_on: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    clock = DrivenClock()
    async with server(None, order="A|A", disconnect_grace_seconds=8, clock=clock) as (http, model):
        async with http.stream("POST", SWARM, json={**STREAM, **fields}, headers=headers) as response:
            await anext(event async for event in events_of(response) if event.event == "chunk")
        path = response.headers["location"]
        await wait_until_answered(caplog)
        await clock.advance(7)
        assert (await http.get(path.removesuffix("/stream"))).json()["status"] == "running"
        await clock.advance(1)
        if goes_on:
            model.skip()
        assert (await end_of(http, path))["status"] == ("success" if goes_on else "cancelled")


@pytest.mark.promise("W-77")
async def test_a_reader_that_comes_back_within_the_grace_keeps_its_run(
    data_dir: Path | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    clock = DrivenClock()
    async with server(data_dir, order="A|A", disconnect_grace_seconds=8, clock=clock) as (http, model):
        async with http.stream("POST", SWARM, json=STREAM) as response:
            await anext(event async for event in events_of(response) if event.event == "chunk")
        path = response.headers["location"]
        await wait_until_answered(caplog)
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


@pytest.mark.parametrize("key", [None, "once"])
async def test_a_client_that_waits_for_an_answer_gets_the_address_of_its_resumed_run(
    tmp_path: Path, key: str | None
) -> None:
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
            [unavailable] = answers
            async with server_process(environ=environ) as process, client(process.url) as http:
                end = await end_of(http, unavailable.headers["location"])
                again = await http.post(SWARM, json=payload, headers=headers) if key else None
    assert (unavailable.status_code, unavailable.json()["code"]) == (503, "unavailable")
    assert unavailable.headers["retry-after"] == "1"
    assert unavailable.headers.get("x-should-retry") == (None if key else "false")
    assert end["output"] == [{"role": "A", "content": "word"}]
    if again is not None:
        assert (again.status_code, again.json()["output"]) == (200, end["output"])
        assert len(upstream.exchanges) == 2, "the turn that the restart cut off, and the same once more"
