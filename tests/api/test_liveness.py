"""Nothing is buffered on the way: a client has each token while the provider still holds back the next."""

import json
import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.types import Message

from swarmstream.api.streaming import ReadOptions, RunStream
from swarmstream.journal.memory import MemoryJournal
from swarmstream.runs.job import Job
from swarmstream.runs.supervisor import RunLimits
from swarmstream.wire.framing import SSE
from tests.clients.nginx import nginx_before
from tests.clients.sse import Parser, ServerEvent, check_stream, events_of
from tests.conftest import client, serving
from tests.fakes.clock import DrivenClock
from tests.fakes.held_provider import HeldProvider
from tests.fakes.local_models import local_models
from tests.fakes.scripted_model import ScriptedModel, swarm
from tests.fakes.upstream import provider
from tests.runs.supervisors import supervisor_of

pytestmark = pytest.mark.anyio

NDJSON = {"Accept": "application/x-ndjson"}
PAYLOAD = {"agent_config": {"agent_name": "A"}, "task": "go", "stream": True}


async def _first_chunk_while_the_provider_is_held(url: str, held: HeldProvider) -> list[ServerEvent]:
    events: list[ServerEvent] = []
    async with client(url) as http, http.stream("POST", "/v1/agent/completions", json=PAYLOAD) as response:
        with anyio.fail_after(30):
            async for event in events_of(response):
                events.append(event)
                if event.event == "chunk" and not held.go_on.is_set():
                    assert event.data["content"] == "first"
                    held.go_on.set()
    check_stream(events)
    return events


@pytest.mark.promise("W-44")
async def test_a_token_arrives_while_the_provider_holds_the_next(tmp_path: Path) -> None:
    held = HeldProvider()
    async with provider(held) as upstream, local_models(upstream, tmp_path) as url:
        events = await _first_chunk_while_the_provider_is_held(url, held)
    assert events[-1].data["outputs"][0]["content"] == "first second"


@pytest.mark.promise("W-44")
@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
async def test_a_token_arrives_through_nginx_too(tmp_path: Path, free_tcp_port: int) -> None:
    held = HeldProvider()
    async with (
        provider(held) as upstream,
        local_models(upstream, tmp_path) as url,
        nginx_before(url, free_tcp_port, tmp_path) as proxy_url,
    ):
        await _first_chunk_while_the_provider_is_held(proxy_url, held)


@pytest.mark.promise("W-43")
async def test_stream_headers_forbid_buffering_and_compression() -> None:
    async with (
        serving(default_model="A", models={"demo": ScriptedModel({"A": ["a"]})}, model_aliases={"A": "demo/A"}) as url,
        client(url) as http,
        http.stream("POST", "/v1/agent/completions", json=PAYLOAD, headers={"Accept-Encoding": "gzip"}) as response,
    ):
        events = [event async for event in events_of(response)]
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store, no-transform"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["location"] == f"/v1/runs/{events[0].data['job_id']}/stream"
    assert "content-encoding" not in response.headers
    assert "connection" not in response.headers


@pytest.mark.promise("W-47")
async def test_silence_is_filled_with_comments_that_do_not_end_an_event(tmp_path: Path) -> None:
    held = HeldProvider()
    clock = DrivenClock()
    parser = Parser()
    body = b""
    async with (
        provider(held) as upstream,
        local_models(upstream, tmp_path, heartbeat_seconds=15, clock=clock) as url,
        client(url) as http,
        http.stream("POST", "/v1/agent/completions", json=PAYLOAD) as response,
    ):
        with anyio.fail_after(30):
            async for content in response.aiter_raw():
                body += content
                list(parser.feed(content))
                if parser.comments >= 3:
                    held.go_on.set()
                elif b"first" in body:
                    await clock.advance(15)
    assert parser.retry == 3000
    assert body.startswith(b"retry: 3000\nid: 1\nevent: metadata\n")
    assert b"\n\n: ping\n: ping\n" in body
    assert b": ping\n\n" not in body


async def _lines_of(url: str, payload: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    async with client(url) as http:
        answer = await http.post("/v1/swarm/completions", json=payload, headers=NDJSON)
    return answer.headers["content-type"], [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.promise("W-10", "W-45")
async def test_json_lines_carry_the_same_events() -> None:
    models = {"demo": ScriptedModel({"A": ["a1", "ä2"], "B": ["b"]})}
    payload: dict[str, Any] = {
        "task": "go",
        "stream": True,
        "agents": [{"agent_name": name, "model_name": f"demo/{name}"} for name in ("A", "B")],
    }
    async with serving(models=models) as url:
        content_type, lines = await _lines_of(url, payload)
        async with client(url) as http, http.stream("POST", "/v1/swarm/completions", json=payload) as response:
            events = [event async for event in events_of(response)]
    assert content_type == "application/x-ndjson"
    assert [(line["id"], line["event"]) for line in lines] == [(event.id, event.event) for event in events]
    assert [line["data"].keys() for line in lines] == [event.data.keys() for event in events]


@pytest.mark.promise("W-47")
async def test_a_heartbeat_between_json_lines_is_white_space(tmp_path: Path) -> None:
    held = HeldProvider()
    payload = {"agents": [{"agent_name": "A"}], "task": "go", "stream": True}
    clock = DrivenClock()
    body = b""
    async with (
        provider(held) as upstream,
        local_models(upstream, tmp_path, heartbeat_seconds=15, clock=clock) as url,
        client(url) as http,
        http.stream("POST", "/v1/swarm/completions", json=payload, headers=NDJSON) as response,
    ):
        with anyio.fail_after(30):
            async for content in response.aiter_raw():
                body += content
                if body.endswith(b"  "):
                    held.go_on.set()
                elif b"first" in body:
                    await clock.advance(15)
    assert [json.loads(line)["event"] for line in body.splitlines()][-1] == "end"


async def test_waiting_frames_leave_in_blocks_of_bounded_size() -> None:
    """Each chunk repeats its turn's text: a thousand of them would be half a gigabyte in one write."""
    sizes: list[int] = []
    complete = anyio.Event()

    async def send(message: Message) -> None:
        sizes.append(len(message.get("body", b"")))
        if not message.get("more_body", True):
            complete.set()

    async def receive() -> Message:
        await complete.wait()
        return {"type": "http.disconnect"}

    model = ScriptedModel({"A": ["x" * 1000] * 500})
    journal = MemoryJournal(retain_seconds=60, retain_bytes=1 << 24)
    async with supervisor_of(journal, {"scripted": model}, RunLimits()) as supervisor:
        run = await supervisor.start(Job(kind="swarm", plan=swarm("A").plan, owner="o", swarm_type="AgentRearrange"))
        tail = await journal.open_cursor(run.job_id)
        await supervisor.drain(5)
        await RunStream(ReadOptions(tail), SSE, heartbeat_seconds=15, headers={})({}, receive, send)
    assert sum(sizes) > 100_000_000
    assert max(sizes) < 256 * 1024 + 600_000, "a block, and one frame that goes beyond it"


@pytest.mark.promise("W-32", "W-49")
async def test_coalescing_joins_a_turns_tokens_without_losing_any() -> None:
    tokens = [f"t{number} " for number in range(50)]
    payload = {
        "agent_config": {"agent_name": "A", "model_name": "demo/A"},
        "task": "go",
        "stream": True,
        "stream_options": {"coalesce_ms": 50, "include_output": False},
    }
    async with (
        serving(models={"demo": ScriptedModel({"A": tokens})}) as url,
        client(url) as http,
        http.stream("POST", "/v1/agent/completions", json=payload) as response,
    ):
        events = [event async for event in events_of(response)]
    chunks = [event for event in events if event.event == "chunk"]
    assert len(chunks) < 50
    assert "".join(chunk.data["content"] for chunk in chunks) == "".join(tokens)
    assert events[-1].id == 50 + 6
    assert all("output" not in chunk.data for chunk in chunks)
