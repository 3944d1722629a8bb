"""The other end of a connection: a provider or a proxy that a test drives packet by packet."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio

from tests.fakes.upstream import reset

KIB = 1 << 10
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"


@dataclass(frozen=True)
class Request:
    line: str
    headers: Mapping[str, str]


class Line:
    """One connection, as whoever is at its other end has it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.received = bytearray()
        """All that has come, without TLS if there is some."""
        self._reader = reader
        self._writer = writer

    async def request(self) -> Request:
        """The next one."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        self.received += head + body
        return Request(first, headers)

    async def send(self, *packets: bytes) -> None:
        """Each packet is read before the next one comes."""
        for packet in packets:
            self._writer.write(packet)
            await self._writer.drain()
            await settled()

    async def gone(self) -> None:
        """Wait until we have hung up."""
        try:
            while received := await self._reader.read(64 * KIB):
                self.received += received
        except ConnectionError:
            pass  # with a reset

    async def relay(self, port: int) -> None:
        """Pass everything on to another port and back, until one of the ends hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def there() -> None:
            while received := await self._reader.read(64 * KIB):
                self.received += received
                writer.write(received)

        async def back() -> None:
            while received := await reader.read(64 * KIB):
                self._writer.write(received)

        try:
            await _until_first(there(), back())
        finally:
            writer.close()

    def half_close(self) -> None:
        """Hang up, and listen on."""
        self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Hang up with a TCP reset."""
        reset(self._writer)


async def _until_first(*ways: Coroutine[Any, Any, None]) -> None:
    """Until one of them ends, or breaks."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


Talk: TypeAlias = Callable[[Line], Awaitable[None]]


class Peer:
    """What listens on a port of this machine: a provider, a proxy, or who listens in. It talks on every line alike."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.port = 0
        self.lines: list[Line] = []
        self.requests: list[Request] = []
        self._talks: set[asyncio.Task[None]] = set()

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def https(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer)
        self.lines.append(line)
        self._talks.add(asyncio.ensure_future(self._serve(line)))

    async def _serve(self, line: Line) -> None:
        try:
            await self.talk(line)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # we hung up, as many tests want
        finally:
            line.close()

    async def idle(self) -> None:
        """Wait until every line is at its end."""
        if self._talks:
            await asyncio.wait(self._talks)

    async def end(self) -> list[BaseException]:
        """End every talk. What went wrong in any."""
        for talk in self._talks:
            talk.cancel()
        ends = await asyncio.gather(*self._talks, return_exceptions=True)
        return [end for end in ends if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError)]


@asynccontextmanager
async def peer(talk: Talk, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Peer]:
    """A peer for the length of the block, in which nothing waits longer than five seconds."""
    running = Peer(talk)
    failures: list[BaseException] = []
    server = await asyncio.start_server(running.serve, "127.0.0.1", 0, ssl=tls)
    running.port = server.sockets[0].getsockname()[1]
    try:
        with anyio.fail_after(30):
            yield running
    finally:
        server.close()
        with anyio.move_on_after(5, shield=True):
            failures = await running.end()
            await server.wait_closed()
    assert failures == []


async def settled() -> None:
    """What has arrived at any socket of this loop is read and acted upon."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b".")
        for _ in range(5):
            await anyio.wait_readable(ours)


def whole(body: bytes = b"hello", *headers: str, status: str = "200 OK") -> bytes:
    """A complete answer."""
    lines = [f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def answering(*packets: bytes) -> Talk:
    """One answer to whatever is asked, as often as it is."""

    async def talk(line: Line) -> None:
        while True:
            await line.request()
            await line.send(*packets)

    return talk


def once(*packets: bytes) -> Talk:
    """One answer, and hanging up after it."""

    async def talk(line: Line) -> None:
        await line.request()
        await line.send(*packets)

    return talk


@asynccontextmanager
async def listened_to(port: int) -> AsyncGenerator[Peer]:
    """A peer that passes everything on to a port: its lines have what was on the wire."""
    async with peer(lambda line: line.relay(port)) as running:
        yield running
