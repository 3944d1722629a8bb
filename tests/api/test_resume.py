"""A reader that was cut off goes on where it was: nothing is missing, nothing comes twice (docs/wire.md, section 5)."""

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from swarmstream.journal.base import Journal
from swarmstream.journal.memory import MemoryJournal
from swarmstream.journal.sqlite.journal import SqliteJournal
from tests.api.stories import (
    EVENTS,
    MIDDLE,
    NDJSON,
    PAYLOAD,
    RETRY,
    SWARM,
    after,
    crowd,
    delta_text,
    events_in,
    frames_of,
    id_of,
    story,
    telling,
)
from tests.clients.process import openai_environ, server_process
from tests.clients.sse import Parser, ServerEvent, check_stream, events_of
from tests.conftest import KEY, client, serving
from tests.fakes.upstream import Exchange, provider

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def reading(url: str, path: str, cut: int) -> AsyncGenerator[tuple[int, Callable[[], Awaitable[bytes]]]]:
    """An open answer to a reader who has the event `cut`: its status, and its body to wait for. httpx takes four times
    as long for it."""
    host, port = url.removeprefix("http://").rstrip("/").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
    head = f"GET {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\nlast-event-id: {cut}\r\nconnection: close\r\n\r\n"
    writer.write(head.encode())
    answer = await reader.readuntil(b"\r\n\r\n")

    async def body() -> bytes:
        rest, chunks = await reader.read(-1), list[bytes]()
        while rest:
            length, _, rest = rest.partition(b"\r\n")
            chunks.append(rest[: int(length, 16)])
            rest = rest[int(length, 16) + 2 :]
        return b"".join(chunks)

    yield int(answer.split()[1]), body
    writer.close()


async def get(url: str, path: str, cut: int) -> tuple[int, bytes]:
    async with reading(url, path, cut) as (status, body):
        return status, await body()


async def resume(http: httpx.AsyncClient, path: str, cut: int, **query: Any) -> httpx.Response:
    return await http.get(path, params=query, headers={"Last-Event-ID": str(cut)})


async def begin(http: httpx.AsyncClient, **fields: Any) -> str:
    """Tell the story up to its middle; the path of its stream."""
    answer = await http.post(SWARM, json={**PAYLOAD, "stream": False, "background": True, **fields})
    assert answer.status_code == 202, answer.text
    path: str = answer.headers["location"]
    async with http.stream("GET", path) as response:
        async for event in events_of(response):
            if event.id == MIDDLE:
                break
    return path


@pytest.mark.promise("W-60")
@pytest.mark.parametrize("include_output", [True, False])
async def test_a_reader_that_is_cut_off_after_any_event_gets_exactly_the_rest(
    data_dir: Path | None, include_output: bool
) -> None:
    bodies: dict[int, bytes] = {}
    async with telling(data_dir) as (http, model):
        path = await begin(http, stream_options={"include_output": include_output})
        connected = anyio.Semaphore(0)

        async def read_on(cut: int) -> None:
            async with reading(str(http.base_url), path, cut) as (status, body):
                assert status == 200
                connected.release()
                bodies[cut] = await body()

        async with anyio.create_task_group() as tasks:
            for cut in range(EVENTS + 1):
                tasks.start_soon(read_on, cut)
            for _ in range(EVENTS + 1):
                await connected.acquire()
            model.skip()
        frames = frames_of(bodies[0])
        check_stream(events_in(bodies[0]))
        assert len(frames) == EVENTS
        wrong = [cut for cut, body in bodies.items() if body != after(frames, cut)]
        assert wrong == [], "resumed while the run was live"
        for cut in range(EVENTS + 1):
            status, body = await get(str(http.base_url), path, cut)
            assert body == after(frames, cut), f"resumed after the end, from {cut}"
            assert status == (200 if cut < EVENTS else 204)
    kinds = {event.event for event in events_in(bodies[0])}
    assert {"reasoning", "tool_start", "tool_end", "chunk"} <= kinds
    assert all(("output" in event.data) is include_output for event in events_in(bodies[0]) if event.event == "chunk")


@pytest.mark.promise("W-60")
async def test_json_lines_resume_as_frames_do(data_dir: Path | None) -> None:
    async with telling(data_dir) as (http, model):
        path = await begin(http)
        model.skip()
        whole = await http.get(path, headers=NDJSON)
        lines = whole.content.splitlines(keepends=True)
        rests = {cut: await http.get(path, headers={**NDJSON, "Last-Event-ID": str(cut)}) for cut in (1, 97, EVENTS)}
        frames = frames_of((await http.get(path)).content)
    assert whole.headers["content-type"] == "application/x-ndjson"
    assert [(json.loads(line)["id"]) for line in lines] == list(range(1, EVENTS + 1))
    assert [json.loads(line)["data"] for line in lines] == [event.data for event in events_in(RETRY + b"".join(frames))]
    assert {cut: rest.content for cut, rest in rests.items()} == {cut: b"".join(lines[cut:]) for cut in rests}
    assert rests[EVENTS].status_code == 204


@pytest.mark.promise("W-49")
async def test_a_reader_that_joins_tokens_and_is_cut_off_anywhere_misses_no_token(data_dir: Path | None) -> None:
    """Its ids skip, and each that it has seen is a place to go on from."""

    def texts_by_turn(events: list[ServerEvent]) -> dict[int, str]:
        texts: dict[int, str] = {1: "", 2: "", 3: ""}
        for event in events:
            if event.event == "chunk":
                texts[event.data["turn"]] += event.data["content"]
                assert event.data["output"].endswith(event.data["content"])
        return texts

    async with telling(data_dir) as (http, model):
        path = await begin(http)
        model.skip()
        single = events_in((await http.get(path)).content)
        joined = events_in((await resume(http, path, 0, coalesce_ms=1)).content)
        assert len(joined) < len(single)
        assert texts_by_turn(joined) == texts_by_turn(single)
        for cut in range(EVENTS):
            rest = events_in((await get(str(http.base_url), f"{path}?coalesce_ms=1", cut))[1])
            assert texts_by_turn(single[:cut] + rest) == texts_by_turn(single), f"cut off after {cut}"
            assert [event.id for event in rest] == sorted({event.id for event in rest if event.id and event.id > cut})


@pytest.mark.promise("W-61")
async def test_the_header_wins_over_the_query_and_an_empty_cursor_is_the_beginning(data_dir: Path | None) -> None:
    async with telling(data_dir) as (http, model):
        path = await begin(http)
        model.skip()
        frames = frames_of((await http.get(path)).content)
        by_query = await http.get(path, params={"starting_after": "7"})
        both = await resume(http, path, 9, starting_after="7")
    assert by_query.content == after(frames, 7)
    assert both.content == after(frames, 9)


@pytest.mark.promise("W-61")
@pytest.mark.parametrize("cursor", ["-1", "x", "1.5", "9" * 40, "", " ", "+1", "0x1", "1e3", "١"])
async def test_a_cursor_that_is_no_number_is_refused(cursor: str, data_dir: Path | None) -> None:
    async with telling(data_dir) as (http, _):
        path = await begin(http)
        answers = [await http.get(path, params={"starting_after": cursor})]
        if cursor.strip() == cursor:  # HTTP takes the spaces off a header's value
            answers.append(await http.get(path, headers=httpx.Headers([(b"Last-Event-ID", cursor.encode())])))
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(400, "invalid_request")}


@pytest.mark.promise("W-63")
async def test_a_cursor_beyond_the_log_waits_for_it(data_dir: Path | None) -> None:
    async with telling(data_dir) as (http, model):
        path = await begin(http)
        bodies: dict[int, bytes] = {}

        async def read_on(cut: int) -> None:
            async with http.stream("GET", path, headers={"Last-Event-ID": str(cut)}) as response:
                assert response.status_code == 200
                if len(bodies) == 0 and cut == EVENTS:
                    model.skip()
                bodies[cut] = await response.aread()

        async with anyio.create_task_group() as tasks:
            for cut in (MIDDLE + 20, EVENTS - 1, EVENTS):
                tasks.start_soon(read_on, cut)
        frames = frames_of((await http.get(path)).content)
    assert bodies == {cut: after(frames, cut) for cut in bodies}
    assert len(bodies) == 3


@pytest.mark.promise("W-63")
async def test_a_cursor_beyond_a_finished_runs_end_is_refused_and_at_its_end_there_is_nothing(
    data_dir: Path | None,
) -> None:
    async with telling(data_dir) as (http, model):
        path = await begin(http)
        model.skip()
        await http.get(path)
        token = (await http.post(path.replace("/stream", "/stream-token"))).json()["token"]
        for shape in ({}, NDJSON):
            for cut in (EVENTS + 1, (1 << 53) - 1):
                for name, answer in {
                    "Last-Event-ID": await http.get(path, headers={**shape, "Last-Event-ID": str(cut)}),
                    "starting_after": await http.get(
                        path, headers=shape, params={"starting_after": cut, "token": token}
                    ),
                }.items():
                    body = answer.json()
                    assert (answer.status_code, body["code"]) == (400, "invalid_request")
                    assert body["errors"][0]["loc"] == [name]
                    assert str(EVENTS) in body["detail"]
            ends = [
                await http.get(path, headers={**shape, "Last-Event-ID": str(EVENTS)}),
                await http.get(path, headers=shape, params={"starting_after": EVENTS}),
            ]
            assert [(answer.status_code, answer.content) for answer in ends] == [(204, b"")] * 2


async def test_a_reader_that_waits_beyond_the_runs_end_is_broken_off(data_dir: Path | None) -> None:
    async with telling(data_dir) as (http, model):
        path = await begin(http)
        async with http.stream("GET", path, headers={"Last-Event-ID": str(EVENTS + 1)}) as response:
            assert response.status_code == 200
            model.skip()
            with pytest.raises(httpx.RemoteProtocolError):
                await response.aread()
        again = await resume(http, path, EVENTS + 1)
    assert again.status_code == 400


@asynccontextmanager
async def trimmed(kind: str, tmp_path: Path, before: int) -> AsyncGenerator[tuple[httpx.AsyncClient, str, list[bytes]]]:
    """A finished run whose journal has forgotten what stood before an event, and its frames as they were."""
    journal: Journal
    if kind == "memory":
        journal = MemoryJournal(retain_seconds=60, retain_bytes=1 << 24)
    else:
        journal = SqliteJournal(tmp_path / "data", retain_seconds=60, retain_bytes=1 << 24)
    model = story()
    with anyio.fail_after(30):
        async with serving(models={"demo": model}, journal=journal) as url, crowd(url) as http:
            path = await begin(http, stream_options={"include_output": False})
            model.skip()
            frames = frames_of((await http.get(path)).content)
            await journal.trim(path.split("/")[3], before)
            yield http, path, frames


@pytest.mark.promise("W-53")
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_trimmed_events_are_announced_by_a_gap_and_the_rest_is_whole(kind: str, tmp_path: Path) -> None:
    async with trimmed(kind, tmp_path, before=100) as (http, path, frames):
        wrong: list[int] = []
        for cut in range(EVENTS):
            _, body = await get(str(http.base_url), path, cut)
            announced = b'event: gap\ndata: {"requested":%d,"first_available":100}\n\n' % (cut + 1)
            expected = after(frames, max(cut, 99))
            if cut < 99:
                expected = expected.replace(RETRY, RETRY + announced, 1)
            if body != expected:
                wrong.append(cut)
        line = (await http.get(path, headers={**NDJSON, "Last-Event-ID": "4"})).content.splitlines()[0]
        run = (await http.get(path.removesuffix("/stream"))).json()
        drained = await resume(http, path, EVENTS)
    assert wrong == []
    assert json.loads(line) == {"event": "gap", "data": {"requested": 5, "first_available": 100}}
    assert (run["status"], len(run["output"])) == ("success", 3), "what the run came to is not lost"
    assert drained.status_code == 204


FLOW: dict[str, Any] = {
    "task": "go",
    "rearrange_flow": "A, B, C -> D",
    "agents": [{"agent_name": name, "system_prompt": name, "num_retries": 0} for name in "ABCD"],
    "stream": True,
    "on_disconnect": "continue",
}
SPOKEN = 20


@pytest.mark.parametrize("include_output", [True, False])
async def test_a_restart_looks_to_a_reader_like_any_other_cut(tmp_path: Path, include_output: bool) -> None:
    go_on = anyio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.delta(reasoning_content="hm 🤔")
        await exchange.say(*(f"{exchange.system}{delta_text(number)}" for number in range(SPOKEN)))
        if exchange.system == "D":
            await go_on.wait()
        await exchange.finish()

    async def rest(http: httpx.AsyncClient, path: str, cut: int) -> bytes:
        return (await resume(http, path, cut)).content

    with anyio.fail_after(40):
        async with provider(script) as upstream:
            environ = openai_environ(
                upstream, SWARMSTREAM_DATA_DIR=str(tmp_path / "data"), SWARMSTREAM_DRAIN_SECONDS="0"
            )
            before = b""

            async def read_on(response: httpx.Response) -> None:
                nonlocal before
                async for content in response.aiter_raw():
                    if before.count(b'"agent":"D"') < SPOKEN + 2 <= (before + content).count(b'"agent":"D"'):
                        server.process.send_signal(signal.SIGTERM)
                    before += content

            payload = {**FLOW, "stream_options": {"include_output": include_output}}
            async with server_process(environ=environ) as server, crowd(server.url) as http:
                async with http.stream("POST", SWARM, json=payload) as response:
                    path = response.headers["location"]
                    with pytest.raises(httpx.RemoteProtocolError):  # a clean end would pass for the run's
                        await read_on(response)
                assert await server.stopped(30) == 0
                assert "Traceback" not in server.log
            go_on.set()
            async with server_process(environ=environ) as server, crowd(server.url) as http:
                whole = await rest(http, path, 0)
                frames = frames_of(whole)
                cuts = [id_of(frame) for frame in frames[::9]] + [id_of(frames[-2])]
                again = {cut: await rest(http, path, cut) for cut in cuts}
                server.process.send_signal(signal.SIGTERM)
                assert await server.stopped(30) == 0
            async with server_process(environ=environ) as server, crowd(server.url) as http:
                from_file = {cut: await rest(http, path, cut) for cut in cuts}
                drained = await resume(http, path, id_of(frames[-1]))
    seen = frames_of(before)
    assert b"event: end" not in before, "the run has not ended"
    assert frames[: len(seen)] == seen
    restart = json.loads(frames[len(seen)].split(b"data: ")[1])
    assert frames[len(seen)].split(b"\n")[1] == b"event: turn_restart"
    assert next(event.event for event in events_in(before) if event.id == restart["discard_from"]) == "reasoning"
    assert again == from_file == {cut: after(frames, cut) for cut in cuts}
    assert drained.status_code == 204
    *_, end = events_in(whole)
    assert [entry["role"] for entry in end.data["output"]] == list("ABCD")
    assert end.data["output"][3]["content"] == "".join(f"D{delta_text(number)}" for number in range(SPOKEN))


async def test_one_run_read_by_many_short_connections_is_the_whole_run(data_dir: Path | None) -> None:
    """Each takes a few events and hangs up in the middle of a frame, as a phone does."""
    pieces: list[ServerEvent] = []
    async with telling(data_dir) as (http, model), client(str(http.base_url)) as watcher:
        path = await begin(http)
        uncut = {}

        async def read_all() -> None:
            uncut["events"] = events_in((await watcher.get(path)).content)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_all)
            model.skip()
            while not (pieces and pieces[-1].event == "end"):
                last = pieces[-1].id if pieces else 0
                parser = Parser()
                async with http.stream("GET", path, headers={"Last-Event-ID": str(last)}) as response:
                    async for content in response.aiter_raw(1500):
                        pieces += parser.feed(content)
                        if pieces and pieces[-1].id != last:
                            break
    assert pieces == uncut["events"]
