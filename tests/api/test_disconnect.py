"""What happens to a run when its client goes: nobody pays for what nobody reads."""

from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.clients.sse import ServerEvent, check_stream, events_of
from tests.conftest import OTHER_KEY, client
from tests.fakes.clock import DrivenClock
from tests.fakes.local_models import local_models
from tests.fakes.upstream import Exchange, Upstream, provider

pytestmark = pytest.mark.anyio


class Gated:
    """A provider that says one word and goes on when it is let."""

    def __init__(self) -> None:
        self.go_on = anyio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say(f"{exchange.system} ")
        await self.go_on.wait()
        await exchange.finish()


def _payload(**fields: Any) -> dict[str, Any]:
    agents = [{"agent_name": name, "system_prompt": name} for name in ("A", "B")]
    return {"task": "go", "stream": True, "agents": agents, **fields}


async def _leave_after_the_first_chunk(http: httpx.AsyncClient, payload: dict[str, Any]) -> tuple[str, int]:
    """The path of the run's stream, and the last event seen. The server has heard of it when this returns."""
    async with http.stream("POST", "/v1/swarm/completions", json=payload) as response:
        chunk = await anext(event async for event in events_of(response) if event.event == "chunk")
    await anyio.wait_all_tasks_blocked()
    assert chunk.id
    return response.headers["location"], chunk.id


async def _rest_of(http: httpx.AsyncClient, path: str, after: int = 0) -> list[ServerEvent]:
    with anyio.fail_after(30):
        async with http.stream("GET", path, headers={"Last-Event-ID": str(after)}) as response:
            assert response.status_code == 200
            return [event async for event in events_of(response)]


async def _closed_by_us(upstream: Upstream) -> None:
    with anyio.fail_after(30):
        await upstream.exchanges[0].closed_by_client.wait()


async def test_the_provider_is_hung_up_on_and_no_later_agent_starts(tmp_path: Path) -> None:
    clock = DrivenClock()
    async with (
        provider(Gated()) as upstream,
        local_models(upstream, tmp_path, disconnect_grace_seconds=8, clock=clock) as url,
        client(url) as http,
    ):
        path, _ = await _leave_after_the_first_chunk(http, _payload())
        await clock.waiting(8)
        await clock.advance(7)
        assert not upstream.exchanges[0].closed_by_client.is_set(), "within the grace its client may come back"
        await clock.advance(1)
        await _closed_by_us(upstream)
        events = await _rest_of(http, path)
    check_stream(events)
    assert [event.data["agent"] for event in events if event.event == "agent_start"] == ["A"]
    assert [event.data["code"] for event in events if event.event == "error"] == ["cancelled"]
    ends = {event.event: event.data for event in events}
    assert ends["agent_end"]["status"] == "cancelled"
    assert ends["end"]["status"] == "cancelled"
    assert ends["usage"]["estimated"] is True
    assert ends["usage"]["total_tokens"] > 0
    assert len(upstream.exchanges) == 1


async def test_an_unstreamed_run_ends_with_its_client_too(tmp_path: Path) -> None:
    clock = DrivenClock()
    async with (
        provider(Gated()) as upstream,
        local_models(upstream, tmp_path, disconnect_grace_seconds=8, clock=clock) as url,
        client(url) as http,
    ):
        with anyio.fail_after(30) as scope:
            async with anyio.create_task_group() as tasks:

                async def leave() -> None:
                    await upstream.asked(1)
                    scope.cancel()

                tasks.start_soon(leave)
                await http.post("/v1/swarm/completions", json=_payload(stream=False))
        await clock.waiting(8)
        await clock.advance(8)
        await _closed_by_us(upstream)
    assert len(upstream.exchanges) == 1


async def test_a_run_with_on_disconnect_continue_goes_on_and_can_be_read_to_its_end(tmp_path: Path) -> None:
    gated = Gated()
    async with (
        provider(gated) as upstream,
        local_models(upstream, tmp_path, disconnect_grace_seconds=0) as url,
        client(url) as http,
    ):
        path, seen = await _leave_after_the_first_chunk(http, _payload(on_disconnect="continue"))
        gated.go_on.set()
        rest = await _rest_of(http, path, after=seen)
        whole = await _rest_of(http, path)
        again = await http.get(path, headers={"Last-Event-ID": str(whole[-1].id)})
    check_stream(whole)
    assert whole[seen:] == rest
    assert whole[-1].data["status"] == "success"
    assert again.status_code == 204


async def test_within_the_grace_no_new_agent_starts_until_a_reader_is_back(tmp_path: Path) -> None:
    gated = Gated()
    clock = DrivenClock()
    async with (
        provider(gated) as upstream,
        local_models(upstream, tmp_path, disconnect_grace_seconds=30, clock=clock) as url,
        client(url) as http,
    ):
        path, seen = await _leave_after_the_first_chunk(http, _payload())
        await clock.waiting(30)
        gated.go_on.set()
        with anyio.fail_after(30):
            await upstream.idle()
        while (await http.get(path.removesuffix("/stream"))).json()["output"] != [{"role": "A", "content": "A "}]:
            pass
        await clock.advance(29)
        assert len(upstream.exchanges) == 1
        rest = await _rest_of(http, path, after=seen)
    assert [event.data["agent"] for event in rest if event.event == "agent_start"] == ["B"]
    assert rest[-1].data["status"] == "success"


@pytest.mark.promise("W-62")
async def test_a_later_reader_may_want_it_written_otherwise(tmp_path: Path) -> None:
    gated = Gated()
    gated.go_on.set()
    async with provider(gated) as upstream, local_models(upstream, tmp_path) as url, client(url) as http:
        answer = await http.post("/v1/swarm/completions", json=_payload(stream=False))
        path = answer.headers["location"]
        whole, lean = await _rest_of(http, path), await _rest_of(http, f"{path}?include_output=false&coalesce_ms=1")
        refused = await http.get(f"{path}?coalesce_ms=-1")
    assert all("output" in event.data for event in whole if event.event == "chunk")
    assert not any("output" in event.data for event in lean if event.event == "chunk")
    assert refused.status_code == 422


async def test_a_run_is_not_there_for_another_key(tmp_path: Path) -> None:
    gated = Gated()
    gated.go_on.set()
    async with (
        provider(gated) as upstream,
        local_models(upstream, tmp_path) as url,
        client(url) as http,
        client(url, key=OTHER_KEY) as stranger,
    ):
        answer = await http.post("/v1/swarm/completions", json=_payload(stream=False))
        path = answer.headers["location"]
        foreign = (await stranger.get(path)).json()
        missing = (await stranger.get("/v1/runs/swarms-0/stream")).json()
    assert foreign["status"] == 404
    assert {**foreign, "request_id": ""} == {**missing, "request_id": ""}


@pytest.mark.parametrize("cursor", ["-1", "x", "1.5", "9" * 40, ""])
async def test_a_cursor_that_is_no_number_is_refused(cursor: str, tmp_path: Path) -> None:
    async with provider(Gated()) as upstream, local_models(upstream, tmp_path) as url, client(url) as http:
        answer = await http.get("/v1/runs/swarms-0/stream", headers={"Last-Event-ID": cursor})
    assert answer.status_code == 400
