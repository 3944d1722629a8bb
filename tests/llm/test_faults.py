"""A provider that misbehaves, over a real socket and in both lanes: the stream tells the truth and ends once."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from swarmstream.clock import SYSTEM_CLOCK
from tests.clients.sse import ServerEvent, check_stream, events_of
from tests.conftest import client
from tests.fakes.clock import DrivenClock
from tests.fakes.local_models import PROVIDER_KEY, local_models
from tests.fakes.upstream import Exchange, Script, Upstream, hello, provider

pytestmark = [pytest.mark.anyio, pytest.mark.noisy]


@pytest.fixture(params=["direct", "litellm"])
def lane(request: pytest.FixtureRequest) -> str:
    return request.param


async def _rate_limited(exchange: Exchange) -> None:
    await exchange.refuse(429, f'{{"error": {{"message": "slow down {PROVIDER_KEY}"}}}}'.encode())


async def _server_error(exchange: Exchange) -> None:
    await exchange.refuse(500, b'{"error": {"message": "oops"}}')


async def _html_502(exchange: Exchange) -> None:
    await exchange.refuse(502, b"<html><h1>Bad gateway</h1></html>", "text/html")


async def _html_200(exchange: Exchange) -> None:
    await exchange.refuse(200, b"<html>Please log in</html>", "text/html")


async def _wrong_key(exchange: Exchange) -> None:
    await exchange.refuse(401, f'{{"error": {{"message": "Incorrect API key provided: {PROVIDER_KEY}"}}}}'.encode())


async def _bad_request(exchange: Exchange) -> None:
    await exchange.refuse(400, b'{"error": {"message": "no such parameter"}}')


async def _stall_before_the_answer(exchange: Exchange) -> None:
    await anyio.sleep_forever()


async def _stall_before_the_first_token(exchange: Exchange) -> None:
    await exchange.open()
    await exchange.delta(role="assistant", content="")
    await anyio.sleep_forever()


async def _stall_in_the_stream(exchange: Exchange) -> None:
    await exchange.open()
    await exchange.say("half a ")
    await anyio.sleep_forever()


async def _reset_in_the_stream(exchange: Exchange) -> None:
    await exchange.open()
    await exchange.say("half a ")
    await exchange.received.wait()  # a reset overtakes what is not yet read
    exchange.reset()


async def _close_in_the_stream(exchange: Exchange) -> None:
    await exchange.open()
    await exchange.say("half a ")
    exchange.close()


async def _close_in_a_line(exchange: Exchange) -> None:
    await exchange.open()
    await exchange.say("half a ")
    await exchange.raw(b"40\r\ndata: {")
    exchange.close()


async def _close_before_the_answer(exchange: Exchange) -> None:
    exchange.close()


async def _garbage(exchange: Exchange) -> None:
    await exchange.open()
    await exchange.say("half a ")
    await exchange.chunk(b"data: {not json\n\n")
    await exchange.finish()


async def _error_object(exchange: Exchange) -> None:
    await exchange.open()
    await exchange.say("half a ")
    await exchange.chunk(b'data: {"error": {"message": "overloaded ' + PROVIDER_KEY.encode() + b'", "code": 503}}\n\n')
    await exchange.end()


async def _clean_truncation(exchange: Exchange) -> None:
    await exchange.open()
    await exchange.say("half a ")
    await exchange.end()


async def _empty_stream(exchange: Exchange) -> None:
    await exchange.open()
    await exchange.end()


FAULTS: dict[str, tuple[Callable[[Exchange], Awaitable[None]], str, str]] = {
    "429": (_rate_limited, "provider_rate_limited", ""),
    "500": (_server_error, "provider_error", ""),
    "html 502": (_html_502, "provider_error", ""),
    "html 200": (_html_200, "provider_error", ""),
    "401": (_wrong_key, "provider_auth", ""),
    "400": (_bad_request, "provider_rejected", ""),
    "stall before the answer": (_stall_before_the_answer, "first_token_timeout", ""),
    "stall before the first token": (_stall_before_the_first_token, "first_token_timeout", ""),
    "stall in the stream": (_stall_in_the_stream, "idle_timeout", "half a "),
    "reset in the stream": (_reset_in_the_stream, "upstream_truncated", "half a "),
    "close in the stream": (_close_in_the_stream, "upstream_truncated", "half a "),
    "close in a line": (_close_in_a_line, "upstream_truncated", "half a "),
    "close before the answer": (_close_before_the_answer, "provider_unreachable", ""),
    "garbage": (_garbage, "upstream_invalid", "half a "),
    "error object": (_error_object, "upstream_invalid", "half a "),
    "clean truncation": (_clean_truncation, "upstream_truncated", "half a "),
    "empty stream": (_empty_stream, "upstream_truncated", ""),
}
"""The provider's behaviour, the `code` that it becomes, the text that was there before it."""

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "single": ("/v1/agent/completions", {"agent_config": "Faulty", "task": "go"}),
    "sequential": ("/v1/swarm/completions", {"agents": ["Good", "Faulty", "Never"], "task": "go"}),
    "parallel": (
        "/v1/swarm/completions",
        {
            "agents": ["Good", "Faulty", "Never"],
            "task": "go",
            "swarm_type": "AgentRearrange",
            "rearrange_flow": "Good, Faulty -> Never",
        },
    ),
}


def _payload(fields: dict[str, Any]) -> dict[str, Any]:
    """The agents' names become their specs; each tells the provider its name. Only the single one is patient."""
    retries = 1 if "agent_config" in fields else 0

    def spec(name: str) -> dict[str, Any]:
        return {"agent_name": name, "system_prompt": name, "num_retries": retries}

    filled = dict(fields)
    if "agents" in filled:
        filled["agents"] = [spec(name) for name in filled["agents"]]
    else:
        filled["agent_config"] = spec(filled["agent_config"])
    return filled


def _only_faulty(fault: Script) -> Script:
    async def script(exchange: Exchange) -> None:
        await (fault if exchange.system == "Faulty" else hello)(exchange)

    return script


@pytest.mark.parametrize(
    ("lane", "shape"), [("direct", "single"), ("direct", "sequential"), ("direct", "parallel"), ("litellm", "single")]
)
@pytest.mark.parametrize("fault", FAULTS)
async def test_every_fault_becomes_its_error_and_ends_the_stream_once(
    fault: str, shape: str, lane: str, tmp_path: Path
) -> None:
    script, code, before = FAULTS[fault]
    path, fields = SHAPES[shape]
    attempts = 2 if shape == "single" and _is_repeated(code) else 1
    clock = DrivenClock()
    events: list[ServerEvent] = []
    good_is_done, half_is_received = anyio.Event(), anyio.Event()

    async def time_passes(upstream: Upstream) -> None:
        """As long as the provider stalls, once all else has happened."""
        for attempt in range(attempts):
            await upstream.asked(attempt + (1 if shape == "single" else 2))
            await (half_is_received if before else good_is_done).wait()
            await clock.waiting(19.5, 20)
            await clock.advance(20)
            if attempt + 1 < attempts:
                await clock.waiting(0.25, 0.5)  # the pause before it is asked again
                await clock.advance(0.5)

    async with (
        provider(_only_faulty(script)) as upstream,
        local_models(
            upstream,
            tmp_path,
            lane=lane,
            first_token_seconds=20,
            idle_seconds=20,
            clock=clock if fault.startswith("stall") else SYSTEM_CLOCK,
        ) as url,
        client(url) as http,
        anyio.create_task_group() as tasks,
        http.stream("POST", path, json={**_payload(fields), "stream": True}) as response,
    ):
        assert response.status_code == 200
        if fault.startswith("stall"):
            tasks.start_soon(time_passes, upstream)
        if shape == "single":
            good_is_done.set()
        async for event in events_of(response):
            events.append(event)
            if event.event == "agent_end":
                good_is_done.set()
            elif event.event == "chunk" and event.data["agent"] == "Faulty":
                half_is_received.set()
                for exchange in upstream.exchanges:
                    exchange.received.set()
        with anyio.fail_after(30):
            await upstream.idle()

    check_stream(events)
    assert {event.data["lane"] for event in events if event.event == "agent_start"} == {lane}
    assert events[-1].data["status"] == "failed"
    assert events[-1].data["failed_agents"] == ["Faulty"]
    assert [event.data["code"] for event in events if event.event == "error"] == [code]
    error, end = _around_the_error(events)
    assert end.event == "agent_end"
    assert (end.data["agent"], end.data["status"], end.data["output"]) == ("Faulty", "failed", before)
    assert error.data["attempts"] == attempts
    assert not [event for event in events if event.data.get("agent") == "Never"]
    if shape != "single":
        good = next(e for e in events if e.event == "agent_end" and e.data["agent"] == "Good")
        assert good.data["status"] == "success"
    assert PROVIDER_KEY not in str(events)


def _around_the_error(events: list[ServerEvent]) -> tuple[ServerEvent, ServerEvent]:
    place = next(index for index, event in enumerate(events) if event.event == "error")
    return events[place], events[place + 1]


def _is_repeated(code: str) -> bool:
    return code in {"provider_rate_limited", "provider_error", "first_token_timeout", "provider_unreachable"}


async def test_a_provider_on_a_closed_port_is_unreachable(lane: str, tmp_path: Path, free_tcp_port: int) -> None:
    upstream = Upstream(hello)
    upstream.base_url = f"http://127.0.0.1:{free_tcp_port}/v1"
    async with local_models(upstream, tmp_path, lane=lane) as url, client(url) as http:
        answer = await http.post("/v1/agent/completions", json=_payload(SHAPES["single"][1]))
    assert answer.status_code == 502
    assert answer.json()["code"] == "provider_unreachable"


@pytest.mark.parametrize(
    ("fault", "status"), [("401", 502), ("stall in the stream", 504), ("clean truncation", 502), ("garbage", 502)]
)
async def test_a_failed_run_that_is_not_streamed_is_a_gateway_error_with_the_output_so_far(
    fault: str, status: int, lane: str, tmp_path: Path
) -> None:
    script, code, before = FAULTS[fault]
    clock = DrivenClock()
    answer = httpx.Response(0)

    async def time_passes(upstream: Upstream) -> None:
        if fault.startswith("stall"):
            await upstream.asked(2)
            await clock.waiting(20)
            await clock.advance(20)

    async with (
        provider(_only_faulty(script)) as upstream,
        local_models(upstream, tmp_path, lane=lane, idle_seconds=20, clock=clock) as url,
        client(url) as http,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(time_passes, upstream)
        answer = await http.post("/v1/swarm/completions", json=_payload(SHAPES["sequential"][1]))
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-should-retry"] == "false"
    assert body["output"] == [{"role": "Good", "content": "Good says hello"}, {"role": "Faulty", "content": before}]
    assert body["job_id"].startswith("swarms-")
    assert body["usage"]["total_tokens"] >= 10
    assert PROVIDER_KEY not in answer.text


@pytest.mark.parametrize("recovers", [True, False])
async def test_a_kept_connection_that_proves_to_be_closed_is_replaced_once_and_counted(
    lane: str, recovers: bool, tmp_path: Path
) -> None:
    """The provider hangs up on the second request of a connection, as one does whose patience has run out."""
    counts: dict[str, int] = {}

    async def script(exchange: Exchange) -> None:
        counts[exchange.system] = counts.get(exchange.system, 0) + 1
        if exchange.system == "Faulty" and (counts["Faulty"] == 1 or not recovers):
            exchange.close()
        else:
            await hello(exchange)

    payload = _payload({"agents": ["Good", "Faulty"], "task": "go", "num_retries": 0})
    async with (
        provider(script, keeps_alive=True) as upstream,
        local_models(upstream, tmp_path, lane=lane) as url,
        client(url) as http,
        http.stream("POST", "/v1/swarm/completions", json={**payload, "stream": True}) as response,
    ):
        events = [event async for event in events_of(response)]
    check_stream(events)
    assert counts == {"Good": 1, "Faulty": 2}
    assert events[-1].data["output"][0]["content"] == "Good says hello"
    if recovers:
        assert events[-1].data["output"][1]["content"] == "Faulty says hello"
    else:
        [error] = [event.data for event in events if event.event == "error"]
        assert (error["code"], error["attempts"]) == ("provider_unreachable", 2)


@pytest.mark.parametrize("figure", [-5, "many", None])
async def test_usage_that_is_no_figure_is_counted_by_us(lane: str, figure: object, tmp_path: Path) -> None:
    async def odd(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("four" * 10)
        await exchange.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": figure, "completion_tokens": figure, "total_tokens": figure}
        await exchange.event({"choices": [], "usage": usage})
        await exchange.chunk(b"data: [DONE]\n\n")
        await exchange.end()

    payload = {"agent_config": {"agent_name": "A", "num_retries": 0}, "task": "go"}
    async with provider(odd) as upstream, local_models(upstream, tmp_path, lane=lane) as url, client(url) as http:
        answer = (await http.post("/v1/agent/completions", json=payload)).json()
    assert (answer["usage"]["output_tokens"], answer["usage"]["estimated"]) == (10, True), answer


async def test_the_figures_of_an_answer_that_was_cut_are_the_providers(lane: str, tmp_path: Path) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("half a ")
        usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
        await exchange.event({"choices": [], "usage": usage})
        await exchange.end()

    payload = {"agent_config": {"agent_name": "A"}, "task": "go"}
    async with provider(cut) as upstream, local_models(upstream, tmp_path, lane=lane) as url, client(url) as http:
        body = (await http.post("/v1/agent/completions", json=payload)).json()
    assert body["code"] == "upstream_truncated"
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"]) == (100, 50)
    assert body["usage"]["estimated"] is False


async def test_a_provider_without_figures_is_counted_by_us(lane: str, tmp_path: Path) -> None:
    async def mute(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("four" * 10)
        await exchange.finish(usage=None)

    payload = {"agent_config": {"agent_name": "A"}, "task": "go"}
    async with provider(mute) as upstream, local_models(upstream, tmp_path, lane=lane) as url, client(url) as http:
        usage = (await http.post("/v1/agent/completions", json=payload)).json()["usage"]
    assert (usage["output_tokens"], usage["estimated"]) == (10, True)


async def test_a_clients_sampling_parameters_reach_the_provider(lane: str, tmp_path: Path) -> None:
    agent = {
        "agent_name": "A",
        "temperature": 0.5,
        "max_tokens": 77,
        "llm_args": {"top_p": 0.9, "seed": 7, "stop": ["END"], "frequency_penalty": None},
    }
    plain = {"agent_name": "B"}
    payload = {"task": "go", "img": "https://example.com/a.png", "agents": [agent, plain]}
    async with provider(hello) as upstream, local_models(upstream, tmp_path, lane=lane) as url, client(url) as http:
        assert (await http.post("/v1/swarm/completions", json=payload)).status_code == 200
    asked, default = (exchange.body for exchange in upstream.exchanges)
    wanted = {"model": "local", "stream": True, "stream_options": {"include_usage": True}}
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    assert {name: value for name, value in asked.items() if name != "messages"} == wanted | {
        "temperature": 0.5,
        "max_tokens": 77,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["END"],
    }
    assert asked["messages"] == [{"role": "user", "content": [{"type": "text", "text": "go"}, image]}]
    assert {name: value for name, value in default.items() if name != "messages"} == wanted | {"max_tokens": 8192}
    assert upstream.exchanges[0].headers["authorization"] == f"Bearer {PROVIDER_KEY}"


async def test_a_provider_that_recovers_before_its_first_token_is_asked_again(lane: str, tmp_path: Path) -> None:
    answers = [_rate_limited, _server_error, hello]

    async def script(exchange: Exchange) -> None:
        await answers.pop(0)(exchange)

    payload = {"agent_config": {"agent_name": "A", "system_prompt": "A"}, "task": "go"}
    async with provider(script) as upstream, local_models(upstream, tmp_path, lane=lane) as url, client(url) as http:
        answer = await http.post("/v1/agent/completions", json=payload)
    assert answer.status_code == 200
    assert answer.json()["outputs"][0]["content"] == "A says hello"
    assert [exchange.body for exchange in upstream.exchanges[1:]] == [upstream.exchanges[0].body] * 2


async def test_text_cut_anywhere_between_packets_arrives_whole(lane: str, tmp_path: Path) -> None:
    text = "naïve 日本 👩‍🔬 end"

    async def byte_by_byte(exchange: Exchange) -> None:
        await exchange.open()
        event = f'data: {{"choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]}}\n\n'
        for byte in event.encode():
            await exchange.chunk(bytes([byte]))
        await exchange.finish()

    payload = {"agent_config": {"agent_name": "A"}, "task": "go"}
    async with (
        provider(byte_by_byte) as upstream,
        local_models(upstream, tmp_path, lane=lane) as url,
        client(url) as http,
    ):
        answer = await http.post("/v1/agent/completions", json=payload)
    assert answer.json()["outputs"][0]["content"] == text


async def test_unusual_but_valid_streams_are_read(lane: str, tmp_path: Path) -> None:
    """Dashes in as many chunks, a second choice, thoughts, calls of tools that nobody offered."""

    async def odd(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.chunk(b": a comment\n\n")
        await exchange.delta(role="assistant", content=None, reasoning_content="hm")
        await exchange.say(*["----"] * 150)
        other = {"index": 1, "delta": {"content": "ANOTHER"}, "finish_reason": None}
        await exchange.event({"choices": [other]})
        call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        await exchange.delta(tool_calls=[call])
        await exchange.finish()

    payload = {"agent_config": {"agent_name": "A"}, "task": "go"}
    async with provider(odd) as upstream, local_models(upstream, tmp_path, lane=lane) as url, client(url) as http:
        answer = await http.post("/v1/agent/completions", json=payload)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["content"] == "----" * 150


async def test_half_a_surrogate_pair_waits_for_its_other_half(lane: str, tmp_path: Path) -> None:
    async def split(exchange: Exchange) -> None:
        await exchange.open()
        for half in ("a\\ud83d", "\\ude00b", "\\ud83d"):
            line = f'data: {{"choices":[{{"index":0,"delta":{{"content":"{half}"}},"finish_reason":null}}]}}'
            await exchange.chunk(line.encode() + b"\n\n")
        await exchange.finish()

    payload = {"agent_config": {"agent_name": "A"}, "task": "go", "stream": True}
    async with (
        provider(split) as upstream,
        local_models(upstream, tmp_path, lane=lane) as url,
        client(url) as http,
        http.stream("POST", "/v1/agent/completions", json=payload) as response,
    ):
        events = [event async for event in events_of(response)]
    check_stream(events)
    assert [event.data["content"] for event in events if event.event == "chunk"] == ["a", "😀b", "�"]
    assert events[-1].data["outputs"][0]["content"] == "a😀b�"
