"""A client that sends exactly the bytes that it is given."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tests.conftest import KEY

GET = b"GET /health HTTP/1.1\r\nhost: x\r\n"
"""A request without the end of its head."""
ANSWER = b'{"status":"ok"}'
"""The body of its answer."""


def post(body: bytes, *fields: bytes, key: str = KEY) -> bytes:
    """Return a completion request, with these header fields."""
    lines = [b"POST /v1/agent/completions HTTP/1.1", b"host: x", b"x-api-key: " + key.encode(), *fields]
    return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", b""]) + body


def payload(task: str = "go", *, stream: bool = False) -> bytes:
    """Return a payload for one agent of the demo model."""
    agent = {"agent_name": "A", "model_name": "demo/A"}
    return json.dumps({"agent_config": agent, "task": task, "stream": stream}).encode()


class RawClient:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *pieces: bytes) -> None:
        """Send each piece by itself; if the server closes meanwhile, the rest is not sent."""
        try:
            for piece in pieces:
                self._writer.write(piece)
                await self._writer.drain()
        except ConnectionError:
            pass

    async def read_until(self, separator: bytes) -> bytes:
        return await self._reader.readuntil(separator)

    async def read(self, length: int) -> bytes:
        return await self._reader.readexactly(length)

    async def rest(self) -> tuple[bytes, bool]:
        """Return what comes until the connection ends, and True if it was reset."""
        taken = b""
        try:
            while content := await self._reader.read(65536):
                taken += content
        except ConnectionResetError:
            return taken, True
        return taken, False

    def reset(self) -> None:
        """Disconnect as a killed process does: by a TCP reset."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


@asynccontextmanager
async def raw_client(url: str) -> AsyncGenerator[RawClient]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()


def status_of(answer: bytes) -> int:
    """Return the status of the answer at the start of these bytes."""
    return int(answer.split(b" ", 2)[1])
