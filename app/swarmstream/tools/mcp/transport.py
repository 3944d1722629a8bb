"""The way out to one MCP server: HTTP to addresses that are allowed, with answers of a bounded size.

What goes wrong comes back as an answer, too: a JSON-RPC error with a sentence of ours. An exception would end the whole
session, with all calls that are under way.
"""

import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NamedTuple, cast

import anyio
import httpcore2
import httpx2
from anyio.abc import TaskGroup
from pydantic_core import from_json, to_json

from swarmstream.clock import time_limit
from swarmstream.errors import McpHostRefused
from swarmstream.network.checked import CheckedNetwork
from swarmstream.network.policy import NetworkPolicy

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Of the answer to one request, whether it is a document or a stream."""
CONNECT_SECONDS: Final = 8.0
TELL_SECONDS: Final = 5.0
"""For what the server need not answer."""
MAX_TOLD: Final = 100
"""Of those, in one session: a server could ask for any number."""

_HUNG_UP = "hung up before it had answered"
_TOO_LARGE = f"answered with more than {MAX_ANSWER_BYTES // 2**20} MiB"
_OPENING = {"initialize", "server/discover"}
_KEPT = {"content-type", "mcp-session-id", "set-cookie"}
_NETWORK_ERRORS = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError)


class _Message(NamedTuple):
    """What a request carries, as far as we need to know."""

    id: Any = None
    method: str = ""
    has_answer: bool = False


class McpTransport(httpx2.AsyncBaseTransport):
    """A transport that never raises, never follows a redirect and never takes an answer that is compressed."""

    def __init__(self, reach: NetworkPolicy, tasks: TaskGroup) -> None:
        """`tasks` is where things are told that nobody waits for."""
        self.mark = secrets.token_hex(8)
        """In the data of the errors that are ours: only we know it."""
        self.is_lost = False
        """Whether the server may have forgotten the session, or is gone."""
        self.refusal: McpHostRefused | None = None
        """Why we did not go where the URL, or the server, wanted us to."""
        self._clock = reach.clock
        self._tasks = tasks
        self._told = 0
        self._ready = anyio.Event()
        """The server knows that the session has begun, if it wants to be told."""
        self._farewell: httpx2.Request | None = None
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=reach.tls,
            max_connections=None,
            keepalive_expiry=60.0,
            network_backend=CheckedNetwork(reach),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            # A server has nothing to say here unasked, and an answer that broke off is not asked for again.
            return httpx2.Response(405)
        message = _message(await request.aread())
        if message.has_answer:
            if message.method not in _OPENING:
                await self._ready.wait()
            return await self._ask(request, message)
        if self._told < MAX_TOLD:
            self._told += 1
            self._tasks.start_soon(self._tell, request, message.method, name="tell an MCP server")
        return httpx2.Response(202)

    async def aclose(self) -> None:
        await self._pool.aclose()

    async def take_leave(self) -> None:
        """End the session, if the server has given us one."""
        if self._farewell is not None:
            farewell, self._farewell = self._farewell, None
            await self._tell(farewell)

    def begin(self) -> None:
        """The session has begun, and nothing had to be told."""
        self._ready.set()

    async def _tell(self, request: httpx2.Request, method: str = "") -> None:
        try:
            with time_limit(self._clock, TELL_SECONDS):
                await (await self._send(request)).aclose()
        except (McpHostRefused, *_NETWORK_ERRORS):
            pass  # the next request will tell
        finally:
            if method == "notifications/initialized":
                self._ready.set()

    async def _ask(self, request: httpx2.Request, message: _Message) -> httpx2.Response:
        """The server's answer, or ours if there is none."""
        try:
            return await self._exchange(request, message)
        except McpHostRefused as error:
            self.refusal = error
            return self._fault(message, f"is refused: {error.detail}")
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
            return self._lost(message, "cannot be reached")
        except _NETWORK_ERRORS:
            return self._lost(message, _HUNG_UP)

    async def _exchange(self, request: httpx2.Request, message: _Message) -> httpx2.Response:
        answer = await self._send(request)
        response: httpx2.Response | None = None
        try:
            response = await self._read(request, message, answer)
            return response
        finally:
            if response is None or not isinstance(response.stream, _Events):
                await answer.aclose()

    async def _read(self, request: httpx2.Request, message: _Message, answer: httpcore2.Response) -> httpx2.Response:
        """The answer as the SDK may have it."""
        headers = httpx2.Headers(answer.headers)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if 300 <= answer.status < 400:
            self.refusal = McpHostRefused("an MCP server sent us elsewhere, and we follow no redirects")
            return self._fault(message, "redirected us, and redirects are not followed")
        if headers.get("content-encoding", "identity").lower() != "identity":
            return self._fault(message, "compressed its answer, which it was not asked to do")
        if answer.status in {400, 404} and "mcp-session-id" in request.headers:
            self.is_lost = True
        kept = [(name, value) for name, value in headers.items() if name in _KEPT and name != "content-type"]
        if answer.status == 200 and kind == "text/event-stream":
            self._remember(request, headers)
            events = _Events(self, message, answer)
            return httpx2.Response(200, headers=[*kept, ("content-type", kind)], stream=events)
        body = await _document(answer) if kind == "application/json" else b""
        if body is None:
            return self._fault(message, _TOO_LARGE)
        content = _json_rpc(body, message.id)
        if content is None:
            status = f"HTTP status {answer.status}" if answer.status >= 400 else "something that is not MCP"
            return self._fault(message, f"answered with {status}")
        self._remember(request, headers)
        return httpx2.Response(answer.status, headers=[*kept, ("content-type", kind)], content=content)

    def _remember(self, request: httpx2.Request, headers: httpx2.Headers) -> None:
        """How to take leave of a session that this answer may have opened."""
        if (session_id := headers.get("mcp-session-id")) and self._farewell is None:
            kept = {name: value for name, value in request.headers.items() if name != "content-length"}
            self._farewell = httpx2.Request("DELETE", request.url, headers={**kept, "mcp-session-id": session_id})

    async def _send(self, request: httpx2.Request) -> httpcore2.Response:
        url = httpcore2.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        return await self._pool.handle_async_request(
            httpcore2.Request(
                method=request.method,
                url=url,
                headers=request.headers.raw,
                content=request.content,
                extensions={"timeout": {"connect": CONNECT_SECONDS}},
            )
        )

    def _lost(self, message: _Message, problem: str) -> httpx2.Response:
        self.is_lost = True
        return self._fault(message, problem)

    def _fault(self, message: _Message, problem: str) -> httpx2.Response:
        return httpx2.Response(502, json=self.error(message, problem))

    def error(self, message: _Message, problem: str) -> dict[str, Any]:
        """What answers a message when the server does not."""
        return {
            "jsonrpc": "2.0",
            "id": message.id,
            "error": {"code": -32000, "message": problem, "data": self.mark},
        }


class _Events(httpx2.AsyncByteStream):
    """A stream of events, cut where it gets too long. Only whole events are passed on: what follows half a one would be
    taken for the rest of it."""

    def __init__(self, gate: McpTransport, message: _Message, answer: httpcore2.Response) -> None:
        self._gate = gate
        self._message = message
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        held = bytearray()
        try:
            async for part in cast("AsyncIterator[bytes]", self._answer.aiter_stream()):
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    yield self._fault(_TOO_LARGE)
                    return
                searched = max(0, len(held) - 3)
                held += part
                if end := _end_of_events(held, searched):
                    yield bytes(held[:end])
                    del held[:end]
        except _NETWORK_ERRORS:
            pass
        # Whoever has got an answer reads no further.
        self._gate.is_lost = True
        yield self._fault(_HUNG_UP)

    async def aclose(self) -> None:
        await self._answer.aclose()

    def _fault(self, problem: str) -> bytes:
        return b"data: " + to_json(self._gate.error(self._message, problem)) + b"\n\n"


async def _document(answer: httpcore2.Response) -> bytes | None:
    """The whole body; None if it is too large."""
    body = bytearray()
    async for part in cast("AsyncIterator[bytes]", answer.aiter_stream()):
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            return None
    return bytes(body)


def _message(body: bytes) -> _Message:
    fields: Mapping[str, Any] = from_json(body) if body else {}
    method = fields.get("method", "")
    return _Message(fields.get("id"), method, bool(method) and "id" in fields)


def _json_rpc(body: bytes, request_id: Any) -> bytes | None:
    """The answer to this request; None if it is none."""
    try:
        answer: Any = from_json(body)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    fields = cast("dict[str, Any]", answer)
    if isinstance(fields.get("error"), dict) and fields.get("id") is None:
        return to_json({**fields, "id": request_id})
    return body if fields.get("id") == request_id and ("result" in fields or "error" in fields) else None


def _end_of_events(held: bytearray, start: int) -> int:
    """Where the last whole event ends; 0 if there is none."""
    ends = (held.rfind(blank, start) + len(blank) for blank in (b"\n\n", b"\r\n\r\n", b"\r\r") if blank in held[start:])
    return max(ends, default=0)
