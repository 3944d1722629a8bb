"""One client's connection: uvicorn's, with bounds on what it may send and on how long it may take.

uvicorn leaves both to a proxy in front. What is added, and where:

- A head (request line and header fields) is given to the parser piece by piece, never more of it than is allowed: the
  parser has no bound of its own and would keep it all. Its end is looked for here, so that a body in the same packet
  does not count. Of a body, all that `on_body` does not hand on counts: chunk extensions and trailers.
- A clock runs while a head is awaited, another one while the client does not take what it is sent.
- A refusal (431, 408, 400, 503) is followed by a half-close. What still comes is dropped until the client has read it
  and closes: an outright close would make the system reset the connection, and the refusal would be lost with it.
- An answer can be broken off so that its client knows: see `break_off`.

    state       ends with                            clock
    waiting     a whole head: answering              `head_seconds`; kept alive: uvicorn's, up to the next first byte
    answering   the answer's last byte: waiting      `send_seconds` without a byte taken, while some wait to be
    refused     the client closes                    `_LINGER_SECONDS`
"""

import asyncio
import logging
import socket
import struct
import sys
from collections.abc import Iterable
from functools import partial
from typing import Any, cast

import httptools
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from swarmstream.api.connection.gate import Gate
from swarmstream.api.middleware import new_request_id
from swarmstream.api.problems import refusal
from swarmstream.api.streaming import BREAK_OFF
from swarmstream.clock import Timer
from swarmstream.errors import AppError, HeadTimeout, HeadTooLarge, InvalidRequest, Unavailable
from swarmstream.settings import ENV_PREFIX

if sys.platform == "linux":
    import fcntl
    import termios

logger = logging.getLogger(__package__)

_MAX_FIELDS = 100
_MAX_PIPELINED = 64
"""Requests that wait on one connection for the answer of an earlier one; after those it is closed."""
_MAX_FRAMING_BYTES = 8192
"""Of one request: its trailers and chunk extensions."""
_LEAST_PIECE_BYTES = 512
_CHUNK_FRAMING_BYTES = 12
"""A chunk's size and two line ends: as much of each chunk is no extension."""
_LINGER_SECONDS = 2.0
_FLUSH_SECONDS = 1.0
_FLUSH_LOOK_SECONDS = 0.02
_RETRY_AFTER_FULL_SECONDS = 5.0
_RESET = struct.pack("ii", 1, 0)
"""`SO_LINGER`, on, for no time: closing discards what is unsent and tells the other side so."""


def http_protocol(gate: Gate) -> type[asyncio.Protocol]:
    """What uvicorn calls for each new connection."""
    return cast(type[asyncio.Protocol], partial(Connection, gate=gate))


def set_user_timeout(listeners: Iterable[socket.socket], seconds: float) -> None:
    """Have the system end accepted connections that acknowledge nothing for so long; they inherit it (Linux)."""
    if sys.platform == "linux":
        for listener in listeners:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(seconds * 1000)))


class Connection(HttpToolsProtocol):
    """One client's, from its acceptance to its end."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        gate: Gate,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._gate = gate
        self._limits = gate.limits
        self._extensions = {BREAK_OFF: self.break_off}
        self._answering: RequestResponseCycle | None = None
        self._in_head = True
        self._head_bytes = 0
        self._framing_bytes = 0
        self._violation: AppError | None = None
        self._is_deaf = False
        """Nothing more is read: what comes is dropped."""
        self._is_lost = False
        self._ends_the_body = False
        """Nothing but the connection's end tells where the answer's body ends."""
        self._timer: Timer | None = None
        self._send_timer: Timer | None = None
        self._unsent = 0

    # What comes in

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        if self._gate.has_room(len(self.connections)):
            self._gate.wait(self)
            self._set_timer(self._limits.head_seconds, self._on_head_overdue)
        else:
            self.make_room()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        at = 0
        while at < len(data) and not self._is_deaf:
            piece = self._allowed(data, at)
            at += len(piece)
            if self._in_head:
                self._head_bytes += len(piece)
                self._feed(piece)
                self._framing_bytes = 0
                if self._in_head and self._head_bytes >= self._limits.max_head_bytes:
                    words = f"the request's head is larger than {self._limits.max_head_bytes} bytes"
                    self._refuse(HeadTooLarge(f"{words} ({ENV_PREFIX}MAX_HEAD_BYTES)"))
                elif len(self.pipeline) >= _MAX_PIPELINED:
                    self._is_deaf = True
                    self.cycle.keep_alive = False
            else:
                self._framing_bytes += len(piece)
                self._feed(piece)
                self._framing_bytes = max(0, self._framing_bytes)
                if not self._in_head and self._framing_bytes > _MAX_FRAMING_BYTES:
                    words = f"trailers and chunk extensions are larger than {_MAX_FRAMING_BYTES} bytes"
                    self._refuse(HeadTooLarge(words))
        if self._timer is None and self._is_idle() and not self._is_deaf:
            # A head has begun, or the rest of a body comes whose request is answered already.
            self._set_timer(self._limits.head_seconds, self._on_head_overdue)

    def _feed(self, piece: bytes) -> None:
        assert self.parser is not None, "it goes when the connection is lost"
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            pass  # a server may ignore `Upgrade` (RFC 9110, section 7.8): what follows is the next request
        except httptools.HttpParserError:
            self._refuse(self._violation or InvalidRequest("this is no request of HTTP/1.1"))

    def _allowed(self, data: bytes, at: int) -> bytes:
        """The piece that the parser may have next."""
        if not self._in_head:
            # The whole rest of what is allowed, and a little beyond it: a piece that is too small would go on for ever.
            return data[at : at + max(_MAX_FRAMING_BYTES - self._framing_bytes, _LEAST_PIECE_BYTES)]
        end = data.find(b"\r\n\r\n", at) + 4
        most = at + self._limits.max_head_bytes - self._head_bytes
        return data[at : min(end if end > 3 else len(data), most)]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions  # pyright: ignore[reportGeneralTypeIssues]

    def on_headers_complete(self) -> None:
        if len(self.headers) > _MAX_FIELDS:
            # Raised in a callback, it stops the parser, which reports it as an error of its own.
            self._violation = HeadTooLarge(f"a request may have {_MAX_FIELDS} header fields")
            raise self._violation
        super().on_headers_complete()
        self.headers = []  # for trailers: the request's own are in its scope, and it may be under way
        self._in_head = False
        self._framing_bytes = 0
        if self._timer is not None:
            self._set_timer(None)
        self._gate.go_on(self)

    def on_body(self, body: bytes) -> None:
        self._framing_bytes -= len(body)
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """Called by the parser after each chunk's first line."""
        self._framing_bytes -= _CHUNK_FRAMING_BYTES

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True
        self._head_bytes = 0

    # What goes out

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        if cycle.scope["http_version"] == "1.0":
            app = self._without_chunks(cycle, app)
        super()._start_asgi_task(cycle, app)

    def _without_chunks(self, cycle: RequestResponseCycle, app: ASGIApp) -> ASGIApp:
        """The app for a client that knows no chunks (RFC 9112, section 7): where the length is not told, the
        connection's end is the body's."""

        async def until_close(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_whole(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self._ends_the_body = all(name.lower() != b"content-length" for name, _ in message["headers"])
                    if self._ends_the_body:
                        cycle.chunked_encoding = False
                elif self._ends_the_body:
                    cycle.expected_content_length = len(message.get("body", b""))
                await send(message)

            try:
                await app(scope, receive, send_whole)
            finally:
                if self._ends_the_body and not cycle.response_complete:
                    self.break_off()

        return until_close

    def on_response_complete(self) -> None:
        if self.transport.get_write_buffer_size():
            self._watch_sending()
        super().on_response_complete()
        if self.timeout_keep_alive_task is None:
            return  # the next request has begun, or the connection closes
        self._gate.wait(self)
        if self._head_bytes:
            self._unset_keepalive_if_required()
            self._set_timer(self._limits.head_seconds, self._on_head_overdue)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_sending()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _watch_sending(self) -> None:
        """Let the client go unless it takes some of what waits for it within `send_seconds`, and again then."""
        if self._send_timer is not None:
            self._send_timer.cancel()
        self._unsent = self.transport.get_write_buffer_size()
        self._send_timer = self._gate.clock.call_later(self._limits.send_seconds, self._look_at_sending)

    def _look_at_sending(self) -> None:
        self._send_timer = None
        unsent = self.transport.get_write_buffer_size()
        if unsent >= self._unsent:
            self.reset()
        elif unsent:
            self._watch_sending()

    # How it ends

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = self._is_deaf = True
        self._gate.forget(self)
        self._set_timer(None)
        if self._answering is not None and not self._answering.response_complete:
            # uvicorn tells the newest request only, which is another one where several wait.
            self._abandon(self._answering)
        super().connection_lost(exc)
        if self._send_timer is not None:
            self._send_timer.cancel()

    def reset(self) -> None:
        """Close at once; what is unsent is lost, and the client's system knows it."""
        if not self._is_lost:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()

    def break_off(self) -> None:
        """End the answer that is under way without its end, once what was sent of it has gone.

        A client sees that the last chunk is missing. Where the body ends with the connection it would see nothing: the
        connection is reset, when the client's system has what was sent, or after `_FLUSH_SECONDS`.
        """
        if self._is_lost or self._answering is None:
            return
        self._abandon(self._answering)
        self._is_deaf = True
        if self._ends_the_body:
            self._reset_when_taken(self._gate.clock.now() + _FLUSH_SECONDS)
        else:
            self.transport.close()
            self._watch_sending()

    def _reset_when_taken(self, at_last: float) -> None:
        if self._gate.clock.now() >= at_last or not self._unacknowledged_bytes():
            self.reset()
        else:
            self._set_timer(_FLUSH_LOOK_SECONDS, self._reset_when_taken, at_last)

    def _unacknowledged_bytes(self) -> int:
        """What was sent and is not known to have reached the client's system. Elsewhere than on Linux only what has not
        left this process."""
        unsent = self.transport.get_write_buffer_size()
        if sys.platform == "linux":
            queue = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0" * 4)
            unsent += struct.unpack("i", queue)[0]
        return unsent

    def make_room(self) -> None:
        self._is_deaf = True
        if self._answering is None:
            self._say_and_leave(Unavailable("the server is full", retry_after_seconds=_RETRY_AFTER_FULL_SECONDS))
        else:
            self.hang_up()  # kept alive: an answer that nobody asked for might be taken for the next one's

    def hang_up(self) -> None:
        self._gate.forget(self)
        self.transport.abort()

    def _on_head_overdue(self) -> None:
        self._timer = None
        if self._in_head and self._head_bytes:
            seconds = self._limits.head_seconds
            words = f"the request's head did not arrive within {seconds:g} s ({ENV_PREFIX}HEAD_SECONDS)"
            self._refuse(HeadTimeout(words))
        else:
            self.transport.close()

    def _refuse(self, error: AppError) -> None:
        """Answer so and close. Where earlier answers are under way they come first, and the connection closes then."""
        self._is_deaf = True
        if not self._is_idle():
            if self._in_head or self.cycle is not self._answering or self.cycle.response_started:
                self.cycle.keep_alive = False
                return
            self._abandon(self.cycle)  # it is this request's own body that is wrong
        self._say_and_leave(error if self._in_head or not self.cycle.response_complete else None)

    def _say_and_leave(self, error: AppError | None) -> None:
        """Answer so, where there is something to answer, and close once the client does."""
        self._gate.leave(self)
        if error is not None:
            self._write(error)
        self.transport.write_eof()
        self._set_timer(_LINGER_SECONDS, self.hang_up)

    def _write(self, error: AppError) -> None:
        request_id = new_request_id()
        response = refusal(error, request_id)
        lines = [STATUS_LINE[error.status]]
        fields = [*self.server_state.default_headers, *response.raw_headers, (b"x-request-id", request_id.encode())]
        lines += [b"%b: %b\r\n" % field for field in fields if field[0] != b"connection"]
        self.transport.write(b"".join([*lines, b"connection: close\r\n\r\n", bytes(response.body)]))
        logger.info("refused a connection: %d %s [%s]", error.status, error.code, request_id)

    def _is_idle(self) -> bool:
        """All that was asked is answered."""
        return self._answering is None or self.cycle.response_complete

    def _abandon(self, cycle: RequestResponseCycle) -> None:
        """Have the app see that this request's client has gone."""
        cycle.disconnected = True
        cycle.message_event.set()

    def _set_timer(self, seconds: float | None, *call: Any) -> None:
        """The one that runs while no answer is made: `None` for none."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self._gate.clock.call_later(seconds, *call)
