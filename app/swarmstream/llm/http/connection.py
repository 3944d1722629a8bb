"""Connections to providers: HTTP/1.1 whose bodies reach their reader in the very call that brings the bytes.

Reading a stream through futures wakes a task for each token, which costs more than everything else that is done with
it. So the event loop calls `Connection.data_received`, that the parser, the parser `Exchange.on_body`, and that the
reader.

Theory of operation. A connection serves one exchange (`swarmstream.llm.http.exchange`) at a time.

    state          meaning                               leaves for
    IDLE           no exchange; kept in the pool         AWAITING_HEAD: a request is sent
    AWAITING_HEAD  a request is out, no head yet         BODY: the head is there (interim ones, 1xx, are skipped)
    BODY           the caller has the head, may read     COMPLETE: the body's end
                                                         DRAINING: closed by a reader that has enough
    DRAINING       nobody reads; the end is near         IDLE: the body's end comes within `_DRAIN_SECONDS`
    COMPLETE       all has come, not closed yet          IDLE: closed, if the connection can be used again
    CLOSED         nothing will come                     (final)

Every state but COMPLETE becomes CLOSED when the connection breaks, and whoever waits gets the error. In COMPLETE the
response is whole, so that a break is no error; it only keeps the connection from being used again.

A connection becomes IDLE only after a complete response whose protocol allows reuse (no `Connection: close`, not plain
HTTP/1.0), if the provider has taken the whole request and has sent nothing behind the response. Bytes that arrive while
it is IDLE close it. It stays for `_IDLE_SECONDS`. In all other cases closing a response hangs up: that is how a
provider learns that it need not go on generating.

A connection that has ended is freed with its last user, not by the garbage collector: nothing that refers to it is
referred to by it. So a parser lives as long as its exchange, and a future as long as somebody awaits it. A traceback
keeps its frames with all their variables, and an exception may be part of a cycle that is not ours (anyio makes one for
each cancelled task). So no frame that an exception passes through has a connection among its variables at its end.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

from swarmstream.clock import Clock, Timer
from swarmstream.llm.http.exchange import MAX_BYTES_WITHOUT_BODY, Exchange, Response, State
from swarmstream.llm.http.proxy import Disconnected

_IDLE_SECONDS = 60.0
_DRAIN_SECONDS = 1.0
_MANY_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class Route:
    """Where a connection leads; those of one route are interchangeable."""

    scheme: str
    host: str
    port: int
    proxy: str | None


class Owner(Protocol):
    """The pool, which its connections report to."""

    clock: Clock

    def opened(self, connection: "Connection") -> None: ...

    def keep(self, connection: "Connection") -> None:
        """Hand the connection out again, or hang up on it in the end."""
        ...

    def closed(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """A connection to a provider or a proxy. The event loop calls `connection_made`, `data_received`, …"""

    __slots__ = ("__weakref__", "_exchange", "_loop", "_owner", "_timer", "_transport", "has_received", "route")

    def __init__(self, owner: Owner, route: Route) -> None:
        self.route = route
        self.has_received = False
        """True if a byte of the present response has come."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._exchange: Exchange | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: Timer | None = None

    def send(self, request: Sequence[bytes]) -> "asyncio.Future[Response]":
        """Send a request; the future completes with the head of its response."""
        assert self._transport is not None
        self._hang_up_after(None)
        self.has_received = False
        head: asyncio.Future[Response] = self._loop.create_future()
        self._exchange = Exchange(self, head)
        self._transport.writelines(request)
        return head

    def release(self, *, reusable: bool) -> None:
        """End the exchange: keep the connection if it can be used again, else hang up."""
        transport = self._transport
        # Some providers answer before they have taken the whole request: then it is still on its way.
        if not reusable or transport is None or transport.is_closing() or transport.get_write_buffer_size():
            self.hang_up()
            return
        self._drop_exchange()
        self._hang_up_after(_IDLE_SECONDS)
        self._owner.keep(self)

    def drain(self) -> None:
        """Wait a moment for the last bytes of the response, then hang up."""
        self._hang_up_after(_DRAIN_SECONDS)

    def hang_up(self) -> None:
        """Close the socket at once."""
        if self._transport is not None:
            self._transport.abort()

    def _hang_up_after(self, seconds: float | None) -> None:
        """Set the timer anew; None stops it."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self._owner.clock.call_later(seconds, self.hang_up)

    def _drop_exchange(self) -> None:
        if self._exchange is not None:
            self._exchange.parser = None
            self._exchange = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None or (parser := exchange.parser) is None or exchange.state is State.COMPLETE:
            self.hang_up()  # nothing was asked for
            return
        self.has_received = True
        if len(data) >= _MANY_BYTES and self._transport is not None:
            # uvloop would read on as long as there is something: let others have the loop.
            self._transport.pause_reading()
            self._loop.call_soon(_resume, self._transport)
        exchange.bytes_without_body += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            exchange.fail(Disconnected(f"this is not HTTP: {error}"))
            self.hang_up()
        if exchange.bytes_without_body > MAX_BYTES_WITHOUT_BODY:
            exchange.fail(Disconnected("the answer's head, or its trailers, are too large"))
            self.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self._hang_up_after(None)
        self._owner.closed(self)
        if self._exchange is not None:
            self._exchange.fail(exc if isinstance(exc, OSError) else Disconnected("the connection was closed"))
        self._drop_exchange()
        self._transport = None


def _resume(transport: asyncio.Transport) -> None:
    if not transport.is_closing():
        transport.resume_reading()
