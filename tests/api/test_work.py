"""The work that one request can cause, beside its bytes: agents, schemas, servers, model calls, prompts."""

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from starlette.requests import Request

from swarmstream.api.body import TOTAL_TIME_FACTOR, read_body
from swarmstream.api.payload_outline import PayloadLimits
from swarmstream.engine.prompt_room import PromptRoom
from swarmstream.engine.replay import recovered_turns
from swarmstream.errors import BodyTimeout, InvalidTool, LimitExceeded, RunError, Unavailable, error_from_code
from swarmstream.events import Event, TextDelta, ToolCall, ToolEnded, ToolStarted, TurnRestarted, TurnStarted
from swarmstream.json_schema.cost import cost_of_check
from swarmstream.json_schema.errors import SchemaError
from swarmstream.json_schema.steps import SchemaSteps
from swarmstream.json_schema.validator import check_schema, compile_schema
from swarmstream.llm.prompt_size import IMAGE_TOKENS, PromptSizes
from swarmstream.llm.providers.openai_chat_request import LONG_MESSAGE, SharedMessages
from swarmstream.swarm.compile import compile_agent, compile_swarm
from swarmstream.swarm.limits import PlanLimits
from swarmstream.swarm.payloads import AgentRequest, SwarmRequest
from tests.api.refusals import check_problem
from tests.clients.sse import events_of
from tests.conftest import KEY, OTHER_KEY, client, serving
from tests.fakes.clock import DrivenClock
from tests.fakes.local_models import local_models
from tests.fakes.scripted_model import AnyModel, ScriptedModel
from tests.fakes.upstream import Exchange, provider

pytestmark = pytest.mark.anyio

SWARM = "/v1/swarm/completions"
AGENT = "/v1/agent/completions"
KIB = 1024
NOTHING: dict[str, Any] = {}


def agent(name: str = "A", **fields: Any) -> dict[str, Any]:
    return {"agent_name": name, "model_name": f"demo/{name}", **fields}


# --- Agents and schemas ---------------------------------------------------------------------------------------------


def test_agents_to_hand_off_to_are_counted_before_anything_is_made_of_them() -> None:
    limits = PlanLimits(max_agents=4)
    below = [{"agent_name": "C", "handoffs": [{"agent_name": "D"}]}]

    def swarm(**first: Any) -> None:
        agents = [{"agent_name": "A", **first}, {"agent_name": "B"}]
        compile_swarm(SwarmRequest.model_validate({"task": "go", "agents": agents}), AnyModel(), limits)

    swarm(handoffs=below)
    with pytest.raises(LimitExceeded, match="SWARMSTREAM_MAX_AGENTS") as caught:
        swarm(handoffs=[*below, {"agent_name": "E"}])
    assert caught.value.location == ("agents",)
    single = {"agent_name": "A", "handoffs": [{"agent_name": name} for name in "BCDE"]}
    with pytest.raises(LimitExceeded) as caught:
        compile_agent(AgentRequest.model_validate({"task": "go", "agent_config": single}), AnyModel(), limits)
    assert caught.value.location == ("agent_config", "handoffs")


class Watched(dict[str, Any]):
    """Counts how often it is gone through."""

    looks = 0

    def values(self) -> Any:
        self.looks += 1
        return super().values()


def test_an_anchor_is_found_without_looking_through_the_schema_each_time() -> None:
    """Eighteen thousand references to one made the server stand still for two minutes."""
    schema = Watched({"allOf": [{"$ref": "#a"} for _ in range(50)], "$defs": {"x": {"$anchor": "a"}}})
    cost_of_check(schema)
    assert schema.looks == 1


def test_all_schemas_of_a_request_share_one_bound() -> None:
    schema: dict[str, Any] = {"type": "object", "allOf": [NOTHING] * 20_000}
    steps = SchemaSteps()
    for _ in range(2):
        check_schema(schema, steps)
    with pytest.raises(SchemaError, match="50000 subschemas"):
        check_schema(schema, steps)
    tools = [{"type": "function", "function": {"name": f"t{number}", "parameters": schema}} for number in range(3)]
    spec = {"agent_name": "A", "tools_list_dictionary": tools[:2], "response_format": schema}
    with pytest.raises(InvalidTool, match="50000 subschemas") as caught:
        compile_agent(AgentRequest.model_validate({"task": "go", "agent_config": spec}), AnyModel(), PlanLimits())
    assert caught.value.location == ("agent_config", "response_format")


def test_numbers_to_compare_with_weigh_more_than_words() -> None:
    """A fraction held against integers is compared digit by digit: 827 of them took six seconds."""
    value: Any = [7.3] * 827
    many: Any = {"items": {"anyOf": [*({"enum": [1, 2, 3]} for _ in range(120)), True]}}
    combined: Any = {"items": {"anyOf": [*({"enum": ["a", "b", "c"]} for _ in range(120)), True]}}
    assert compile_schema(many).violation(value) == "it is too large to be held against this schema"
    assert compile_schema(combined).violation(value) is None


async def test_mcp_servers_are_counted_for_the_whole_request() -> None:
    def specs(count: int) -> list[dict[str, Any]]:
        urls = [{"url": f"https://127.0.0.1:{9000 + number}/mcp"} for number in range(count)]
        return [agent(f"A{at}", mcp_configs=urls[at : at + 8]) for at in range(0, count, 8)]

    model = ScriptedModel({})
    async with serving(models={"demo": model}, mcp_allowed_hosts=("127.0.0.1",)) as url, client(url) as http:
        answer = await http.post(SWARM, json={"task": "go", "agents": specs(17)})
        body = check_problem(answer, 400, "limit_exceeded")
    assert body["errors"][0]["loc"] == ["agents", 2, "mcp_configs", 0, "url"]


# --- Model calls ----------------------------------------------------------------------------------------------------


async def test_a_run_that_has_made_all_its_calls_ends_as_such() -> None:
    model = ScriptedModel({"A": ["a"], "B": ["b"]})
    payload = {"task": "go", "agents": [agent("A"), agent("B")], "max_loops": 3}
    async with serving(models={"demo": model}, max_calls=3) as url, client(url) as http:
        with anyio.fail_after(30):
            answer = await http.post(SWARM, json=payload)
            body = check_problem(answer, 409, "limit_exceeded")
            assert "SWARMSTREAM_MAX_CALLS" in body["detail"]
            assert [turn["content"] for turn in body["output"]][:3] == ["a", "b", "a"]
            assert answer.headers["x-should-retry"] == "false"
            assert len(model.calls) == 3
            async with http.stream("POST", SWARM, json={**payload, "stream": True}) as response:
                events = [event async for event in events_of(response)]
    assert events[0].data["max_calls"] == 3
    assert (events[-1].event, events[-1].data["status"]) == ("end", "failed")
    error = next(event.data for event in events if event.event == "error")
    assert (error["code"], error["retryable"]) == ("limit_exceeded", False)


@pytest.mark.noisy
async def test_each_attempt_of_a_call_counts(tmp_path: Path) -> None:
    async def busy(exchange: Exchange) -> None:
        await exchange.refuse(503, b"{}", **{"retry-after": "0"})

    async with provider(busy) as upstream, local_models(upstream, tmp_path, max_calls=2) as url, client(url) as http:
        with anyio.fail_after(30):
            payload = {"task": "go", "agent_config": {"agent_name": "A", "num_retries": 5}}
            check_problem(await http.post(AGENT, json=payload), 409, "limit_exceeded")
            await upstream.idle()
    assert len(upstream.exchanges) == 2


def test_a_resumed_run_goes_on_counting_from_the_calls_in_its_events() -> None:
    started = [TurnStarted(0, name, number, 1, 1, None, "m", "demo") for number, name in enumerate("AB", start=1)]

    def tools(turn: int, *names: str) -> list[Event]:
        begun: list[Event] = [ToolStarted(0, "A", turn, ToolCall(name, name, "{}")) for name in names]
        return [*begun, *(ToolEnded(0, "A", turn, name, name, "", False, 0.0) for name in names)]

    events: list[Event] = [
        *started,  # two calls
        *tools(1, "x", "y"),  # of one call; another follows
        *tools(1, "z"),  # and another
        TextDelta(0, "A", 1, "t", 3),  # which is this one
        TextDelta(0, "B", 2, "t", 1),
        TextDelta(0, "B", 2, "t", 4),  # the second and the third said nothing
        TurnRestarted(0, "B", 2, 2, 9),
    ]
    assert recovered_turns(enumerate(events, start=1)).model_calls == 2 + 2 + 3 + 1


def test_a_failed_run_and_a_refusal_that_share_a_code_are_different_errors() -> None:
    """A run that is taken up after it was stopped ends by what stopped it."""
    assert error_from_code("limit_exceeded", "d").status == 400
    stopped = error_from_code("limit_exceeded", "d", RunError)
    assert isinstance(stopped, RunError)
    assert (stopped.status, stopped.end_status) == (409, "failed")


# --- Prompts --------------------------------------------------------------------------------------------------------


def test_a_message_that_siblings_share_is_encoded_once_and_forgotten_with_them() -> None:
    task = {"role": "user", "content": "x" * LONG_MESSAGE}
    system = {"role": "system", "content": "be brief"}
    shared = SharedMessages()
    bodies = [shared.encode({"model": "m", "n": n}, [system, task, system, system]) for n in range(2)]
    for number, body in enumerate(bodies):
        written = orjson.loads(b"".join(body.pieces))
        assert written == {"model": "m", "n": number, "messages": [system, task, system, system]}
    first, second = ({id(piece) for piece in body.pieces if len(piece) > LONG_MESSAGE} for body in bodies)
    assert first == second
    assert shared.count == 1
    bodies.clear()
    del body  # pyright: ignore[reportPossiblyUnboundVariable]
    assert shared.count == 0
    assert len(shared.encode({"model": "m"}, [system]).pieces) == 1


async def test_a_call_waits_until_there_is_room_for_its_prompt() -> None:
    room = PromptRoom(400)
    share, other = room.admit("key", 0), room.admit("other", 0)
    await room.acquire(share, 60)
    with anyio.move_on_after(0):
        await room.acquire(share, 60)
        pytest.fail("a key has a quarter")
    await room.acquire(other, 100)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(room.acquire, share, 60)
        await anyio.wait_all_tasks_blocked()
        room.release(share, 60)
    with pytest.raises(LimitExceeded, match="SWARMSTREAM_MAX_PROMPT_BYTES"):
        await room.acquire(share, 101)


async def test_a_run_without_room_for_its_prompts_is_not_begun() -> None:
    room = PromptRoom(400)
    first = room.admit("key", 60)
    with pytest.raises(Unavailable) as caught:
        room.admit("key", 60)
    assert caught.value.retry_after_seconds
    room.end_promise(first, 60)
    room.admit("key", 60)
    for owner in ("b", "c", "d"):
        room.admit(owner, 100)
    with pytest.raises(Unavailable):
        room.admit("e", 100)
    with pytest.raises(LimitExceeded):
        room.admit("e", 101)


async def test_prompts_of_all_siblings_have_to_fit_and_another_key_has_room_of_its_own() -> None:
    model = ScriptedModel({"A": ["a"], "B": ["b"]}, order="never")
    task = "x" * 20 * KIB
    three = [agent("A"), agent("B"), agent("C")]
    both: dict[str, Any] = {"task": task, "agents": three[:2], "swarm_type": "ConcurrentWorkflow", "stream": True}
    one = {"task": task, "agent_config": agent("A"), "background": True}
    async with (
        serving(models={"demo": model}, max_prompt_bytes=200 * KIB) as url,
        client(url) as http,
        client(url, key=OTHER_KEY) as others,
    ):
        with anyio.fail_after(30):
            check_problem(await http.post(SWARM, json={**both, "agents": three}), 400, "limit_exceeded")
            async with http.stream("POST", SWARM, json=both) as first:
                assert first.status_code == 200
                refused = await http.post(AGENT, json=one)
                body = check_problem(refused, 503, "unavailable")
                assert int(refused.headers["retry-after"]) >= 1
                assert "SWARMSTREAM_MAX_PROMPT_BYTES" in body["detail"]
                assert (await others.post(AGENT, json=one)).status_code == 202


def test_an_image_is_not_counted_by_its_letters() -> None:
    parts = [{"type": "text", "text": "word" * 10}, {"type": "image_url", "image_url": {"url": "x" * 100_000}}]
    size = PromptSizes().measure([{"role": "user", "content": parts}])
    assert IMAGE_TOKENS <= size.tokens < IMAGE_TOKENS + 30
    assert size.bytes > 100_000


# --- Bodies ---------------------------------------------------------------------------------------------------------


async def test_photos_may_be_large_and_nothing_else() -> None:
    model = ScriptedModel({"A": ["a"]})
    photo = "data:image/jpeg;base64," + "/9j/" * 3_000_000
    escaped = json.dumps({"task": "go", "img": photo, "agent_config": agent()}).replace("/9j/", "\\/9j\\/").encode()
    headers = {"content-type": "application/json"}
    async with serving(models={"demo": model}) as url, client(url) as http:
        with anyio.fail_after(60):
            for body in (
                {"task": "go", "img": photo},
                {"task": "go", "imgs": [photo]},
                {"history": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": photo}}]}]},
            ):
                answer = await http.post(AGENT, json={**body, "agent_config": agent()})
                assert answer.status_code == 200, answer.text
            assert (await http.post(AGENT, content=escaped, headers=headers)).status_code == 200
            for fields in ({"task": photo}, {"task": "go", "description": photo}, {"task": "ä" * 700_000}):
                answer = await http.post(AGENT, json={**fields, "agent_config": agent()})
                body = check_problem(answer, 413, "body_too_large")
                assert "SWARMSTREAM_MAX_PAYLOAD_BYTES" in body["detail"]
            body = check_problem(await http.post(AGENT, json={"img": photo * 2}), 413, "body_too_large")
            assert "SWARMSTREAM_MAX_BODY_BYTES" in body["detail"]


def arriving(parts: AsyncGenerator[bytes]) -> Request:
    """A request whose body comes as these parts do."""

    async def receive() -> dict[str, Any]:
        part = await anext(parts, None)
        return {"type": "http.request", "body": part or b"", "more_body": part is not None}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def test_a_body_may_take_its_time_as_long_as_it_makes_progress() -> None:
    clock = DrivenClock()
    every = 10.0

    async def dripping(size: int, times: int) -> AsyncGenerator[bytes]:
        for _ in range(times):
            await sleep_on(clock, every)
            yield b"x" * size

    async def read(size: int, times: int) -> bytes | BodyTimeout:
        try:
            return await read_body(arriving(dripping(size, times)), PayloadLimits(), seconds=15, clock=clock)
        except BodyTimeout as error:
            return error

    assert isinstance(await driven(clock, read, 64 * KIB, 8), bytes)
    slow = await driven(clock, read, 63 * KIB, 4)
    assert isinstance(slow, BodyTimeout)
    assert "64 kB" in slow.detail
    long = await driven(clock, read, 64 * KIB, 2 * TOTAL_TIME_FACTOR)
    assert isinstance(long, BodyTimeout)
    assert "120 s" in long.detail


async def sleep_on(clock: DrivenClock, seconds: float) -> None:
    over = anyio.Event()
    clock.call_later(seconds, over.set)
    await over.wait()


async def driven(clock: DrivenClock, read: Any, *arguments: Any) -> Any:
    """What it comes to, while time passes."""
    found: list[Any] = []

    async def run() -> None:
        found.append(await read(*arguments))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            while not found:
                await clock.advance(1.0)
    return found[0]


async def test_a_body_that_announces_far_too_much_is_answered_at_once() -> None:
    async with serving(max_body_bytes=1000) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        head = f"POST {AGENT} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n"
        writer.write(head.encode() + b"content-length: 1000000000000\r\n\r\n{")
        with anyio.fail_after(10):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"SWARMSTREAM_MAX_BODY_BYTES" in answer
