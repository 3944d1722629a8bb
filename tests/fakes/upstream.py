"""An honest fake of a provider: OpenAI's chat-completions stream over real HTTP on a real socket, faults included.

What it answers is a script: an async function that is handed each `Exchange` and writes to its socket.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

CRLF = b"\r\n"


def reset(writer: asyncio.StreamWriter) -> None:
    """Hang up with a TCP reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Exchange:
    """One request to the provider, and the means to answer it."""

    def __init__(
        self, path: str, headers: dict[str, str], body: dict[str, Any], writer: asyncio.StreamWriter, connection: str
    ) -> None:
        self._connection = connection
        self.path = path
        self.headers = headers
        self.body = body
        self.closed_by_client = anyio.Event()
        self.received = anyio.Event()
        """For a test to set, once what was said has come through."""
        self._writer = writer

    @property
    def system(self) -> str:
        """The system prompt: how a script tells agents apart."""
        return next((message["content"] for message in self.body["messages"] if message["role"] == "system"), "")

    async def open(self, content_type: str = "text/event-stream") -> None:
        await self.raw(
            f"HTTP/1.1 200 OK\r\nconnection: {self._connection}\r\ntransfer-encoding: chunked\r\n"
            f"content-type: {content_type}\r\n\r\n".encode()
        )

    async def refuse(self, status: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        """A whole answer that is no stream."""
        headers |= {"content-type": content_type, "content-length": str(len(body)), "connection": "close"}
        lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in headers.items())]
        await self.raw("\r\n".join(lines).encode() + CRLF + CRLF + body)

    async def delta(self, **delta: Any) -> None:
        await self.event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    async def say(self, *texts: str) -> None:
        for text in texts:
            await self.delta(content=text)

    async def finish(self, reason: str = "stop", usage: tuple[int, int] | None = (7, 3)) -> None:
        """The last of a whole stream: finish reason, usage (prompt, completion), `[DONE]`."""
        await self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        if usage is not None:
            prompt, completion = usage
            figures = {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            }
            await self.event({"choices": [], "usage": figures})
        await self.chunk(b"data: [DONE]\n\n")
        await self.end()

    async def event(self, fields: dict[str, Any]) -> None:
        fields = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", **fields}
        await self.chunk(b"data: " + json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n\n")

    async def chunk(self, content: bytes) -> None:
        """A chunk of HTTP's chunked coding."""
        await self.raw(b"%x\r\n" % len(content) + content + CRLF)

    async def end(self) -> None:
        """The clean end of a chunked body."""
        await self.raw(b"0\r\n\r\n")

    async def raw(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    def reset(self) -> None:
        """Hang up with a TCP reset."""
        reset(self._writer)


Script = Callable[[Exchange], Awaitable[None]]


class Upstream:
    """The provider: what it was asked, and what is still going on."""

    def __init__(self, script: Script, *, keeps_alive: bool = False) -> None:
        self.script = script
        self.keeps_alive = keeps_alive
        """Whether connections serve a second request; without it, each answer says that it is the last."""
        self.exchanges: list[Exchange] = []
        self.base_url = ""
        self.connections = 0
        self._open: set[Exchange] = set()
        self._changed = anyio.Event()

    @property
    def unfinished(self) -> int:
        """Exchanges whose script has not ended and whose client has not gone."""
        return len(self._open)

    async def asked(self, count: int) -> None:
        """Wait until that many requests have come."""
        await self._until(lambda: len(self.exchanges) >= count)

    async def idle(self) -> None:
        """Wait until nothing is going on."""
        await self._until(lambda: not self._open)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._exchange(reader, writer)
            if self.keeps_alive and not reader.at_eof():
                await self._exchange(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client hung up, as many tests want it to
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(CRLF + CRLF)).decode("latin-1")
        request_line, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        connection = "keep-alive" if self.keeps_alive else "close"
        exchange = Exchange(request_line.split()[1], headers, body, writer, connection)
        self.exchanges.append(exchange)
        self._open.add(exchange)
        self._change()
        gone = asyncio.ensure_future(_eof(reader))
        script = asyncio.ensure_future(self.script(exchange))
        try:
            await asyncio.wait((gone, script), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                exchange.closed_by_client.set()
            else:
                await script
        except ConnectionError:
            exchange.closed_by_client.set()  # a write has found out before anybody looked
            raise
        finally:
            for task in (gone, script):
                task.cancel()
            await asyncio.wait((gone, script))
            self._open.discard(exchange)
            self._change()


async def _eof(reader: asyncio.StreamReader) -> None:
    """Returns when the client has hung up; takes nothing of a request that may follow."""
    while not (reader.at_eof() or reader.exception()):  # noqa: ASYNC110  # a reader tells of its end only by what it is asked to take
        await asyncio.sleep(0.005)


@asynccontextmanager
async def provider(script: Script, *, keeps_alive: bool = False) -> AsyncGenerator[Upstream]:
    """A provider on a free port of this machine, for the length of the block."""
    upstream = Upstream(script, keeps_alive=keeps_alive)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    upstream.base_url = f"http://127.0.0.1:{port}/v1"
    try:
        yield upstream
    finally:
        server.close()
        await server.wait_closed()


async def hello(exchange: Exchange) -> None:
    """The simplest script: the agent's system prompt, in two pieces."""
    await exchange.open()
    await exchange.say(f"{exchange.system} says ", "hello")
    await exchange.finish()
