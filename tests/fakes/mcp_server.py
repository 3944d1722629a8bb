"""MCP servers for tests: the SDK's own over HTTP, and one that does as it is told, on sockets that the test can see."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

import anyio
import uvicorn
from mcp.server.mcpserver import MCPServer
from pydantic import JsonValue
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.conftest import TestServer

CRLF = b"\r\n"
OBJECT: JsonValue = {"type": "object"}


class RecordingProxy:
    """An application behind a recorder of the headers and methods of its requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.headers: list[dict[str, str]] = []
        self.methods: list[str] = []
        """Of JSON-RPC, or of HTTP where there is none."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()

        async def listen() -> Message:
            message = await receive()
            body.extend(message.get("body", b""))
            if message["type"] == "http.request" and not message.get("more_body"):
                self.methods.append(json.loads(body)["method"] if body else scope["method"])
            return message

        if scope["type"] == "http":
            self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await self._app(scope, listen if scope["type"] == "http" else receive, send)


@asynccontextmanager
async def official(server: MCPServer, **options: Any) -> AsyncGenerator[tuple[str, RecordingProxy]]:
    """The SDK's server; its URL and what it is asked for."""
    recording = RecordingProxy(server.streamable_http_app(**options))
    config = uvicorn.Config(recording, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    running = TestServer(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.run_here)
        with anyio.fail_after(30):
            await running.listening.wait()
        try:
            yield f"{running.url}/mcp", recording
        finally:
            running.should_exit = True
            running.leaving.set()
            with anyio.move_on_after(5, shield=True):
                await running.stopped.wait()


class McpRequest:
    """One HTTP request, and the socket to answer it on."""

    def __init__(
        self, verb: str, path: str, headers: Mapping[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        self.verb = verb
        self.path = path
        self.headers = headers
        self.message: dict[str, Any] = json.loads(body) if body else {}
        self.method: str = self.message.get("method", verb)
        self._writer = writer

    async def raw(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()

    async def answer(self, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer."""
        headers = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in headers.items())]
        await self.raw("\r\n".join(lines).encode() + CRLF + CRLF + body)

    def reply(self, **fields: Any) -> bytes:
        return json.dumps({"jsonrpc": "2.0", "id": self.message.get("id"), **fields}).encode()

    async def result(self, result: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        await self.answer(self.reply(result=result), headers=headers)

    async def events(self) -> None:
        """The head of a stream that ends with the connection."""
        await self.raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")

    async def event(self, content: bytes) -> None:
        await self.raw(b"data: " + content + b"\n\n")

    def hang_up(self) -> None:
        self._writer.close()


Script: TypeAlias = Callable[[McpRequest], Awaitable[None]]


class FakeMcpServer:
    """A server that does all by the book but for what its scripts do, by method."""

    def __init__(self, tools: list[Any] | None = None, **scripts: Script) -> None:
        self.tools = [{"name": "echo", "inputSchema": OBJECT}] if tools is None else tools
        self.scripts = scripts
        """By method, with `_` for `/`."""
        self.asked: list[McpRequest] = []
        self.url = ""
        self.connections = 0
        self._open = 0
        self._changed = anyio.Event()

    @property
    def calls(self) -> list[McpRequest]:
        return [asked for asked in self.asked if asked.method == "tools/call"]

    @property
    def methods(self) -> list[str]:
        return [asked.method for asked in self.asked]

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    async def asked_for(self, method: str, count: int = 1) -> None:
        await self.until(lambda: self.methods.count(method) >= count)

    async def deserted(self) -> None:
        """Wait until the other side has closed all connections."""
        await self.until(lambda: not self._open)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open += 1
        try:
            async with anyio.create_task_group() as tasks:
                while asked := await _request(reader, writer):
                    self.asked.append(asked)
                    self._change()
                    tasks.start_soon(self._play, asked)
                tasks.cancel_scope.cancel()
        finally:
            writer.close()
            self._open -= 1
            self._change()

    async def _play(self, asked: McpRequest) -> None:
        with suppress(ConnectionError):  # the client hung up, as many tests want it to
            await (self.scripts.get(asked.method.replace("/", "_")) or self._regular_answer)(asked)

    async def _regular_answer(self, asked: McpRequest) -> None:
        match asked.method:
            case "initialize":
                server_info = {"name": "rogue", "version": "1"}
                version = asked.message["params"]["protocolVersion"]
                result: dict[str, Any] = {
                    "protocolVersion": version,
                    "capabilities": {"tools": {}},
                    "serverInfo": server_info,
                }
                await asked.result(result, {"mcp-session-id": "session-1"})
            case "tools/list":
                await asked.result({"tools": self.tools})
            case "tools/call":
                text = json.dumps(asked.message["params"].get("arguments"))
                await asked.result({"content": [{"type": "text", "text": text}]})
            case _:
                await asked.answer(b"", 202 if asked.verb == "POST" else 200)

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> McpRequest | None:
    try:
        head = (await reader.readuntil(CRLF + CRLF)).decode()
        request, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    verb, path, _ = request.split(" ")
    return McpRequest(verb, path, headers, body, writer)


@asynccontextmanager
async def fake_mcp(tools: list[Any] | None = None, **scripts: Script) -> AsyncGenerator[FakeMcpServer]:
    running = FakeMcpServer(tools, **scripts)
    async with listening(running.serve) as origin:
        running.url = f"{origin}/mcp"
        yield running


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], host: str = "127.0.0.1", **tls: Any
) -> AsyncGenerator[str]:
    """The origin of a server on a free port."""
    server = await asyncio.start_server(serve, host, 0, **tls)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"{'https' if tls else 'http'}://{host}:{port}"
    finally:
        server.close()
