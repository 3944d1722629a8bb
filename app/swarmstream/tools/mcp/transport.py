"""The HTTP transport to one MCP server: to allowed addresses, with answers of a bounded size.

A failure comes back as an answer, too: a JSON-RPC error with a sentence of ours. An exception would end the whole
session, with all calls that are under way.
"""

import secrets
from collections.abc import AsyncIterator
from typing import Final, cast

import anyio
import httpcore2
import httpx2
from anyio.abc import TaskGroup
from pydantic_core import to_json

from swarmstream.clock import time_limit
from swarmstream.errors import McpHostRefused
from swarmstream.network.checked import CheckedNetwork
from swarmstream.network.policy import NetworkPolicy
from swarmstream.tools.mcp.json_rpc import Message, answer_to, parse_message, whole_events

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
        message = parse_message(await request.aread())
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
                answer = await self._pool.handle_async_request(_core_request(request))
                await answer.aclose()
        except (McpHostRefused, *_NETWORK_ERRORS):
            pass  # the next request fails, too, and reports it
        finally:
            if method == "notifications/initialized":
                self._ready.set()

    async def _answer(self, request: httpx2.Request, message: Message) -> httpx2.Response:
        """Return the server's answer, or an error of ours if there is none."""
        try:
            return await self._exchange(request, message)
        except McpHostRefused as error:
            self.refusal = error
            return _fault(message, f"is refused: {error.detail}", self.mark)
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
            problem = "cannot be reached"
        except _NETWORK_ERRORS:
            problem = _HUNG_UP
        self.is_lost = True
        return _fault(message, problem, self.mark)

    async def _exchange(self, request: httpx2.Request, message: Message) -> httpx2.Response:
        answer = await self._pool.handle_async_request(_core_request(request))
        response: httpx2.Response | None = None
        try:
            response = await self._read(request, message, answer)
            return response
        finally:
            if response is None or not isinstance(response.stream, _Events):
                await answer.aclose()

    async def _read(self, request: httpx2.Request, message: Message, answer: httpcore2.Response) -> httpx2.Response:
        """Return the answer in a form that is safe for the SDK."""
        headers = httpx2.Headers(answer.headers)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if 300 <= answer.status < 400:
            self.refusal = McpHostRefused("an MCP server sent us elsewhere, and we follow no redirects")
            return _fault(message, "redirected us, and redirects are not followed", self.mark)
        if headers.get("content-encoding", "identity").lower() != "identity":
            return _fault(message, "compressed its answer, which it was not asked to do", self.mark)
        if answer.status in {400, 404} and "mcp-session-id" in request.headers:
            self.is_lost = True
        kept = [(name, value) for name, value in headers.items() if name in _KEPT_HEADERS and name != "content-type"]
        if answer.status == 200 and kind == "text/event-stream":
            self._prepare_termination(request, headers)
            events = _Events(self, message, answer)
            return httpx2.Response(200, headers=[*kept, ("content-type", kind)], stream=events)
        body = await _read_body(answer) if kind == "application/json" else b""
        if body is None:
            return _fault(message, _TOO_LARGE, self.mark)
        content = answer_to(message, body)
        if content is None:
            status = f"HTTP status {answer.status}" if answer.status >= 400 else "something that is not MCP"
            return _fault(message, f"answered with {status}", self.mark)
        self._prepare_termination(request, headers)
        return httpx2.Response(answer.status, headers=[*kept, ("content-type", kind)], content=content)

    def _prepare_termination(self, request: httpx2.Request, headers: httpx2.Headers) -> None:
        """Prepare the end of the session that this answer may have opened."""
        if (session_id := headers.get("mcp-session-id")) and self._termination is None:
            kept = {name: value for name, value in request.headers.items() if name != "content-length"}
            self._termination = httpx2.Request("DELETE", request.url, headers={**kept, "mcp-session-id": session_id})


class _Events(httpx2.AsyncByteStream):
    """A stream of events, cut where it gets too long.

    Only whole events are passed on: an error of ours after half an event would be read as its rest.
    """

    def __init__(self, transport: McpTransport, message: Message, answer: httpcore2.Response) -> None:
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
                if end := whole_events(held, searched):
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
        return b"data: " + to_json(self._message.error(problem, self._transport.mark)) + b"\n\n"


async def _read_body(answer: httpcore2.Response) -> bytes | None:
    """Return the whole body; None if it is too large."""
    body = bytearray()
    async for chunk in cast("AsyncIterator[bytes]", answer.aiter_stream()):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            return None
    return bytes(body)


def _core_request(request: httpx2.Request) -> httpcore2.Request:
    url = httpcore2.URL(
        scheme=request.url.raw_scheme,
        host=request.url.raw_host,
        port=request.url.port,
        target=request.url.raw_path,
    )
    return httpcore2.Request(
        method=request.method,
        url=url,
        headers=request.headers.raw,
        content=request.content,
        extensions={"timeout": {"connect": CONNECT_SECONDS}},
    )


def _fault(message: Message, problem: str, mark: str) -> httpx2.Response:
    return httpx2.Response(502, json=message.error(problem, mark))
