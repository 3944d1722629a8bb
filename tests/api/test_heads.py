"""Requests are bounded in bytes, in fields and in time before a key is checked."""

import json
from collections.abc import Iterable

import anyio
import pytest

from tests.clients.process import memory_bytes, server_process
from tests.clients.raw import ANSWER, GET, RawClient, payload, post, raw_client, status_of
from tests.conftest import KEY, client, serving
from tests.fakes.clock import DrivenClock
from tests.fakes.scripted_model import ScriptedModel

pytestmark = pytest.mark.anyio

MEGABYTE = 1 << 20


def problem_in(answer: bytes) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    assert b"x-content-type-options: nosniff" in head
    return json.loads(body)


async def exchange(url: str, *pieces: bytes) -> bytes:
    """Send these and return what the server answers, up to the connection's end."""
    async with raw_client(url) as raw:
        await raw.send(*pieces)
        answer, _ = await raw.rest()
    return answer


async def _refused_without_memory(start: bytes, pieces: Iterable[bytes]) -> bytes:
    """Return the server's answer; assert that its memory has grown by 5 MB at most."""
    with anyio.fail_after(60):
        async with server_process(environ={"SWARMSTREAM_API_KEYS": KEY}) as server, client(server.url) as http:
            await http.get("/v1/runs", headers={"x-api-key": "wrong"})  # what refusals load is loaded
            before = memory_bytes(server)
            async with raw_client(server.url) as raw:
                await raw.send(start, *pieces)
                answer, _ = await raw.rest()
                await http.get("/health")
                grown = memory_bytes(server) - before
    assert grown <= 5 * MEGABYTE
    assert answer.count(b"HTTP/1.1 ") == 1
    return answer


async def test_forty_megabytes_of_head_are_refused_and_take_no_memory() -> None:
    answer = await _refused_without_memory(GET, [b"a:b\r\n" * 100_000] * 80)
    assert status_of(answer) == 431
    assert problem_in(answer)["code"] == "head_too_large"


async def test_one_field_of_forty_megabytes_is_refused_and_takes_no_memory() -> None:
    answer = await _refused_without_memory(GET + b"a: ", [b"b" * MEGABYTE] * 40)
    assert status_of(answer) == 431


@pytest.mark.parametrize(("key", "statuses"), [("wrong-key", {401, 431}), (KEY, {431})])
async def test_twenty_megabytes_of_trailers_are_refused_and_take_no_memory(key: str, statuses: set[int]) -> None:
    """A client without a key may be refused for that before the body has come."""
    start = post(b"", b"transfer-encoding: chunked", key=key).replace(b"content-length: 0\r\n", b"") + b"0\r\n"
    answer = await _refused_without_memory(start, [b"a:b\r\n" * 100_000] * 40)
    assert status_of(answer) in statuses


@pytest.mark.promise("W-18")
async def test_a_head_is_counted_to_the_byte_and_its_body_is_not() -> None:
    body = payload("word " * 20_000)
    bare = len(post(body, b"x-filler: ")) - len(body)
    async with serving(models={"demo": ScriptedModel({"A": ["a"]})}, max_head_bytes=2048) as url:
        with anyio.fail_after(30):
            for size, status in ((2047, 200), (2048, 200), (2049, 431)):
                request = post(body, b"connection: close", b"x-filler: ")
                filler = b"f" * (size - bare - len(b"connection: close\r\n"))
                request = request.replace(b"x-filler: ", b"x-filler: " + filler)
                assert request.index(b"\r\n\r\n") + 4 == size
                assert status_of(await exchange(url, request)) == status, size
                assert status_of(await exchange(url, request[:1500], request[1500:])) == status, size


@pytest.mark.promise("W-18")
async def test_a_request_has_a_hundred_fields_at_most() -> None:
    async with serving() as url:
        with anyio.fail_after(30):
            fits = await exchange(url, GET + b"a: b\r\n" * 98 + b"connection: close\r\n\r\n")
            refused = await exchange(url, GET + b"a: b\r\n" * 99 + b"connection: close\r\n\r\n")
    assert status_of(fits) == 200
    assert status_of(refused) == 431
    assert "100 header fields" in str(problem_in(refused)["detail"])


async def test_bytes_that_are_not_http_are_refused_with_a_problem() -> None:
    async with serving() as url:
        with anyio.fail_after(30):
            answer = await exchange(url, b"GET / HTTP/1.1\nhost: x\n\n")
    assert status_of(answer) == 400
    assert problem_in(answer)["code"] == "invalid_request"


@pytest.mark.parametrize(
    "around", [b"0\r\n" + b"a: b\r\n" * 2000 + b"\r\n", b"".join([b"1;%b\r\nx\r\n" % (b"e" * 100)] * 100)]
)
async def test_trailers_and_chunk_extensions_are_bounded(around: bytes) -> None:
    head = post(b"", b"transfer-encoding: chunked").replace(b"content-length: 0\r\n", b"")
    async with serving() as url:
        with anyio.fail_after(30):
            answer = await exchange(url, head, around)
    assert status_of(answer) == 431
    assert "8192 bytes" in str(problem_in(answer)["detail"])


async def test_a_body_in_chunks_of_a_byte_is_read() -> None:
    body = payload("word " * 10_000)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = post(b"", b"transfer-encoding: chunked", b"connection: close").replace(b"content-length: 0\r\n", b"")
    async with serving(models={"demo": ScriptedModel({"A": ["a"]})}) as url:
        with anyio.fail_after(30):
            assert status_of(await exchange(url, head + chunks)) == 200


async def test_a_trailer_is_not_read_as_a_header() -> None:
    chunked = b"%x\r\n%b\r\n0\r\nx-api-key: %b\r\n\r\n" % (len(payload()), payload(), KEY.encode())
    head = b"POST /v1/agent/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    async with serving(models={"demo": ScriptedModel({"A": ["a"]})}) as url:
        with anyio.fail_after(30):
            assert status_of(await exchange(url, head + chunked)) == 401


async def test_pipelined_requests_are_answered_in_order_however_they_are_split() -> None:
    requests = (GET + b"\r\n") * 4 + GET + b"connection: close\r\n\r\n"
    async with serving() as url:
        with anyio.fail_after(30):
            whole = await exchange(url, requests)
            in_bytes = await exchange(url, *(bytes([byte]) for byte in requests))
    assert whole.count(ANSWER) == in_bytes.count(ANSWER) == 5


async def test_a_connection_with_too_many_pipelined_requests_is_closed() -> None:
    async with serving() as url:
        with anyio.fail_after(30):
            answers = await exchange(url, (GET + b"\r\n") * 5000)
    assert 64 <= answers.count(ANSWER) < 100


async def test_a_bad_request_behind_a_stream_does_not_interrupt_it() -> None:
    """An invalid head and one that is too large: the connection closes once the stream is over."""
    model = ScriptedModel({"A": ["a1", "a2"]})
    for behind in (b"no request\r\n\r\n", GET + b"a: b\r\n" * 20_000):
        async with serving(models={"demo": model}) as url:
            with anyio.fail_after(30):
                answer = await exchange(url, post(payload(stream=True)), behind)
        assert status_of(answer) == 200
        assert answer.count(b"HTTP/1.1") == 1
        assert b"event: end" in answer
        assert answer.endswith(b"0\r\n\r\n")


async def _ends_after(clock: DrivenClock, raw: RawClient, seconds: float) -> bytes:
    """Return what arrives on a connection that the server closes after exactly so long."""
    await clock.waiting(seconds)
    await clock.advance(seconds)
    answer, _ = await raw.rest()
    return answer


async def test_a_silent_connection_is_closed_without_an_answer() -> None:
    clock = DrivenClock()
    async with serving(clock=clock) as url, raw_client(url) as raw:
        with anyio.fail_after(30):
            assert await _ends_after(clock, raw, 15) == b""


@pytest.mark.promise("W-19")
async def test_a_slow_head_is_refused_after_its_time_even_if_bytes_keep_arriving() -> None:
    clock = DrivenClock()
    async with serving(clock=clock, head_seconds=15.0) as url, raw_client(url) as raw:
        with anyio.fail_after(30):
            await clock.waiting(15)
            await clock.advance(10)
            await raw.send(GET)
            async with raw_client(url) as other:  # by its answer, the server has read the head's beginning
                await other.send(GET + b"\r\n")
                await other.read_until(ANSWER)
            answer = await _ends_after(clock, raw, 5)
    assert status_of(answer) == 408
    assert problem_in(answer)["code"] == "head_timeout"


async def test_the_second_request_of_a_connection_has_as_much_time() -> None:
    clock = DrivenClock()
    async with serving(clock=clock) as url, raw_client(url) as raw:
        with anyio.fail_after(30):
            await raw.send(GET + b"\r\n")
            await raw.read_until(ANSWER)
            await clock.advance(60)  # it is kept alive meanwhile
            await raw.send(GET)
            assert status_of(await _ends_after(clock, raw, 15)) == 408


async def test_a_refused_client_that_stops_sending_its_body_is_disconnected() -> None:
    clock = DrivenClock()
    request = post(b"x" * 1000, key="wrong-key")
    async with serving(clock=clock) as url, raw_client(url) as raw:
        with anyio.fail_after(30):
            await raw.send(request[:-900])
            await raw.read_until(b'"code":"invalid_api_key","param":null}}')
            await raw.send(b"x")  # uvicorn's own clock stops at this
            assert await _ends_after(clock, raw, 15) == b""


async def test_the_head_timer_does_not_run_while_an_answer_is_under_way() -> None:
    clock = DrivenClock()
    model = ScriptedModel({"A": ["a1"], "B": ["b1"]}, order="AB")
    async with serving(clock=clock, models={"demo": model}) as url, raw_client(url) as raw:
        with anyio.fail_after(30):
            await raw.send(post(payload(stream=True)) + GET)
            await raw.read_until(b"event: start")
            await clock.advance(1000)
            await raw.send(b"\r\n")
            assert b"event: end" in await raw.read_until(ANSWER)


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    async with serving(keep_alive_seconds=1) as url, raw_client(url) as raw:
        with anyio.fail_after(30):
            await raw.send(GET + b"\r\n")
            await raw.read_until(ANSWER)
            assert await raw.rest() == (b"", False)
