"""A POST that is sent again goes on where its stream was cut, and is never a second run (docs/wire.md, section 5)."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import pytest

from swarmstream.api.body import PostedPayload, parse_payload
from swarmstream.api.payload_outline import PayloadLimits
from swarmstream.journal.memory import MemoryJournal
from swarmstream.swarm.payloads import AgentRequest
from tests.api.stories import (
    EVENTS,
    MIDDLE,
    NDJSON,
    PAYLOAD,
    RETRY,
    SWARM,
    after,
    crowd,
    events_in,
    frames_of,
    telling,
)
from tests.clients.sse import check_stream, events_of
from tests.conftest import client, serving
from tests.fakes.scripted_model import ScriptedModel

pytestmark = pytest.mark.anyio

AGENT = "/v1/agent/completions"
KEYED = {"Idempotency-Key": "once"}
TERSE = {"include_output": False}


def behind(payload: dict[str, Any], cursor: object, **options: Any) -> dict[str, Any]:
    """The same payload from a client that has the event `cursor`."""
    return {**payload, "stream_options": {**payload.get("stream_options", {}), "starting_after": cursor, **options}}


async def post(
    http: httpx.AsyncClient, payload: dict[str, Any], cursor: int | str | None = None, path: str = SWARM, **headers: str
) -> httpx.Response:
    """A POST with the key, and with a cursor in its head if there is one."""
    cursor_header = {} if cursor is None else {"Last-Event-ID": str(cursor)}
    return await http.post(path, json=payload, headers={**KEYED, **cursor_header, **headers})


async def cut_off(http: httpx.AsyncClient, payload: dict[str, Any], path: str = SWARM, **headers: str) -> None:
    """Begin a run, and leave its stream in the middle of the story."""
    async with http.stream("POST", path, json=payload, headers={**KEYED, **headers}) as response:
        assert response.status_code == 200, await response.aread()
        async for event in events_of(response):
            if event.id == MIDDLE:
                break


@pytest.mark.promise("W-65")
@pytest.mark.parametrize("options", [{}, TERSE], ids=["output", "terse"])
async def test_a_post_sent_again_goes_on_behind_the_event_that_its_client_has(
    data_dir: Path | None,
    options: dict[str, Any],
) -> None:
    payload = {**PAYLOAD, "stream_options": options}
    cuts = [0, 1, 2, 9, MIDDLE - 1, MIDDLE, MIDDLE + 5, EVENTS - 1]
    live: dict[tuple[int, bool], httpx.Response] = {}
    async with telling(data_dir) as (http, model):
        await cut_off(http, payload)

        async def read_on(cut: int, *, by_header: bool) -> None:
            again = payload if by_header else behind(payload, cut)
            headers = {**KEYED, "Last-Event-ID": str(cut)} if by_header else KEYED
            async with http.stream("POST", SWARM, json=again, headers=headers) as response:
                connected.release()
                await response.aread()
                live[cut, by_header] = response

        connected = anyio.Semaphore(0)
        async with anyio.create_task_group() as tasks:
            for cut in cuts:
                for by_header in (True, False):
                    tasks.start_soon(lambda cut=cut, by_header=by_header: read_on(cut, by_header=by_header))
            for _ in range(2 * len(cuts)):
                await connected.acquire()
            model.skip()
        frames = frames_of((await post(http, payload)).content)
        ended = {(cut, True): await post(http, payload, cut) for cut in cuts}
        ended |= {(cut, False): await post(http, behind(payload, cut)) for cut in cuts}
        runs = (await http.get("/v1/runs")).json()["data"]
    check_stream(events_in(b"".join([RETRY, *frames])))
    assert len(frames) == EVENTS
    for answers in (live, ended):
        assert [place for place, answer in answers.items() if answer.content != after(frames, place[0])] == []
        assert {answer.headers.get("idempotent-replayed") for answer in answers.values()} == {"true"}
    assert len(runs) == 1
    assert len(model.calls) == 6, "two of each agent"


# One agent who says four words: what needs no interleaving is asked of it, on both routes.
ALONE: dict[str, Any] = {"task": "go", "stream": True, "agent_config": {"agent_name": "A", "model_name": "demo/A"}}
PAIR: dict[str, Any] = {"task": "go", "stream": True, "agents": [ALONE["agent_config"]]}
ROUTES = [(AGENT, ALONE), (SWARM, PAIR)]


@asynccontextmanager
async def speaking(data_dir: Path | None) -> AsyncGenerator[tuple[httpx.AsyncClient, ScriptedModel]]:
    model = ScriptedModel({"A": ["a ", "b ", "c ", "d"]})
    with anyio.fail_after(30):
        async with serving(models={"demo": model}, data_dir=data_dir) as url, crowd(url) as http:
            yield http, model


@pytest.mark.parametrize(("path", "payload"), ROUTES, ids=["agent", "swarm"])
async def test_both_routes_and_json_lines_go_on_too_and_the_header_wins(path: str, payload: dict[str, Any]) -> None:
    async with speaking(None) as (http, model):
        frames = frames_of((await post(http, payload, path=path)).content)
        lines = (await post(http, payload, path=path, **NDJSON)).content.splitlines(keepends=True)
        for cut in (1, 5, len(frames) - 1):
            both = await post(http, behind(payload, 2), cut, path)
            in_lines = [
                await post(http, payload, cut, path, **NDJSON),
                await post(http, behind(payload, cut), path=path, **NDJSON),
            ]
            assert both.content == after(frames, cut)
            assert [answer.content for answer in in_lines] == [b"".join(lines[cut:])] * 2
            assert {answer.headers["content-type"] for answer in in_lines} == {"application/x-ndjson"}
        joined = events_in((await post(http, {**payload, "stream": True}, 0, path)).content)
    check_stream(joined)
    assert len(model.calls) == 1


@pytest.mark.promise("W-65")
async def test_a_reader_at_the_end_gets_an_empty_stream_and_a_cursor_behind_it_is_refused() -> None:
    """The clients that repeat a POST take an answer without a stream's content type, such as 204, for a failure, and
    come again for ever."""
    async with speaking(None) as (http, _):
        last = len(frames_of((await post(http, PAIR)).content))
        drained = [await post(http, PAIR, last), await post(http, behind(PAIR, last))]
        lines = await post(http, PAIR, last, **NDJSON)
        beyond = [await post(http, PAIR, last + 1), await post(http, behind(PAIR, last + 1))]
    for answer in drained:
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"].startswith("text/event-stream")
    assert (lines.status_code, lines.content) == (200, b"")
    assert [(answer.status_code, answer.json()["code"]) for answer in beyond] == [(400, "invalid_request")] * 2
    assert [answer.json()["errors"][0]["loc"] for answer in beyond] == [
        ["Last-Event-ID"],
        ["stream_options", "starting_after"],
    ]
    assert str(last) in beyond[0].json()["detail"]


@pytest.mark.promise("W-69")
async def test_two_bodies_are_the_same_if_they_differ_in_nothing_but_the_cursor() -> None:
    no_options: dict[str, Any] = {**PAIR, "stream_options": {}}
    async with speaking(None) as (http, model):
        first = await post(http, PAIR)
        bodies = (behind(PAIR, 0), behind(PAIR, 3), behind(PAIR, None), no_options, {**PAIR, "stream_options": None})
        same = [await post(http, body) for body in bodies]
        others = [
            await post(http, body)
            for body in (
                behind(PAIR, 3, include_output=False),
                behind({**PAIR, "task": "other"}, 3),
                {**behind(PAIR, 3), "starting_after": 3},
            )
        ]
    assert {answer.status_code for answer in same} == {200}
    assert same[1].content == after(frames_of(first.content), 3)
    assert [(answer.status_code, answer.json()["code"]) for answer in others] == [(422, "idempotency_mismatch")] * 3
    assert len(model.calls) == 1


@pytest.mark.promise("W-66")
@pytest.mark.parametrize(("path", "payload"), ROUTES, ids=["agent", "swarm"])
async def test_a_request_with_a_cursor_begins_no_run(
    data_dir: Path | None,
    path: str,
    payload: dict[str, Any],
) -> None:
    unkeyed = {"Last-Event-ID": "5"}
    async with speaking(data_dir) as (http, model):
        nameless = [
            await http.post(path, json=payload, headers=unkeyed),
            await http.post(path, json=behind(payload, 5)),
            await http.post(path, json={**payload, "stream": False}, headers=unkeyed),
        ]
        unknown = [await post(http, payload, 5, path), await post(http, behind(payload, 5), path=path)]
        assert (await http.get("/v1/runs")).json()["data"] == []
        assert model.calls == []
        fresh = await http.post(path, json=behind(payload, 0), headers={"Last-Event-ID": "0"})
        later = await post(http, payload, path=path)
    for answer in nameless:
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert "Idempotency-Key" in answer.json()["detail"]
    assert [(answer.status_code, answer.json()["code"]) for answer in unknown] == [(404, "not_found")] * 2
    assert "idempotent-replayed" not in {*fresh.headers, *later.headers}, "a refused request frees its key"
    check_stream(events_in(fresh.content))
    check_stream(events_in(later.content))


async def test_a_cursor_that_is_no_number_is_refused_before_there_is_a_run() -> None:
    async with speaking(None) as (http, model):
        heads = [await post(http, PAIR, cursor) for cursor in ("-1", "x", "1.5", "", "9" * 40)]
        bodies = [await post(http, behind(PAIR, cursor)) for cursor in (-1, "x", 1.5, 1 << 60)]
    assert [(answer.status_code, answer.json()["code"]) for answer in heads] == [(400, "invalid_request")] * 5
    assert [(answer.status_code, answer.json()["code"]) for answer in bodies] == [(422, "invalid_schema")] * 4
    assert {tuple(answer.json()["errors"][0]["loc"]) for answer in bodies} == {("stream_options", "starting_after")}
    assert model.calls == []


async def test_an_answer_that_is_not_streamed_is_whole_with_any_cursor() -> None:
    payload = {**PAIR, "stream": False}
    async with speaking(None) as (http, model):
        answers = [await post(http, payload), await post(http, payload, 3), await post(http, behind(payload, 3))]
    assert {answer.content for answer in answers} == {answers[0].content}
    assert answers[0].json()["output"] == [{"role": "A", "content": "a b c d"}]
    assert len(model.calls) == 1


async def test_events_that_the_log_has_dropped_are_announced_there_too() -> None:
    journal = MemoryJournal(retain_seconds=60, retain_bytes=1 << 24)
    model = ScriptedModel({"A": ["a ", "b ", "c ", "d"]})
    payload = {**PAIR, "stream_options": TERSE}
    async with serving(models={"demo": model}, journal=journal) as url, crowd(url) as http:
        first = await post(http, payload)
        frames = frames_of(first.content)
        await journal.trim(first.headers["location"].split("/")[3], 5)
        rests = {cut: (await post(http, payload, cut)).content for cut in range(len(frames) + 1)}
    gaps = {cut: b'event: gap\ndata: {"requested":%d,"first_available":5}\n\n' % (cut + 1) for cut in range(4)}
    assert rests == {cut: after(frames, max(cut, 4)).replace(RETRY, RETRY + gaps.get(cut, b"")) for cut in rests}


async def test_deltas_are_joined_behind_the_cursor_without_losing_any() -> None:
    payload = {**PAIR, "stream_options": {"coalesce_ms": 1}}
    async with speaking(None) as (http, _):
        last = events_in((await post(http, payload)).content)[-1].id or 0
        for cut in range(last):
            events = events_in((await post(http, payload, cut)).content)
            assert min(event.id or 0 for event in events) > cut
            text_read = "".join(event.data["content"] for event in events if event.event == "chunk")
            assert "a b c d".endswith(text_read)
            assert len(text_read) == len("a b c d") - 2 * min(max(cut - 3, 0), 4) or cut >= 7, (
                f"behind {cut}: {text_read}"
            )


async def test_a_restart_between_is_a_cut_like_any_other(tmp_path: Path) -> None:
    async with speaking(tmp_path) as (http, _):
        frames = frames_of((await post(http, PAIR)).content)
    async with speaking(tmp_path) as (http, model):
        rest = await post(http, PAIR, 4)
    assert rest.content == after(frames, 4)
    assert model.calls == []


async def test_a_run_that_could_not_be_begun_any_more_is_read_on_all_the_same(tmp_path: Path) -> None:
    payload: dict[str, Any] = {"agent_config": {"agent_name": "A", "model_name": "gone"}, "task": "go", "stream": True}
    settings: dict[str, Any] = {"data_dir": tmp_path, "models": {"demo": ScriptedModel({"A": ["a", "b"]})}}
    async with serving(model_aliases={"gone": "demo/A"}, **settings) as url, client(url) as http:
        whole = await post(http, payload, path=AGENT)
        assert whole.status_code == 200
    async with serving(**settings) as url, client(url) as http:
        for again in (await post(http, payload, path=AGENT), await post(http, payload, 3, path=AGENT)):
            assert again.status_code == 200, again.text
            assert again.headers["idempotent-replayed"] == "true"
            assert whole.content.endswith(again.content.removeprefix(RETRY))
        assert (await post(http, {**payload, "task": "other"}, path=AGENT)).status_code == 422


def test_a_conversation_keeps_its_order_and_is_another_one_in_another() -> None:
    messages = {"user_2": {"role": "user", "content": "b"}, "assistant_1": {"role": "assistant", "content": "a"}}
    turned = dict(reversed(messages.items()))

    def posted(**members: Any) -> PostedPayload[AgentRequest]:
        return parse_payload(orjson.dumps(members), AgentRequest, PayloadLimits(1_000_000, 1_000_000))

    schema: dict[str, Any] = {"type": "object", "properties": {"reasoning": {}, "answer": {}}}
    agent: dict[str, Any] = {"agent_name": "A", "response_format": schema}
    one = posted(agent_config=agent, history=messages, task="go")
    kept = orjson.loads(one.body)
    assert list(kept["history"]) == list(messages)
    assert list(kept["agent_config"]["response_format"]["properties"]) == ["reasoning", "answer"]
    assert one.digest() == posted(task="go", history=messages, agent_config=agent).digest()
    assert one.digest() != posted(task="go", history=turned, agent_config=agent).digest()
