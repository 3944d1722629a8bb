"""The headers of a request that say how its run is answered and what is kept with it (docs/wire.md, section 1)."""

import json
from typing import Any

import pytest

from swarmstream.journal.base import RunRecord
from swarmstream.journal.memory import MemoryJournal
from tests.conftest import client, serving
from tests.fakes.scripted_model import ScriptedModel

pytestmark = pytest.mark.anyio

PATH = "/v1/agent/completions"
PAYLOAD: dict[str, Any] = {"agent_config": {"agent_name": "A", "model_name": "demo/A"}, "task": "go"}


@pytest.mark.promise("W-10")
async def test_a_stream_is_frames_also_for_a_client_that_accepts_json_only() -> None:
    async with serving(models={"demo": ScriptedModel({"A": ["x"]})}) as url, client(url) as http:
        streamed = await http.post(PATH, json={**PAYLOAD, "stream": True}, headers={"Accept": "application/json"})
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert streamed.content.startswith(b"retry: 3000\nid: 1\nevent: metadata\n")


@pytest.mark.promise("W-10", "W-45")
async def test_json_lines_are_for_clients_that_accept_them() -> None:
    async with serving(models={"demo": ScriptedModel({"A": ["x"]})}) as url, client(url) as http:
        streamed = await http.post(PATH, json={**PAYLOAD, "stream": True}, headers={"Accept": "application/x-ndjson"})
    assert streamed.headers["content-type"] == "application/x-ndjson"
    assert [list(json.loads(line)) for line in streamed.content.splitlines()] == [["id", "event", "data"]] * 7


@pytest.mark.promise("W-17")
async def test_the_callers_place_in_a_trace_is_kept_with_the_run() -> None:
    kept: list[str | None] = []
    journal = MemoryJournal(retain_seconds=60, retain_bytes=1 << 20)
    submit = journal.submit

    async def listening(record: RunRecord, *arguments: Any, **options: Any) -> Any:
        kept.append(record.traceparent)
        return await submit(record, *arguments, **options)

    journal.submit = listening
    place = f"00-{'a' * 32}-{'b' * 16}-01"
    models = {"demo": ScriptedModel({"A": [["x"], ["x"]]})}
    async with serving(models=models, journal=journal) as url, client(url) as http:
        for traceparent in (place, "somewhere"):
            await http.post(PATH, json=PAYLOAD, headers={"traceparent": traceparent})
    assert kept == [place, None], "what is no traceparent is not kept"
