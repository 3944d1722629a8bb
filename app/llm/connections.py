"""Connections to providers: HTTP/1.1 in which a body goes on to its reader in the very call that brings it.

Reading a stream through futures wakes a task for each token, which costs more than all that is done with it. Parsing is
llhttp's (httptools), TLS and sockets are the event loop's. Connections are kept alive and used again, as many as there
are: a limit would queue calls silently.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast
from urllib.parse import SplitResult, urlsplit

import certifi
import httptools

from app.llm.proxies import PORTS, Disconnected, Proxies, Tunnel, proxy_authorization, read_proxy

_IDLE_SECONDS = 60.0
_LAST_BYTES_SECONDS = 1.0
_MAX_BYTES_WITHOUT_BODY = 64 * 1024
"""Of a head, or of trailers: what the parser keeps to itself."""
_MANY_BYTES = 32 * 1024
_WANTED_HEADERS = {b"content-type", b"content-encoding", b"location", b"retry-after"}


@dataclass(frozen=True, slots=True)
class _Route:
    """Where a connection leads; those of one route are interchangeable."""

    scheme: str
    host: str
    port: int
    proxy: str | None


class Answer:
    """A provider's answer from its head on. Whoever has it closes it."""

    def __init__(self, connection: "_Connection", status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        """Those that anybody here asks for, by lower-case name."""
        self._connection = connection
        self._is_closed = False

    async def read(self, take: Callable[[bytes], bool]) -> None:
        """Hand each part of the body to `take` as it comes, until the end, or until `take` says that it has enough.

        Raises:
            OSError: the connection broke before the end; and whatever `take` raises.
        """
        await self._connection.read(take)

    def close(self) -> None:
        """No more is wanted. The connection is kept if the answer is complete or its reader has had enough of it, for
        then the end is near; otherwise the provider is hung up on."""
        if not self._is_closed:
            self._is_closed = True
            self._connection.let_go()


class Connections:
    """Posts requests. Make it and use it in one event loop.

    TLS certificates are always verified, against `SSL_CERT_FILE` or `SSL_CERT_DIR` where they are set (OpenSSL), else
    against certifi's. Proxies are those of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._proxies = Proxies(environ)
        self._idle: dict[_Route, list[_Connection]] = {}
        self._all: set[_Connection] = set()

    async def post(self, url: str, body: Sequence[bytes], headers: Mapping[str, str]) -> Answer:
        """The answer, as soon as its head is there; a redirect is an answer. The body's pieces are not copied here.

        A connection that waited for reuse and proves to be closed is no failure: the request is posted once more on a
        new one, for the provider has not seen it.

        Raises:
            OSError, ValueError: there is no answer.
        """
        target = urlsplit(url)
        proxy = self._proxies.of(target)
        route = _Route(target.scheme, target.hostname or "", target.port or PORTS[target.scheme], proxy)
        request = _request(target, body, headers, proxy if target.scheme == "http" else None)
        if idle := self._idle.get(route):
            connection = idle.pop()
            try:
                return await connection.exchange(request)
            except OSError:
                if connection.has_answered:
                    raise
        return await (await self._connect(route)).exchange(request)

    async def close(self) -> None:
        """Hang up everywhere."""
        for connection in list(self._all):
            connection.hang_up()

    async def _connect(self, route: _Route) -> "_Connection":
        loop = asyncio.get_running_loop()
        tls = self._tls if route.scheme == "https" else None
        at, first_tls = (route.host, route.port), tls
        proxy = read_proxy(route.proxy) if route.proxy else None
        if proxy is not None:
            at = proxy.hostname or "", proxy.port or PORTS[proxy.scheme]
            first_tls = self._tls if proxy.scheme == "https" else None
        if proxy is None or tls is None:
            _, connection = await loop.create_connection(lambda: _Connection(self, route), *at, ssl=first_tls)
            return connection
        through = Tunnel(route.host, route.port, proxy)
        transport, tunnel = await loop.create_connection(lambda: through, *at, ssl=first_tls)
        connection = _Connection(self, route)
        try:
            await tunnel.opened
            connection.connection_made(transport)  # the handshake's last packet may bring more
            secured = await loop.start_tls(transport, connection, tls, server_hostname=route.host)
        except BaseException:
            transport.abort()
            self.closed(connection)
            raise
        assert secured is not None
        connection.connection_made(secured)
        return connection

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        file, folder = self._environ.get("SSL_CERT_FILE") or None, self._environ.get("SSL_CERT_DIR") or None
        context = ssl.create_default_context(cafile=file or (None if folder else certifi.where()), capath=folder)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def opened(self, connection: "_Connection") -> None:
        self._all.add(connection)

    def keep(self, connection: "_Connection") -> None:
        self._idle.setdefault(connection.route, []).append(connection)

    def closed(self, connection: "_Connection") -> None:
        self._all.discard(connection)
        idle = self._idle.get(connection.route, [])
        if connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(connection.route, None)


class _Connection(asyncio.Protocol):
    """One connection: one exchange at a time, and idleness in between."""

    __slots__ = (
        "_answer",
        "_broke",
        "_bytes_without_body",
        "_early",
        "_end",
        "_has_enough",
        "_headers",
        "_is_complete",
        "_keeps_alive",
        "_loop",
        "_owner",
        "_parser",
        "_take",
        "_timer",
        "_transport",
        "has_answered",
        "route",
    )

    def __init__(self, owner: Connections, route: _Route) -> None:
        self.route = route
        self.has_answered = False
        """Whether a byte of the present answer has come."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._end: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] | None = None
        self._early: list[bytes] = []
        """What has come of the body before anybody asked for it."""
        self._is_complete = False
        self._has_enough = False
        self._broke: Exception | None = None
        self._keeps_alive = False

    # What its user calls.

    async def exchange(self, request: Sequence[bytes]) -> Answer:
        """Send a request; the answer's head."""
        if self._timer is not None:
            self._timer.cancel()
        self.has_answered = self._is_complete = self._has_enough = False
        self._take, self._broke = None, None
        self._headers: dict[str, str] = {}
        self._bytes_without_body = 0
        self._parser = httptools.HttpResponseParser(self)
        self._answer = self._loop.create_future()
        try:
            self._transport.writelines(request)
            return await self._answer
        except BaseException:
            self.hang_up()
            raise

    async def read(self, take: Callable[[bytes], bool]) -> None:
        self._take = take
        early, self._early = self._early, []
        for part in early:
            self._has_enough = self._has_enough or take(part)
        if self._is_complete or self._has_enough:
            return
        if self._broke is not None:
            raise self._broke
        self._end = self._loop.create_future()
        await self._end

    def let_go(self) -> None:
        self._take = self._end = None
        self._early = []
        if self._broke is not None:
            return
        if self._is_complete and self._keeps_alive and self._is_quiet():
            self._rest()
        elif self._has_enough and not self._is_complete:
            self._timer = self._loop.call_later(_LAST_BYTES_SECONDS, self.hang_up)
        else:
            self.hang_up()

    def hang_up(self) -> None:
        self._transport.abort()

    def _is_quiet(self) -> bool:
        """Whether it is open, and the provider has taken all of the request: some answer before they have."""
        return not self._transport.is_closing() and not self._transport.get_write_buffer_size()

    def _rest(self) -> None:
        """Wait to be used again."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(_IDLE_SECONDS, self.hang_up)
        self._owner.keep(self)

    def _break(self, error: Exception) -> None:
        """Nothing more will come."""
        if self._broke is not None or self._is_complete:
            return
        self._broke = error
        for waiter in (self._answer, self._end):
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._is_complete:
            self.hang_up()  # nobody has asked for anything
            return
        self.has_answered = True
        if len(data) >= _MANY_BYTES:
            # uvloop would read on as long as there is something: let others have the loop.
            self._transport.pause_reading()
            self._loop.call_soon(self._resume)
        self._bytes_without_body += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._break(Disconnected(f"this is not HTTP: {error}"))
            self.hang_up()
        if self._bytes_without_body > _MAX_BYTES_WITHOUT_BODY:
            self._break(Disconnected("the answer's head, or its trailers, are too large"))
            self.hang_up()

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._owner.closed(self)
        self._break(exc if isinstance(exc, OSError) else Disconnected("the connection was closed"))

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._is_complete:  # nobody has asked for a second answer
            self._keeps_alive = False
            self.hang_up()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is None or self._answer.done():
            return  # a trailer
        if (wanted := name.lower()) in _WANTED_HEADERS:
            self._headers[wanted.decode("ascii")] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(self, status, self._headers))

    def on_body(self, part: bytes) -> None:
        self._bytes_without_body = 0
        if self._has_enough or self._is_complete:
            return
        if self._take is None:
            self._early.append(part)
            return
        try:
            self._has_enough = self._take(part)
        except Exception as error:  # it goes to whoever reads
            self._has_enough = True
            self._break(error)
            self.hang_up()
            return
        if self._has_enough:
            self._finish()

    def on_message_complete(self) -> None:
        if self._is_complete:
            return
        if self._parser.get_status_code() < 200:
            self._headers = {}  # an interim response; the answer follows (RFC 9110, 15.2)
            return
        self._is_complete = True
        self._keeps_alive = self._parser.should_keep_alive()
        self._finish()
        if self._has_enough and self._take is None:  # let go of already
            self.let_go()

    def _finish(self) -> None:
        if self._end is not None and not self._end.done():
            self._end.set_result(None)


def _request(
    target: SplitResult, body: Sequence[bytes], headers: Mapping[str, str], proxy: str | None
) -> Sequence[bytes]:
    """The request as it goes over the wire; a proxy that forwards it is told the whole address (RFC 9112, 3.2.2)."""
    host = target.netloc.rpartition("@")[2]
    path = f"{target.path or '/'}{f'?{target.query}' if target.query else ''}"
    lines = [
        f"POST {path if proxy is None else f'{target.scheme}://{host}{path}'} HTTP/1.1",
        f"host: {host}",
        *(f"{name}: {value}" for name, value in headers.items()),
        *(proxy_authorization(urlsplit(proxy)) if proxy else ()),
        f"content-length: {sum(map(len, body))}",
    ]
    if any(char in line for line in lines for char in "\r\n\0"):
        raise ValueError("a header must not hold a line break or NUL")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return [head + body[0]] if len(body) == 1 else [head, *body]
