"""File descriptors do not run out: connections and runs beyond them are refused and may come again."""

import json
from collections import Counter
from typing import Any

import anyio
import httpx
import pytest

from swarmstream.descriptors import Capacity, capacity_within
from tests.clients.process import openai_environ, server_process
from tests.clients.raw import ANSWER, GET, raw_client, status_of
from tests.clients.sse import check_stream, events_of
from tests.conftest import KEY, client, serving
from tests.fakes.scripted_model import ScriptedModel
from tests.fakes.upstream import Exchange, provider

pytestmark = pytest.mark.anyio

PAYLOAD: dict[str, Any] = {
    "agent_config": {"agent_name": "A", "model_name": "gpt-4.1", "num_retries": 0},
    "task": "go",
    "stream": True,
}


def test_descriptors_are_divided_so_that_connections_and_runs_fit() -> None:
    for limit in (100, 256, 1024, 65_536):
        capacity = capacity_within(limit, max_runs=1000)
        assert capacity.connections + capacity.runs < limit
        assert 0 < capacity.runs <= 1000
        assert capacity.connections > capacity.runs
    assert capacity_within(65_536, max_runs=1000) == Capacity(connections=64_440, runs=1000)
    assert capacity_within(1024, max_runs=10) == Capacity(connections=918, runs=10)


async def test_silent_connections_do_not_keep_others_out() -> None:
    """More of them than the process has descriptors."""
    environ = {"SWARMSTREAM_API_KEYS": KEY}
    with anyio.fail_after(60):
        async with (
            server_process(environ=environ, descriptors=(256, 256)) as server,
            anyio.create_task_group() as tasks,
        ):
            there = anyio.Semaphore(0)

            async def be_silent() -> None:
                async with raw_client(server.url):
                    there.release()
                    await anyio.sleep_forever()

            for _ in range(400):
                tasks.start_soon(be_silent)
            for _ in range(400):
                await there.acquire()
            async with client(server.url) as http:
                assert (await http.get("/health")).status_code == 200
            tasks.cancel_scope.cancel()
    assert "Traceback" not in server.log


async def _outcomes(url: str, streams: int) -> Counter[str]:
    """Open so many streams at once; count their ends by the run's status, or the refusal's code."""
    outcomes: Counter[str] = Counter()

    async def read() -> None:
        async with http.stream("POST", "/v1/agent/completions", json=PAYLOAD) as response:
            if response.status_code == 200:
                events = [event async for event in events_of(response)]
                check_stream(events)
                outcomes[events[-1].data["status"]] += 1
            else:
                assert int(response.headers["retry-after"]) > 0
                outcomes[json.loads(await response.aread())["code"]] += 1

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    headers = {"x-api-key": KEY}
    http = httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False, verify=False, limits=limits)
    async with http, anyio.create_task_group() as tasks:
        for _ in range(streams):
            tasks.start_soon(read)
    return outcomes


async def _one_word(exchange: Exchange) -> None:
    await exchange.open()
    await exchange.say("word")
    await anyio.sleep(0.1)  # so that they are there at once
    await exchange.finish()


async def test_where_descriptors_are_few_streams_succeed_or_are_refused() -> None:
    with anyio.fail_after(60):
        async with (
            provider(_one_word) as upstream,
            server_process(environ=openai_environ(upstream), descriptors=(200, 200)) as server,
        ):
            outcomes = await _outcomes(server.url, 80)
    assert "at most 91 connections and 13 runs at once, not 1000" in server.log
    assert outcomes.keys() == {"success", "unavailable"}
    assert outcomes["success"] >= 13
    assert "Traceback" not in server.log


async def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    with anyio.fail_after(60):
        async with (
            provider(_one_word) as upstream,
            server_process(environ=openai_environ(upstream), descriptors=(64, 4096)) as server,
        ):
            assert await _outcomes(server.url, 100) == {"success": 100}
    assert "gives 4096 file descriptors" in server.log


async def test_when_the_server_is_full_the_longest_idle_connection_is_evicted() -> None:
    async with serving(max_connections=2) as url, raw_client(url) as first, raw_client(url) as second:
        with anyio.fail_after(30):
            for raw in (first, second, first):  # so that the second one has waited longest
                await raw.send(GET + b"\r\n")
                await raw.read_until(ANSWER)
            async with raw_client(url) as third:
                await third.send(GET + b"\r\n")
                await third.read_until(ANSWER)
                assert await second.rest() == (b"", False)
                await first.send(GET + b"\r\n")
                await first.read_until(ANSWER)


async def test_an_evicted_connection_without_a_request_gets_503() -> None:
    async with serving(max_connections=1) as url, raw_client(url) as silent:
        with anyio.fail_after(30):
            await silent.send(GET)  # not its whole head
            async with raw_client(url) as other:
                await other.send(GET + b"\r\n")
                await other.read_until(ANSWER)
                answer, _ = await silent.rest()
    assert status_of(answer) == 503
    assert b"retry-after: 5" in answer
    assert b'"code":"unavailable"' in answer


async def test_a_request_under_way_is_not_cut_for_a_new_connection() -> None:
    model = ScriptedModel({"A": ["a1", "a2"]}, order="AXA")
    payload = {"agent_config": {"agent_name": "A", "model_name": "demo/A"}, "task": "go", "stream": True}
    async with serving(max_connections=1, models={"demo": model}) as url, client(url) as http:
        with anyio.fail_after(30):
            async with http.stream("POST", "/v1/agent/completions", json=payload) as response:
                events = events_of(response)
                await anext(events)
                async with raw_client(url) as other:
                    answer, _ = await other.rest()
                model.skip()
                last = [event async for event in events][-1]
    assert status_of(answer) == 503
    assert last.data["status"] == "success"
