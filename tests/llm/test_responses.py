"""Responses as HTTP/1.1 allows them, and as it does not (RFC 9110, RFC 9112)."""

import anyio
import pytest

from swarmstream.errors import (
    ProviderError,
    ProviderUnreachable,
    UpstreamTruncated,
)
from swarmstream.llm.http.pool import ConnectionPool
from swarmstream.llm.http.proxy import Disconnected
from tests.llm.authority import Authority, trusting
from tests.llm.callers import CHUNK, FINISH, STREAM, connected, fails, fetch, modelled, post, say
from tests.llm.peer import CHUNKED, KIB, SWITCHING, Line, answering, once, peer, settled, whole

pytestmark = pytest.mark.anyio


async def test_interim_answers_come_before_the_answer(connections: ConnectionPool) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlocation: /\r\ncontent-type: a/b\r\n\r\n"
    answer = whole(b"hello", "retry-after: 1")
    async with peer(answering(*interim, answer, b"".join((*interim, answer)))) as provider:
        response = await post(connections, provider.http)
        response.close()
    assert (response.status, response.headers) == (200, {"retry-after": "1"})


async def test_interim_answers_may_come_in_one_packet_with_the_answer(connections: ConnectionPool) -> None:
    async with peer(answering(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + whole())) as provider:
        for _ in range(2):
            assert await fetch(connections, provider.http) == [b"hello"]
        assert len(provider.lines) == 1


async def test_an_answer_of_http_1_0_ends_with_its_connection() -> None:
    head = b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    async with peer(once(head, CHUNK, FINISH)) as provider, modelled() as model:
        assert await say(model, provider.http) == "hi"


@pytest.mark.noisy
async def test_an_answer_of_http_1_0_that_ends_too_early_is_cut() -> None:
    async with peer(once(b"HTTP/1.0 200 OK\r\n\r\n", CHUNK)) as provider, modelled() as model:
        await fails(model, provider.http, UpstreamTruncated)


async def test_chunks_may_have_extensions_and_trailers(connections: ConnectionPool) -> None:
    body = b'2;a=b;c="d"\r\nhe\r\n3;e\r\nllo\r\n0;last\r\nx-checksum: 1\r\ntrailer: 2\r\n\r\n'
    async with peer(answering(CHUNKED + body)) as provider:
        for _ in range(2):
            assert await fetch(connections, provider.http) == [b"he", b"llo"]
        assert len(provider.lines) == 1


async def test_trailers_are_no_headers(connections: ConnectionPool) -> None:
    async with peer(answering(CHUNKED, b"0\r\ncontent-type: text/html\r\n\r\n")) as provider:
        answer = await post(connections, provider.http)
        await answer.read(lambda _: False)
        answer.close()
    assert answer.headers == {}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(whole(b"hello", "content-type: text/plain"), id="content-length"),
        pytest.param(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", id="chunked"),
        pytest.param(whole(b"hello", "upgrade: h2", "connection: upgrade, keep-alive"), id="upgrade"),
    ],
)
async def test_an_answer_is_the_same_in_one_packet_and_byte_by_byte(connections: ConnectionPool, answer: bytes) -> None:
    single = [bytes([byte]) for byte in answer]
    async with peer(answering(answer)) as provider:
        assert await fetch(connections, provider.http) == [b"hello"]
        provider.talk = answering(*single)
        await connections.close()
        for _ in range(2):
            assert await fetch(connections, provider.http) == [b"h", b"e", b"l", b"l", b"o"]
        assert len(provider.lines) == 2


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_large_body_comes_whole(authority: Authority, scheme: str) -> None:
    body = b"0123456789abcdef" * 64 * KIB
    tls = authority.tls if scheme == "https" else None
    async with peer(answering(whole(body)), tls=tls) as provider, connected(**trusting(authority)) as connections:
        for _ in range(2):
            assert b"".join(await fetch(connections, f"{scheme}://127.0.0.1:{provider.port}")) == body
        assert len(provider.lines) == 1


async def test_the_body_goes_on_as_it_comes_not_when_it_is_complete(connections: ConnectionPool) -> None:
    head_received = anyio.Event()

    async def talk(line: Line) -> None:
        await line.request()
        await line.send(CHUNKED, b"3\r\nhel\r\n")
        await head_received.wait()
        await line.send(b"2\r\nlo\r\n0\r\n\r\n")

    def take(part: bytes) -> bool:
        if part == b"hel":
            head_received.set()
        return part == b"lo"

    async with peer(talk) as provider:
        answer = await post(connections, provider.http)
        await answer.read(take)
        answer.close()


@pytest.mark.parametrize(
    ("beginning", "more"),
    [
        (b"HTTP/1.1 200 OK\r\nx-filler: ", b"x" * KIB),
        (b"HTTP/1.1 200 OK\r\n", b"x-filler: x\r\n" * 80),
        (b"HTTP/1.1 200 ", b"x" * KIB),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40),
    ],
    ids=["a field", "fields", "a reason", "interim answers"],
)
async def test_a_head_without_end_is_refused(connections: ConnectionPool, beginning: bytes, more: bytes) -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(beginning, *[more] * 66)
        await line.gone()

    async with peer(talk) as provider:
        with pytest.raises(Disconnected, match="too large"):
            await fetch(connections, provider.http)
        await provider.idle()


async def test_a_head_may_have_60_kib(connections: ConnectionPool) -> None:
    head = whole(b"", f"x-filler: {'x' * 60 * KIB}").replace(b"content-length: 0", b"content-length: 5")
    async with peer(answering(head[: 40 * KIB], head[40 * KIB :], b"hello")) as provider:
        assert await fetch(connections, provider.http) == [b"hello"]


async def test_trailers_without_end_are_refused(connections: ConnectionPool) -> None:
    async with peer(once(CHUNKED, b"0\r\nx-filler: ", *[b"x" * 16 * KIB] * 16, b"\r\n\r\n")) as provider:
        with pytest.raises(Disconnected, match="too large"):
            await fetch(connections, provider.http)


@pytest.mark.noisy
@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x02\x00",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
        b"data: hello\n\n",
        b"HTTP/1.1 twohundred OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        SWITCHING,
    ],
)
async def test_a_provider_that_answers_with_garbage_is_unreachable(garbage: bytes) -> None:
    async with peer(once(garbage)) as provider, modelled() as model:
        await fails(model, provider.http, ProviderUnreachable)
        assert len(provider.lines) == 1


@pytest.mark.noisy
async def test_garbage_in_the_middle_of_an_answer_ends_it() -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(CHUNKED, b"%x\r\n" % len(CHUNK) + CHUNK + b"\r\n", b"no chunk")
        await line.gone()

    async with peer(talk) as provider, modelled() as model:
        await fails(model, provider.http, UpstreamTruncated)
        await provider.idle()


@pytest.mark.noisy
@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_a_compressed_answer_is_a_providers_error(encoding: str) -> None:
    answer = whole(b"\x1f\x8b", "content-type: text/event-stream", f"content-encoding: {encoding}")
    async with peer(answering(answer)) as provider, modelled() as model:
        await fails(model, provider.http, ProviderError)
        assert b"\r\naccept-encoding: identity\r\n" in provider.lines[0].received


@pytest.mark.noisy
@pytest.mark.parametrize("key", ["sk\r\nx-injected: 1", "sk\nx-injected: 1", "sk\r", "sk\n", "sk…"])
async def test_a_key_that_is_no_headers_value_never_leaves(key: str, caplog: pytest.LogCaptureFixture) -> None:
    async with peer(answering(STREAM)) as provider, modelled(LOCAL_KEY=key) as model:
        await fails(model, provider.http, ProviderUnreachable)
        await settled()
        assert provider.lines == []
    assert key not in caplog.text
