"""The HTTP transport to one MCP server: to allowed addresses, with answers of a bounded size.

A failure comes back as an answer, too: a JSON-RPC error with a sentence of ours. An exception would end the whole
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
NOTIFICATION_SECONDS: Final = 5.0
"""For a message that the server need not answer."""
MAX_NOTIFICATIONS: Final = 100
"""In one session: a server could make the SDK send any number."""

_HUNG_UP = "hung up before it had answered"
_TOO_LARGE = f"answered with more than {MAX_ANSWER_BYTES // 2**20} MiB"
_OPENING_METHODS = {"initialize", "server/discover"}
_KEPT_HEADERS = {"content-type", "mcp-session-id", "set-cookie"}
_NETWORK_ERRORS = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError)


class _Message(NamedTuple):
    """The fields of a JSON-RPC message that the transport needs."""

    id: Any = None
    method: str = ""
    expects_answer: bool = False


class McpTransport(httpx2.AsyncBaseTransport):
    """A transport that never raises, never follows a redirect and never takes an answer that is compressed."""

    def __init__(self, network: NetworkPolicy, tasks: TaskGroup) -> None:
        """`tasks` is where notifications are sent."""
        self.mark = secrets.token_hex(8)
        """In the data of the errors that the transport makes; the server does not know it."""
        self.is_lost = False
        """True if the server may have forgotten the session, or is gone."""
        self.refusal: McpHostRefused | None = None
        """The refusal of an address or a redirect, if there was one."""
        self._clock = network.clock
        self._tasks = tasks
        self._notifications = 0
        self._ready = anyio.Event()
        """Set once the server knows that the session has begun; requests wait for it."""
        self._termination: httpx2.Request | None = None
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=network.tls,
            max_connections=None,
            keepalive_expiry=60.0,
            network_backend=CheckedNetwork(network),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            # No stream for messages of the server, and no second request for an answer that broke off.
            return httpx2.Response(405)
        message = _message(await request.aread())
        if message.expects_answer:
            if message.method not in _OPENING_METHODS:
                await self._ready.wait()
            return await self._answer(request, message)
        if self._notifications < MAX_NOTIFICATIONS:
            self._notifications += 1
            self._tasks.start_soon(self._notify, request, message.method, name="notify an MCP server")
        return httpx2.Response(202)

    async def aclose(self) -> None:
        await self._pool.aclose()

    async def terminate(self) -> None:
        """End the session on the server, if it has given us one."""
        if self._termination is not None:
            termination, self._termination = self._termination, None
            await self._notify(termination)

    def begin(self) -> None:
        """Let requests pass: the session has begun without a notification."""
        self._ready.set()

    async def _notify(self, request: httpx2.Request, method: str = "") -> None:
        try:
            with time_limit(self._clock, NOTIFICATION_SECONDS):
                await (await self._send(request)).aclose()
        except (McpHostRefused, *_NETWORK_ERRORS):
            pass  # the next request fails, too, and reports it
        finally:
            if method == "notifications/initialized":
                self._ready.set()

    async def _answer(self, request: httpx2.Request, message: _Message) -> httpx2.Response:
        """Return the server's answer, or an error of ours if there is none."""
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
        """Return the answer in a form that is safe for the SDK."""
        headers = httpx2.Headers(answer.headers)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if 300 <= answer.status < 400:
            self.refusal = McpHostRefused("an MCP server sent us elsewhere, and we follow no redirects")
            return self._fault(message, "redirected us, and redirects are not followed")
        if headers.get("content-encoding", "identity").lower() != "identity":
            return self._fault(message, "compressed its answer, which it was not asked to do")
        if answer.status in {400, 404} and "mcp-session-id" in request.headers:
            self.is_lost = True
        kept = [(name, value) for name, value in headers.items() if name in _KEPT_HEADERS and name != "content-type"]
        if answer.status == 200 and kind == "text/event-stream":
            self._prepare_termination(request, headers)
            events = _Events(self, message, answer)
            return httpx2.Response(200, headers=[*kept, ("content-type", kind)], stream=events)
        body = await _read_body(answer) if kind == "application/json" else b""
        if body is None:
            return self._fault(message, _TOO_LARGE)
        content = _json_rpc(body, message.id)
        if content is None:
            status = f"HTTP status {answer.status}" if answer.status >= 400 else "something that is not MCP"
            return self._fault(message, f"answered with {status}")
        self._prepare_termination(request, headers)
        return httpx2.Response(answer.status, headers=[*kept, ("content-type", kind)], content=content)

    def _prepare_termination(self, request: httpx2.Request, headers: httpx2.Headers) -> None:
        """Prepare the end of the session that this answer may have opened."""
        if (session_id := headers.get("mcp-session-id")) and self._termination is None:
            kept = {name: value for name, value in request.headers.items() if name != "content-length"}
            self._termination = httpx2.Request("DELETE", request.url, headers={**kept, "mcp-session-id": session_id})

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
        """Return a JSON-RPC error of ours as the answer to a message."""
        return {
            "jsonrpc": "2.0",
            "id": message.id,
            "error": {"code": -32000, "message": problem, "data": self.mark},
        }


class _Events(httpx2.AsyncByteStream):
    """A stream of events, cut where it gets too long.

    Only whole events are passed on: an error of ours after half an event would be read as its rest.
    """

    def __init__(self, transport: McpTransport, message: _Message, answer: httpcore2.Response) -> None:
        self._transport = transport
        self._message = message
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        held = bytearray()
        try:
            async for chunk in cast("AsyncIterator[bytes]", self._answer.aiter_stream()):
                size += len(chunk)
                if size > MAX_ANSWER_BYTES:
                    yield self._fault(_TOO_LARGE)
                    return
                searched = max(0, len(held) - 3)
                held += chunk
                if end := _end_of_events(held, searched):
                    yield bytes(held[:end])
                    del held[:end]
        except _NETWORK_ERRORS:
            pass
        # The SDK stops reading once it has its answer, so this one has none.
        self._transport.is_lost = True
        yield self._fault(_HUNG_UP)

    async def aclose(self) -> None:
        await self._answer.aclose()

    def _fault(self, problem: str) -> bytes:
        return b"data: " + to_json(self._transport.error(self._message, problem)) + b"\n\n"


async def _read_body(answer: httpcore2.Response) -> bytes | None:
    """Return the whole body; None if it is too large."""
    body = bytearray()
    async for chunk in cast("AsyncIterator[bytes]", answer.aiter_stream()):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            return None
    return bytes(body)


def _message(body: bytes) -> _Message:
    fields: Mapping[str, Any] = from_json(body) if body else {}
    method = fields.get("method", "")
    return _Message(fields.get("id"), method, bool(method) and "id" in fields)


def _json_rpc(body: bytes, request_id: Any) -> bytes | None:
    """Return the body if it answers this request; None otherwise."""
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
    """Return the length of all whole events."""
    ends = (held.rfind(blank, start) + len(blank) for blank in (b"\n\n", b"\r\n\r\n", b"\r\r") if blank in held[start:])
    return max(ends, default=0)
