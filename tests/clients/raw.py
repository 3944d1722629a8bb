"""A client that sends just the bytes that it is told to."""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class RawClient:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *pieces: bytes) -> None:
        """Each piece by itself; if the server closes meanwhile, the rest is not sent."""
        try:
            for piece in pieces:
                self._writer.write(piece)
                await self._writer.drain()
        except ConnectionError:
            pass

    async def read_until(self, words: bytes) -> bytes:
        return await self._reader.readuntil(words)

    async def read(self, length: int) -> bytes:
        return await self._reader.readexactly(length)

    async def rest(self) -> tuple[bytes, bool]:
        """What comes until the connection ends, and whether it was reset."""
        taken = b""
        try:
            while content := await self._reader.read(65536):
                taken += content
        except ConnectionResetError:
            return taken, True
        return taken, False

    def reset(self) -> None:
        """Hang up as a process does that is killed."""
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
    """Of an answer that stands at the start of these bytes."""
    return int(answer.split(b" ", 2)[1])
