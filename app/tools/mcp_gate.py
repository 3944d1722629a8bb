"""The way out to one MCP server: HTTP to addresses that are allowed, with answers of a bounded size.

What goes wrong comes back as an answer, too: a JSON-RPC error with a sentence of ours. An exception would end the whole
session, with all calls that are under way.
"""

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import cache
from ssl import SSLContext
from typing import Any, Final, NamedTuple, cast

import anyio
import httpcore2
import httpx2
from anyio.abc import TaskGroup
from pydantic_core import from_json, to_json

from app.errors import McpHostRefused
from app.tools.hosts import AllowedHosts

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Of the answer to one request, whether it is a document or a stream."""
CONNECT_SECONDS: Final = 8.0
TELL_SECONDS: Final = 5.0
"""For what the server need not answer."""
MAX_TOLD: Final = 100
"""Of those, in one session: a server could ask for any number."""

_TRY_SECONDS = 2.0
"""For one address, if there are others."""
_KEPT = {"content-type", "mcp-session-id", "set-cookie"}
_OURS = {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade"}
_NETWORK_ERRORS = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError)


class _Message(NamedTuple):
    """What a request carries, as far as we need to know."""

    id: Any = None
    method: str = ""
    has_answer: bool = False


class Gate(httpx2.AsyncBaseTransport):
    """A transport that never raises, never follows a redirect and never takes an answer that is compressed."""

    def __init__(self, allowed: AllowedHosts, tasks: TaskGroup) -> None:
        """`tasks` is where things are told that nobody waits for."""
        self.mark = secrets.token_hex(8)
        """In the data of the errors that are ours: only we know it."""
        self.is_lost = False
        """Whether the server may have forgotten the session, or is gone."""
        self.refusal: McpHostRefused | None = None
        """Why we did not go where the URL, or the server, wanted us to."""
        self._tasks = tasks
        self._told = 0
        self._ready = anyio.Event()
        """The server knows that the session has begun, if it wants to be told."""
        self._farewell: httpx2.Request | None = None
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=_tls(),
            max_connections=None,
            keepalive_expiry=60.0,
            network_backend=_CheckedNetwork(allowed),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            # A server has nothing to say here unasked, and an answer that broke off is not asked for again.
            return httpx2.Response(405)
        message = _message(await request.aread())
        if message.has_answer:
            if message.method != "initialize":
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
            with anyio.move_on_after(TELL_SECONDS):
                await (await self._send(request)).aclose()
        except (McpHostRefused, *_NETWORK_ERRORS):
            pass  # the next request will tell
        finally:
            if method == "notifications/initialized":
                self._ready.set()

    async def _ask(self, request: httpx2.Request, message: _Message) -> httpx2.Response:
        try:
            answer = await self._send(request)
        except McpHostRefused as error:
            self.refusal = error
            return self._fault(message, error.detail)
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
            return self._lost(message, "cannot be reached")
        except _NETWORK_ERRORS:
            return self._lost(message, "hung up without an answer")
        passed = False
        try:
            response = await self._read(request, message, answer)
            passed = response.headers.get("content-type") == "text/event-stream"
            return response
        finally:
            if not passed:
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
            events = _Events(answer, lambda problem: b"data: " + to_json(self._error(message, problem)) + b"\n\n", self)
            return httpx2.Response(200, headers=[*kept, ("content-type", kind)], stream=events)
        body = await _document(answer) if kind == "application/json" else b""
        if body is None:
            return self._fault(message, f"answered with more than {MAX_ANSWER_BYTES // 2**20} MiB")
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
        return httpx2.Response(502, json=self._error(message, problem))

    def _error(self, message: _Message, problem: str) -> dict[str, Any]:
        return {
            "jsonrpc": "2.0",
            "id": message.id,
            "error": {"code": -32000, "message": problem, "data": self.mark},
        }


class _Events(httpx2.AsyncByteStream):
    """A stream of events, cut where it gets too long. Only whole events are passed on: what follows half a one would be
    taken for the rest of it."""

    def __init__(self, answer: httpcore2.Response, fault: "_Fault", gate: Gate) -> None:
        self._answer = answer
        self._fault = fault
        self._gate = gate

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        held = bytearray()
        try:
            async for part in cast("AsyncIterator[bytes]", self._answer.aiter_stream()):
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    yield self._fault(f"answered with more than {MAX_ANSWER_BYTES // 2**20} MiB")
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
        yield self._fault("hung up before it had answered")

    async def aclose(self) -> None:
        await self._answer.aclose()


class _CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Resolves names itself, so that the address that is checked is the one that is connected to."""

    def __init__(self, allowed: AllowedHosts) -> None:
        self._allowed = allowed
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Raises `McpHostRefused` if one of the addresses is not allowed, else what httpcore raises."""
        try:
            with anyio.fail_after(timeout):
                addresses = await self._addresses(host, port)
                for address in addresses[:-1]:
                    try:
                        return await self._network.connect_tcp(address, port, _TRY_SECONDS)
                    except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                        continue
                return await self._network.connect_tcp(addresses[-1], port)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(str(error)) from error

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = await anyio.getaddrinfo(host, port, type=anyio.abc.SocketKind.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError("the name cannot be resolved") from error
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        for address in addresses:
            self._allowed.check_address(host, port, address)
        if not addresses:
            raise httpcore2.ConnectError("the name has no address")
        return addresses
