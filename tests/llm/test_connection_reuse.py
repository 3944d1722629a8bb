"""Connections are kept after complete responses, and never used when a response could be mixed up (RFC 9112, 9.3)."""

import anyio
import pytest

from swarmstream.errors import (
    UpstreamInvalid,
)
from swarmstream.llm.http.pool import ConnectionPool
from swarmstream.llm.http.proxy import Disconnected
from tests.fakes.clock import DrivenClock
from tests.llm.callers import CHUNK, DONE, FINISH, HEADERS, STREAM, fails, fetch, modelled, post, say
from tests.llm.peer import CHUNKED, Line, answering, once, peer, settled, whole

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "packets",
    [
        [whole()],
        [whole(b"")],
        [whole(b"", status="204 No Content").replace(b"content-length: 0\r\n", b"")],
        [whole(status="500 Internal Server Error")],
        [CHUNKED, b"5\r\nhello\r\n", b"0\r\n\r\n"],
        [whole(b"", "connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")],
    ],
)
async def test_a_connection_is_used_again_after_a_complete_answer(
    connections: ConnectionPool, packets: list[bytes]
) -> None:
    async with peer(answering(*packets)) as provider:
        for _ in range(3):
            await fetch(connections, provider.http)
        assert len(provider.lines) == 1


async def test_a_connection_is_used_again_when_the_bodys_end_comes_after_its_reader_has_had_enough() -> None:
    half_received, ended = anyio.Event(), anyio.Event()

    async def talk(line: Line) -> None:
        while True:
            await line.request()
            await line.send(CHUNKED, b"%x\r\n" % len(CHUNK + FINISH) + CHUNK + FINISH + b"\r\n", b"e\r\n" + DONE)
            await half_received.wait()
            await line.send(b"\r\n", b"0\r\n", b"\r\n")
            ended.set()

    async with peer(talk) as provider, modelled() as model:
        for _ in range(3):
            assert await say(model, provider.http) == "hi"
            half_received.set()
            await ended.wait()
            half_received, ended = anyio.Event(), anyio.Event()
        assert len(provider.lines) == 1


async def test_a_connection_is_not_used_again_before_its_answer_has_ended() -> None:
    endless = CHUNKED + b"%x\r\n" % len(FINISH + DONE) + FINISH + DONE + b"\r\n"
    async with peer(answering(endless)) as provider, modelled() as model:
        for _ in range(2):
            await say(model, provider.http)
        assert len(provider.lines) == 2


async def test_a_connection_is_only_used_for_the_same_scheme_host_and_port(connections: ConnectionPool) -> None:
    async with peer(answering(whole())) as provider, peer(answering(whole())) as other:
        for url in (provider.http, other.http, f"http://localhost:{provider.port}", provider.http):
            await fetch(connections, url)
        assert (len(provider.lines), len(other.lines)) == (2, 1)


@pytest.mark.parametrize(
    "answer",
    [
        whole(b"hello", "connection: close"),
        whole().replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
async def test_a_connection_is_not_used_again_when_the_provider_says_so(
    connections: ConnectionPool, answer: bytes
) -> None:
    async with peer(answering(answer)) as provider:
        assert await fetch(connections, provider.http) == [b"hello"]
        assert await fetch(connections, provider.http) == [b"hello"]
        assert len(provider.lines) == 2


async def test_a_cut_answer_fails_and_its_connection_is_not_used_again(connections: ConnectionPool) -> None:
    async with peer(once(whole().replace(b"hello", b"hel"))) as provider:
        for _ in range(2):
            with pytest.raises(Disconnected):
                await fetch(connections, provider.http)
        assert len(provider.lines) == 2


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"], ids=["head", "body"])
async def test_a_cancelled_call_hangs_up(connections: ConnectionPool, begun: bytes) -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(begun)
        await line.gone()

    async with peer(talk) as provider:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fetch, connections, provider.http)
            await settled()
            assert len(provider.lines) == 1
            tasks.cancel_scope.cancel()
        await provider.idle()
        provider.talk = answering(whole())
        assert await fetch(connections, provider.http) == [b"hello"]
        assert len(provider.lines) == 2


@pytest.mark.noisy
async def test_a_failed_answer_hangs_up() -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(CHUNKED, b"14\r\ndata: {not json}\n\n\n\n\r\n")
        await line.gone()

    async with peer(talk) as provider, modelled() as model:
        await fails(model, provider.http, UpstreamInvalid)
        await provider.idle()


async def test_an_answer_that_is_let_go_of_before_its_end_hangs_up(connections: ConnectionPool) -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(whole().replace(b"hello", b"hel"))
        await line.gone()

    async with peer(talk) as provider:
        answer = await post(connections, provider.http)
        answer.close()
        await provider.idle()


async def test_a_kept_connection_that_the_provider_closed_is_not_used(connections: ConnectionPool) -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(whole())
        line.half_close()
        await line.gone()

    async with peer(talk) as provider:
        await fetch(connections, provider.http)
        await provider.idle()
        before = len(provider.lines[0].received)
        await fetch(connections, provider.http)
        assert len(provider.lines) == 2
        assert len(provider.lines[0].received) == before


async def closes_on_the_second(line: Line) -> None:
    await line.request()
    await line.send(whole())
    await line.request()


async def test_a_kept_connection_found_closed_is_replaced_by_a_new_one(connections: ConnectionPool) -> None:
    async with peer(closes_on_the_second) as provider:
        for _ in range(3):
            assert await fetch(connections, provider.http) == [b"hello"]
        assert len(provider.lines) == 3


async def test_a_kept_connection_found_closed_is_replaced_once(connections: ConnectionPool) -> None:
    async with peer(closes_on_the_second) as provider:
        await fetch(connections, provider.http)
        provider.talk = once()
        with pytest.raises(Disconnected):
            await fetch(connections, provider.http)
        assert len(provider.lines) == 2


async def test_a_new_connection_found_closed_is_not_replaced(connections: ConnectionPool) -> None:
    async with peer(once()) as provider:
        with pytest.raises(Disconnected):
            await fetch(connections, provider.http)
        assert len(provider.lines) == 1


@pytest.mark.parametrize("byte", [b"H", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_nothing_is_asked_twice_once_a_byte_of_the_answer_has_come(
    connections: ConnectionPool, byte: bytes
) -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(whole())
        await line.request()
        await line.send(byte)

    async with peer(talk) as provider:
        await fetch(connections, provider.http)
        with pytest.raises(Disconnected):
            await fetch(connections, provider.http)
        assert len(provider.lines) == 1


@pytest.mark.parametrize(("seconds", "requests"), [(0.9, 2), (1.1, 1)])
async def test_a_kept_connection_is_replaced_only_where_it_breaks_within_a_second(
    seconds: float, requests: int
) -> None:
    clock = DrivenClock()
    repeated: list[bool] = []

    async def talk(line: Line) -> None:
        await line.request()
        await line.send(whole())
        await line.request()
        await clock.advance(seconds)

    expiring = ConnectionPool({}, clock=clock)
    async with peer(talk) as provider:
        await fetch(expiring, provider.http)
        provider.talk = answering(whole())
        try:
            answer = await expiring.post(provider.http, [b"{}"], HEADERS, on_repeat=lambda: repeated.append(True))
            answer.close()
        except Disconnected:
            assert requests == 1
        assert (len(provider.lines), len(repeated)) == (requests, requests - 1)
        await expiring.close()


async def test_calls_at_once_have_a_connection_each_and_all_are_kept(connections: ConnectionPool) -> None:
    calls = 50
    asked = 0
    all_asked = anyio.Event()

    async def talk(line: Line) -> None:
        nonlocal asked
        while True:
            await line.request()
            asked += 1
            if asked % calls == 0:
                all_asked.set()
            await all_asked.wait()
            await line.send(whole())

    async with peer(talk) as provider:
        for _ in range(2):
            all_asked = anyio.Event()
            async with anyio.create_task_group() as tasks:
                for _ in range(calls):
                    tasks.start_soon(fetch, connections, provider.http)
        assert len(provider.lines) == calls


async def test_close_closes_kept_connections_and_those_in_use(connections: ConnectionPool) -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(whole())
        await line.request()
        await line.send(whole().replace(b"hello", b"hel"))
        await line.gone()

    async with peer(talk) as provider:
        kept, other = await post(connections, provider.http), await post(connections, provider.http)
        kept.close()
        other.close()
        cut = await post(connections, provider.http)
        await connections.close()
        with pytest.raises(Disconnected):
            await cut.read(lambda _: False)
        cut.close()
        await provider.idle()
        assert len(provider.lines) == 2


async def test_a_model_that_is_closed_hangs_up() -> None:
    async with peer(answering(STREAM)) as provider, modelled() as model:
        await say(model, provider.http)
        await model.close()
        await provider.idle()


async def test_bytes_that_come_unasked_close_a_kept_connection(connections: ConnectionPool) -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(whole(), whole(b"unasked", status="408 Request Timeout"))
        await line.gone()

    async with peer(talk) as provider:
        await fetch(connections, provider.http)
        await provider.idle()
        provider.talk = answering(whole())
        assert await fetch(connections, provider.http) == [b"hello"]
        assert len(provider.lines) == 2


async def test_bytes_behind_an_answer_are_no_part_of_it(connections: ConnectionPool) -> None:
    async with peer(answering(whole() + whole(b"unasked", status="408 Request Timeout"))) as provider:
        assert await fetch(connections, provider.http) == [b"hello"]


@pytest.mark.parametrize(
    "behind",
    [b"\x15\x03 no HTTP", whole(b""), whole(b"")[:20]],
    ids=["garbage", "an answer", "the beginning of an answer"],
)
async def test_bytes_behind_an_answer_close_its_connection(connections: ConnectionPool, behind: bytes) -> None:
    async with peer(answering(whole() + behind)) as provider:
        for _ in range(2):
            await fetch(connections, provider.http)
        assert len(provider.lines) == 2


async def test_a_connection_closed_before_its_answer_is_let_go_of_is_not_kept(connections: ConnectionPool) -> None:
    async with peer(once(whole())) as provider:
        answer = await post(connections, provider.http)
        await provider.idle()
        await settled()
        answer.close()
        with anyio.fail_after(30):
            assert await fetch(connections, provider.http) == [b"hello"]
        assert len(provider.lines) == 2
