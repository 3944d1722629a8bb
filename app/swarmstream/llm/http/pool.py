"""Connections to providers: HTTP/1.1 in which a body goes on to its reader in the very call that brings it.

Reading a stream through futures wakes a task for each token, which costs more than all that is done with it. Parsing is
llhttp's (httptools), TLS and sockets are the event loop's. Connections are kept alive and used again, as many as there
are: a limit would queue calls silently.

Theory of operation. A connection serves one exchange at a time. Its state says who is owed something:

    state   what is going on                           leaves it for
    IDLE    nobody is owed anything; it is kept        HEAD: a request is sent
    HEAD    a request is out, no head yet              BODY: the head of an answer (interim ones, 1xx, are passed over)
    BODY    the head is with the caller, who may read  WHOLE: the body's end. TAIL: let go of, by one who has enough
    TAIL    nobody reads; the last bytes are awaited   IDLE: the body's end comes within `_LAST_BYTES_SECONDS`
    WHOLE   the answer is complete, not yet let go of  IDLE: let go of, if the connection has not broken meanwhile
    CLOSED  nothing will come                          (final; all but WHOLE lead here when the connection breaks)

It is kept for reuse (IDLE) only after a complete answer whose protocol allows it (`Connection: close`, HTTP/1.0), when
the provider has taken the whole request and has sent nothing behind the answer; whatever comes while it is IDLE closes
it. It is kept for `_IDLE_SECONDS`. In all other cases letting go of an answer hangs up: that is how a provider learns
that it need not go on generating.

A request is posted again in one case only: a connection that was kept broke before a byte of the answer came, and did
so within `REOPEN_SECONDS` of its reuse. Then it was most likely closed already, by a provider who keeps connections for
a shorter time than we do, when the request was sent (RFC 9112, 9.3.1). A provider who closes later may have worked on
it, so that is an ordinary failure. Most likely is not certain: whoever posts is told of the second request, and counts
it as an attempt.

A connection that has ended is gone with its last user, not when the garbage collector comes: nothing that refers to it
is referred to by it. So a parser lives as long as its exchange, and a future as long as somebody awaits it. And since a
traceback keeps its frames, with all that they know, and an exception may be part of a cycle that is not ours (anyio has
one for each task that is cancelled), no frame that an exception passes through knows a connection at the end.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from typing import cast
from urllib.parse import SplitResult, urlsplit

import certifi
import httptools

from swarmstream.clock import SYSTEM_CLOCK, Clock, Timer
from swarmstream.llm.http.proxy import PORTS, Disconnected, Proxies, Tunnel, proxy_authorization, read_proxy

REOPEN_SECONDS = 1.0
"""How soon after its reuse a kept connection has to break to have been closed before."""
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
        self._connection: _Connection | None = connection

    async def read(self, take: Callable[[bytes], bool]) -> None:
        """Hand each part of the body to `take` as it comes, until the end, or until `take` says that it has enough.

        Raises:
            OSError: the connection broke before the end; and whatever `take` raises.
        """
        assert self._connection is not None, "it is read before it is closed"
        await self._connection.pass_on(take)

    def close(self) -> None:
        """No more is wanted. The connection is kept if the answer is complete or its reader has had enough of it, for
        then the end is near; otherwise the provider is hung up on."""
        if self._connection is not None:
            self._connection.let_go()
            self._connection = None


class ConnectionPool:
    """Posts requests. Make it and use it in one event loop.

    TLS certificates are always verified, against `SSL_CERT_FILE` or `SSL_CERT_DIR` where they are set (OpenSSL), else
    against certifi's. Proxies are those of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    """

    def __init__(self, environ: Mapping[str, str], clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self._environ = environ
        self._proxies = Proxies(environ)
        self._idle: dict[_Route, list[_Connection]] = {}
        self._all: set[_Connection] = set()

    async def post(
        self,
        url: str,
        body: Sequence[bytes],
        headers: Mapping[str, str],
        *,
        repeating: Callable[[], object] = lambda: None,
    ) -> Answer:
        """The answer, as soon as its head is there; a redirect is an answer. The body's pieces are not copied here.

        `repeating` is called before the request is posted a second time, on a new connection, where a kept one proves
        to be closed (see above).

        Raises:
            OSError, ValueError: there is no answer.
        """
        target = urlsplit(url)
        proxy = self._proxies.of(target)
        route = _Route(target.scheme, target.hostname or "", target.port or PORTS[target.scheme], proxy)
        request = _request(target, body, headers, proxy if target.scheme == "http" else None)
        if idle := self._idle.get(route):
            connection = idle.pop()
            reused = self.clock.now()
            try:
                return await _exchange(connection, request)
            except OSError:
                if connection.has_answered or self.clock.now() - reused > REOPEN_SECONDS:
                    raise
            finally:
                del connection
            repeating()
        return await _exchange(await self._connect(route), request)

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


async def _exchange(connection: "_Connection", request: Sequence[bytes]) -> Answer:
    """Send a request; the answer, once its head is there."""
    try:
        return await connection.send(request)
    except BaseException:
        connection.hang_up()
        raise
    finally:
        del connection


class _State(Enum):
    """What a connection is about; the table is above."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    TAIL = auto()
    WHOLE = auto()
    CLOSED = auto()


class _Connection(asyncio.Protocol):
    """One connection: one exchange at a time, and idleness in between."""

    __slots__ = (
        "__weakref__",
        "_answer",
        "_broke",
        "_bytes_without_body",
        "_early",
        "_end",
        "_has_enough",
        "_headers",
        "_keeps_alive",
        "_loop",
        "_owner",
        "_parser",
        "_state",
        "_take",
        "_timer",
        "_transport",
        "has_answered",
        "route",
    )

    def __init__(self, owner: ConnectionPool, route: _Route) -> None:
        self.route = route
        self.has_answered = False
        """Whether a byte of the present answer has come."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._state = _State.IDLE
        self._transport: asyncio.Transport | None = None
        self._timer: Timer | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._headers: dict[str, str] = {}
        self._bytes_without_body = 0
        self._answer: asyncio.Future[Answer] | None = None
        self._end: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] | None = None
        self._early: list[bytes] = []
        """What has come of the body before anybody asked for it."""
        self._has_enough = False
        self._broke: Exception | None = None
        """What broke a body that nobody was reading just then."""
        self._keeps_alive = False

    # What its user calls.

    def send(self, request: Sequence[bytes]) -> "asyncio.Future[Answer]":
        """Send a request; what the answer will come through."""
        assert self._transport is not None
        self._stop_timer()
        self.has_answered = self._has_enough = False
        self._headers = {}
        self._bytes_without_body = 0
        self._parser = httptools.HttpResponseParser(self)
        self._state = _State.HEAD
        answer = self._answer = self._loop.create_future()
        self._transport.writelines(request)
        return answer

    def pass_on(self, take: Callable[[bytes], bool]) -> "asyncio.Future[None]":
        """Let `take` have the body, from its beginning; what its end will come through."""
        self._take = take
        end = self._end = self._loop.create_future()
        early, self._early = self._early, []
        for part in early:
            if not end.done():
                self._give(part)
        if self._broke is not None:
            self._finish(self._broke)
        elif self._state is _State.WHOLE:
            self._finish()
        return end

    def let_go(self) -> None:
        self._take = self._end = self._broke = None
        self._early = []
        if self._state is _State.CLOSED:
            return
        if self._state is _State.WHOLE and self._keeps_alive and self._is_quiet():
            self._rest()
        elif self._state is _State.BODY and self._has_enough:
            self._state = _State.TAIL
            self._timer = self._owner.clock.call_later(_LAST_BYTES_SECONDS, self.hang_up)
        else:
            self.hang_up()

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _is_quiet(self) -> bool:
        """Whether it is open, and the provider has taken all of the request: some answer before they have."""
        its = self._transport
        return its is not None and not its.is_closing() and not its.get_write_buffer_size()

    def _rest(self) -> None:
        """Wait to be used again."""
        self._stop_timer()
        self._state = _State.IDLE
        self._parser = None
        self._timer = self._owner.clock.call_later(_IDLE_SECONDS, self.hang_up)
        self._owner.keep(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _break(self, error: Exception) -> None:
        """Nothing more will come: whoever is owed something is told why."""
        owes = self._state
        if owes is _State.WHOLE:
            return
        self._state = _State.CLOSED
        if owes is _State.HEAD:
            answer, self._answer = self._answer, None
            if answer is not None and not answer.done():
                answer.set_exception(error)
        elif owes is _State.BODY:
            self._broke = error
            self._finish(error)

    def _finish(self, error: Exception | None = None) -> None:
        """Whoever reads need not wait any longer."""
        end, self._end = self._end, None
        if end is None or end.done():
            return
        if error is None:
            end.set_result(None)
        else:
            self._broke = None
            end.set_exception(error)

    def _give(self, part: bytes) -> None:
        """Let the reader have a part of the body."""
        assert self._take is not None
        try:
            self._has_enough = self._take(part)
        except Exception as error:  # it goes to whoever reads, without this frame
            self._has_enough = True
            self._finish(error.with_traceback(error.__traceback__ and error.__traceback__.tb_next))
            self.hang_up()
        else:
            if self._has_enough:
                self._finish()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self._state is _State.WHOLE:
            self.hang_up()  # nobody has asked for anything
            return
        self.has_answered = True
        if len(data) >= _MANY_BYTES and self._transport is not None:
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
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._owner.closed(self)
        self._break(exc if isinstance(exc, OSError) else Disconnected("the connection was closed"))
        self._transport = self._parser = None

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._state is not _State.HEAD:  # nobody has asked for a second answer
            self._keeps_alive = False
            self.hang_up()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._state is not _State.HEAD:
            return  # a trailer
        if (wanted := name.lower()) in _WANTED_HEADERS:
            self._headers[wanted.decode("ascii")] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status >= 200 and self._state is _State.HEAD:
            self._state = _State.BODY
            answer, self._answer = self._answer, None
            if answer is not None and not answer.done():
                answer.set_result(Answer(self, status, self._headers))

    def on_body(self, part: bytes) -> None:
        self._bytes_without_body = 0
        if self._has_enough or self._state is not _State.BODY:
            return
        if self._take is None:
            self._early.append(part)
        else:
            self._give(part)

    def on_message_complete(self) -> None:
        if self._state is _State.HEAD:
            self._headers = {}  # an interim response; the answer follows (RFC 9110, 15.2)
        elif self._state in (_State.BODY, _State.TAIL):
            assert self._parser is not None
            has_been_let_go, self._state = self._state is _State.TAIL, _State.WHOLE
            self._keeps_alive = self._parser.should_keep_alive()
            self._finish()
            if has_been_let_go:
                self.let_go()


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
