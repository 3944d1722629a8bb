"""A request and its response, parsed as it arrives.

Parsing is llhttp's (httptools). `Exchange` is what the parser calls back; `Response` is what the caller holds.
`swarmstream.llm.http.connection` has the table of states.
"""

import asyncio
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Protocol

import httptools

MAX_BYTES_WITHOUT_BODY = 64 * 1024
"""Of a head, or of trailers: the parser keeps them until they are complete."""
_WANTED_HEADERS = {b"content-type", b"content-encoding", b"location", b"retry-after"}


class State(Enum):
    """States of an exchange; the table is in `swarmstream.llm.http.connection`."""

    AWAITING_HEAD = auto()
    BODY = auto()
    DRAINING = auto()
    COMPLETE = auto()
    CLOSED = auto()


class Carrier(Protocol):
    """The connection that an exchange uses."""

    def release(self, *, reusable: bool) -> None:
        """End the exchange: keep the connection if it can be used again, else hang up."""
        ...

    def drain(self) -> None:
        """Wait a moment for the last bytes, then hang up."""
        ...

    def hang_up(self) -> None:
        """Close the socket at once."""
        ...


class Response:
    """A provider's response from its head on. Its holder closes it."""

    def __init__(self, exchange: "Exchange", status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        """The few that the callers read, by lower-case name."""
        self._exchange: Exchange | None = exchange

    async def read(self, on_bytes: Callable[[bytes], bool]) -> None:
        """Pass each part of the body to `on_bytes` as it comes, until the end or until `on_bytes` returns True.

        Raises:
            OSError: the connection broke before the end.
            Exception: whatever `on_bytes` raises.
        """
        assert self._exchange is not None, "it is read before it is closed"
        await self._exchange.read(on_bytes)

    def close(self) -> None:
        """Let go of the connection.

        It is kept if the body is complete, or if its reader has returned True, as the end is near then; otherwise the
        provider is hung up on.
        """
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None


class _Body:
    """The parts of a body on their way to a reader, who may come later than they do."""

    __slots__ = ("_early", "_end", "_error", "_on_bytes", "has_enough", "has_failed")

    def __init__(self) -> None:
        self.has_enough = False
        """True once the reader wants no more."""
        self.has_failed = False
        """True once the reader raised."""
        self._on_bytes: Callable[[bytes], bool] | None = None
        self._end: asyncio.Future[None] | None = None
        self._early: list[bytes] = []
        """Parts that came before the reader."""
        self._error: Exception | None = None
        """The end of a body that nobody was reading just then."""

    def read(self, on_bytes: Callable[[bytes], bool]) -> "asyncio.Future[None]":
        """Begin to pass the body on, from its first part; the future completes at its end."""
        self._on_bytes = on_bytes
        end = self._end = asyncio.get_running_loop().create_future()
        early, self._early = self._early, []
        for part in early:
            if not end.done():
                self.add(part)
        if self._error is not None:
            self.finish(self._error)
        return end

    def add(self, part: bytes) -> None:
        """Pass a part on, or keep it until somebody reads."""
        if self._on_bytes is None:
            self._early.append(part)
            return
        try:
            self.has_enough = self._on_bytes(part)
        except Exception as error:  # it goes to the reader, without this frame
            self.has_enough = self.has_failed = True
            self.finish(error.with_traceback(error.__traceback__ and error.__traceback__.tb_next))
        else:
            if self.has_enough:
                self.finish()

    def finish(self, error: Exception | None = None) -> None:
        """End the reader's wait. An error that finds no reader is kept for the next one."""
        end, self._end = self._end, None
        if end is None or end.done():
            self._error = error
        elif error is None:
            end.set_result(None)
        else:
            self._error = None
            end.set_exception(error)

    def drop(self) -> None:
        """Forget the reader, and all that it has not read."""
        self._on_bytes = self._end = self._error = None
        self._early = []


class Exchange:
    """A request and its response. The parser calls the methods `on_…`."""

    __slots__ = ("_body", "_carrier", "_head", "_headers", "_keeps_alive", "bytes_without_body", "parser", "state")

    def __init__(self, carrier: Carrier, head: "asyncio.Future[Response]") -> None:
        self.state = State.AWAITING_HEAD
        self.bytes_without_body = 0
        self.parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        """The connection feeds it, and takes it away at the end: it refers to this exchange."""
        self._carrier = carrier
        self._head: asyncio.Future[Response] | None = head
        self._headers: dict[str, str] = {}
        self._body = _Body()
        self._keeps_alive = False

    def read(self, on_bytes: Callable[[bytes], bool]) -> "asyncio.Future[None]":
        """Pass the body to `on_bytes`, from its beginning; the future completes at its end."""
        end = self._body.read(on_bytes)
        if self._body.has_failed:
            self._carrier.hang_up()
        elif self.state is State.COMPLETE:
            self._body.finish()
        return end

    def close(self) -> None:
        """Let go of the connection, as `Response.close` says."""
        self._body.drop()
        if self.state is State.COMPLETE:
            self._carrier.release(reusable=self._keeps_alive)
        elif self.state is State.BODY and self._body.has_enough:
            self.state = State.DRAINING
            self._carrier.drain()
        elif self.state is not State.CLOSED:
            self._carrier.hang_up()

    def fail(self, error: Exception) -> None:
        """Raise the error where somebody waits: nothing more will come."""
        before = self.state
        if before is State.COMPLETE:
            return
        self.state = State.CLOSED
        if before is State.AWAITING_HEAD:
            head, self._head = self._head, None
            if head is not None and not head.done():
                head.set_exception(error)
        elif before is State.BODY:
            self._body.finish(error)

    def on_message_begin(self) -> None:
        if self.state is not State.AWAITING_HEAD:  # a second response to one request
            self._keeps_alive = False
            self._carrier.hang_up()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state is not State.AWAITING_HEAD:
            return  # a trailer
        if (wanted := name.lower()) in _WANTED_HEADERS:
            self._headers[wanted.decode("ascii")] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self.parser is not None
        status = self.parser.get_status_code()
        if status >= 200 and self.state is State.AWAITING_HEAD:
            self.state = State.BODY
            head, self._head = self._head, None
            if head is not None and not head.done():
                head.set_result(Response(self, status, self._headers))

    def on_body(self, part: bytes) -> None:
        self.bytes_without_body = 0
        body = self._body
        if body.has_enough or self.state is not State.BODY:
            return
        body.add(part)
        if body.has_failed:
            self._carrier.hang_up()

    def on_message_complete(self) -> None:
        if self.state is State.AWAITING_HEAD:
            self._headers = {}  # an interim response; the final one follows (RFC 9110, 15.2)
        elif self.state in (State.BODY, State.DRAINING):
            assert self.parser is not None
            is_let_go, self.state = self.state is State.DRAINING, State.COMPLETE
            self._keeps_alive = self.parser.should_keep_alive()
            self._body.finish()
            if is_let_go:
                self.close()
