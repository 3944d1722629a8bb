"""Connections that have ended are freed with their last user, without the garbage collector."""

import contextlib
import gc
from collections.abc import Awaitable, Callable

import anyio
import pytest

from swarmstream.llm.http.connection import Connection
from swarmstream.llm.http.exchange import Exchange
from swarmstream.llm.http.pool import ConnectionPool
from tests.llm.authority import Authority, trusting
from tests.llm.callers import connected, fetch, post
from tests.llm.peer import answering, peer, settled, whole

pytestmark = pytest.mark.anyio


def ended() -> int:
    """How many connections there are, in use or waiting for the collector."""
    return sum(type(each) in (Connection, Exchange) for each in gc.get_objects())


async def _cancelled(connections: ConnectionPool, url: str) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fetch, connections, url)
        await settled()
        tasks.cancel_scope.cancel()


async def _failing(connections: ConnectionPool, url: str) -> None:
    with contextlib.suppress(OSError):
        await fetch(connections, url)


async def _refused_by_its_reader(connections: ConnectionPool, url: str) -> None:
    def take(part: bytes) -> bool:
        raise LookupError

    answer = await post(connections, url)
    with contextlib.suppress(LookupError):
        await answer.read(take)
    answer.close()


async def _left_alone(connections: ConnectionPool, url: str) -> None:
    (await post(connections, url)).close()


HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n"


@pytest.mark.parametrize(
    ("packets", "way"),
    [
        ([], _cancelled),
        ([HEAD], _cancelled),
        ([HEAD + b"half"], _cancelled),
        ([b"garbage"], _failing),
        ([HEAD + b"half", b"garbage" * 20], _failing),
        ([HEAD, b"half"], _refused_by_its_reader),
        ([HEAD + b"half"], _left_alone),
        ([whole()], fetch),
    ],
    ids=["head", "body", "middle", "garbage", "too much", "refused", "left alone", "whole"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_connection_that_has_ended_waits_for_the_collector(
    authority: Authority,
    scheme: str,
    packets: list[bytes],
    way: Callable[[ConnectionPool, str], Awaitable[object]],
) -> None:
    tls = authority.tls if scheme == "https" else None
    gc.collect()
    gc.disable()
    try:
        before = ended()
        async with connected(**trusting(authority)) as connections_used, peer(answering(*packets), tls=tls) as provider:
            for _ in range(20):
                await way(connections_used, f"{scheme}://127.0.0.1:{provider.port}")
            await connections_used.close()
            await provider.idle()
            await settled()
            assert ended() - before == 0
    finally:
        gc.enable()
