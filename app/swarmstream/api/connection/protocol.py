"""uvicorn's protocol of one client connection, with bounds on sizes and times.

uvicorn leaves such bounds to a proxy in front. They are added here:

- The parser is fed by `RequestBounds`, which limits heads, trailers and chunk extensions.
- One timer runs while a head is awaited; a `SendWatch` runs while the client does not take what it is sent.
- A refusal (431, 408, 400, 503) is followed by a half-close. What still comes is dropped until the client has read the
  refusal and closes: a full close would make the system reset the connection, and the refusal would be lost with it.
- An answer can be broken off so that its client notices: see `break_off`.

    state       ends with                          timer
    waiting     a whole head: answering            `head_seconds`; kept alive: uvicorn's, until the next first byte
    answering   the answer's last byte: waiting    `send_seconds` without a byte taken, while some wait to be sent
    refused     the client closes                  `_LINGER_SECONDS`

Once the connection is refused, evicted, broken off, lost, or has too many requests waiting, `_drops_input` is set:
nothing that comes reaches the parser any more.

Requests can be pipelined. uvicorn knows the newest one only, as `self.cycle`; `_answering` is the one whose answer is
under way. Where earlier answers are under way, a refusal is never written between them: the connection closes after
the last instead.
"""

import asyncio
import logging
from functools import partial
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from swarmstream.api.connection import socket_options
from swarmstream.api.connection.close_delimited import CloseDelimited
from swarmstream.api.connection.gate import ConnectionGate
from swarmstream.api.connection.request_bounds import RequestBounds
from swarmstream.api.connection.send_watch import SendWatch
from swarmstream.api.middleware import new_request_id
from swarmstream.api.problems import error_response
from swarmstream.api.streaming import BREAK_OFF
from swarmstream.clock import Timer
from swarmstream.errors import AppError, HeadTimeout, HeadTooLarge, InvalidRequest, Unavailable
from swarmstream.settings import ENV_PREFIX

logger = logging.getLogger(__package__)

_MAX_FIELDS = 100
_MAX_PIPELINED = 64
"""Requests that wait on one connection for the answer of an earlier one; at that many it is closed."""
_LINGER_SECONDS = 2.0
_FLUSH_SECONDS = 1.0
_FLUSH_CHECK_SECONDS = 0.02
_RETRY_AFTER_FULL_SECONDS = 5.0


def http_protocol(gate: ConnectionGate) -> type[asyncio.Protocol]:
    """Return the factory that uvicorn calls for each new connection."""
    return cast(type[asyncio.Protocol], partial(Connection, gate=gate))


class Connection(HttpToolsProtocol):
    """A client's connection, from its acceptance to its end."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        gate: ConnectionGate,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._gate = gate
        self._limits = gate.limits
        self._bounds = RequestBounds(gate.limits.max_head_bytes)
        self._extensions = {BREAK_OFF: self.break_off}
        self._answering: RequestResponseCycle | None = None
        self._close_delimited: CloseDelimited | None = None
        self._violation: AppError | None = None
        self._drops_input = False
        self._is_lost = False
        self._timer: Timer | None = None

    # Input

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._send_watch = SendWatch(transport, self._gate.clock, self._limits.send_seconds, self.reset)
        if self._gate.admit(len(self.connections)):
            self._gate.add_waiting(self)
            self._set_timer(self._limits.head_seconds, self._on_head_overdue)
        else:
            self.evict()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        at = 0
        while at < len(data) and not self._drops_input:
            began_in_head = self._bounds.in_head
            piece = self._bounds.next_piece(data, at)
            at += len(piece)
            self._feed(piece)
            if (violation := self._bounds.violation()) is not None:
                self._refuse(violation)
            elif began_in_head and len(self.pipeline) >= _MAX_PIPELINED:
                self._drops_input = True
                self.cycle.keep_alive = False
        if self._timer is None and self._is_idle() and not self._drops_input:
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
        self._bounds.on_head_complete()
        if self._timer is not None:
            self._stop_timer()
        self._gate.remove_waiting(self)

    def on_body(self, body: bytes) -> None:
        self._bounds.on_body(len(body))
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """Count a chunk; the parser calls this after each chunk's first line."""
        self._bounds.on_chunk_header()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._bounds.on_message_complete()

    # Output

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        if cycle.scope["http_version"] == "1.0":
            app = self._close_delimited = CloseDelimited(app, cycle, self.break_off)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        if self.transport.get_write_buffer_size():
            self._send_watch.start()
        super().on_response_complete()
        if self.timeout_keep_alive_task is None:
            return  # the next request has begun, or the connection closes
        self._gate.add_waiting(self)
        if self._bounds.head_bytes:
            self._unset_keepalive_if_required()
            self._set_timer(self._limits.head_seconds, self._on_head_overdue)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._send_watch.start()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._send_watch.stop()

    # End

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = self._drops_input = True
        self._gate.forget(self)
        self._stop_timer()
        if self._answering is not None and not self._answering.response_complete:
            # uvicorn does this for the newest request only, which is another one where several wait.
            _disconnect(self._answering)
        super().connection_lost(exc)
        self._send_watch.stop()

    def reset(self) -> None:
        """Close at once by a TCP reset; what is unsent is lost."""
        if not self._is_lost:
            socket_options.reset(self.transport)

    def abort(self) -> None:
        """Close at once."""
        self._gate.forget(self)
        self.transport.abort()

    def evict(self) -> None:
        """Close for want of room. A new connection is told so; on one that was kept alive, an answer that nobody asked
        for might be taken for the next request's."""
        self._drops_input = True
        if self._answering is None:
            self._answer_and_leave(Unavailable("the server is full", retry_after_seconds=_RETRY_AFTER_FULL_SECONDS))
        else:
            self.abort()

    def break_off(self) -> None:
        """Close before the end of the answer that is under way, once what was sent of it has gone.

        A client sees that the last chunk is missing. Where the body ends with the connection it would see nothing: the
        connection is reset, when the client's system has what was sent, or after `_FLUSH_SECONDS`.
        """
        if self._is_lost or self._answering is None:
            return
        _disconnect(self._answering)
        self._drops_input = True
        if self._close_delimited is not None and self._close_delimited.ends_with_connection:
            self._reset_when_acknowledged(self._gate.clock.now() + _FLUSH_SECONDS)
        else:
            self.transport.close()
            self._send_watch.start()

    def _reset_when_acknowledged(self, deadline: float) -> None:
        if self._gate.clock.now() >= deadline or not socket_options.unacknowledged_bytes(self.transport):
            self.reset()
        else:
            self._set_timer(_FLUSH_CHECK_SECONDS, self._reset_when_acknowledged, deadline)

    def _on_head_overdue(self) -> None:
        self._timer = None
        if self._bounds.in_head and self._bounds.head_bytes:
            limit = f"{self._limits.head_seconds:g} s ({ENV_PREFIX}HEAD_SECONDS)"
            self._refuse(HeadTimeout(f"the request's head did not arrive within {limit}"))
        else:
            self.transport.close()

    def _refuse(self, error: AppError) -> None:
        """Answer with the error and close. Where earlier answers are under way, the connection closes after them."""
        self._drops_input = True
        if not self._is_idle():
            if self._bounds.in_head or self.cycle is not self._answering or self.cycle.response_started:
                self.cycle.keep_alive = False
                return
            _disconnect(self.cycle)  # it is this request's own body that is wrong
        self._answer_and_leave(error if self._bounds.in_head or not self.cycle.response_complete else None)

    def _answer_and_leave(self, error: AppError | None) -> None:
        """Answer with the error, if there is a request to answer, and close once the client does."""
        self._gate.add_leaving(self)
        if error is not None:
            self._write(error)
        self.transport.write_eof()
        self._set_timer(_LINGER_SECONDS, self.abort)

    def _write(self, error: AppError) -> None:
        request_id = new_request_id()
        response = error_response(error, request_id)
        lines = [STATUS_LINE[error.status]]
        fields = [*self.server_state.default_headers, *response.raw_headers, (b"x-request-id", request_id.encode())]
        lines += [b"%b: %b\r\n" % field for field in fields if field[0] != b"connection"]
        self.transport.write(b"".join([*lines, b"connection: close\r\n\r\n", bytes(response.body)]))
        logger.info("refused a connection: %d %s [%s]", error.status, error.code, request_id)

    def _is_idle(self) -> bool:
        """Tell whether every request so far is answered."""
        return self._answering is None or self.cycle.response_complete

    def _set_timer(self, seconds: float, *call: Any) -> None:
        """Replace the timer, which runs while no answer is under way."""
        self._stop_timer()
        self._timer = self._gate.clock.call_later(seconds, *call)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _disconnect(cycle: RequestResponseCycle) -> None:
    """Have the app see that this request's client has gone."""
    cycle.disconnected = True
    cycle.message_event.set()
