"""A run's events as a stream that follows the run while it goes on: Server-Sent Events or JSON lines."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from anyio.lowlevel import checkpoint
from sse_starlette import EventSourceResponse
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from swarmstream.api.heartbeat import Heartbeat
from swarmstream.clock import SYSTEM_CLOCK, Clock, sleep
from swarmstream.events import RunEnded, TextDelta
from swarmstream.journal.base import Cursor, HandedOver
from swarmstream.journal.records import Entry
from swarmstream.journal.summary import Summary
from swarmstream.wire.frame_encoder import FrameEncoder
from swarmstream.wire.framing import NDJSON, SSE, Framing, gap_frame
from swarmstream.wire.joining import join_deltas

BREAK_OFF = "swarmstream.break_off"
"""The extension of the ASGI scope by which an answer ends without its end, so that its client notices."""
_MANY_EVENTS = 64


def _nothing() -> None:
    pass


def framing_for(headers: Headers) -> Framing:
    """Return the framing that a client asks for. `application/json` is not negotiated on: the official SDK always
    sends it, also for streams."""
    return NDJSON if "application/x-ndjson" in headers.get("accept", "") else SSE


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """A place in a run, and the form in which its reader is sent what follows."""

    cursor: Cursor
    presence: Callable[[], AbstractContextManager[None]] = nullcontext
    """Entered while the reader is there: what the run's `on_disconnect` goes by."""
    after: int = 0
    """The last event that this reader has already; the cursor may stand before it."""
    include_output: bool = True
    coalesce_ms: int = 0
    first_available: int = 1
    """The first event that the log still has."""
    summary: Summary | None = None
    """Of the events before the cursor, at least; it belongs to this reader."""
    clock: Clock = SYSTEM_CLOCK


class RunStream(EventSourceResponse):
    """A run's events, each sent as soon as it is in the journal; those that wait leave in one write.

    sse-starlette gives this response its place in the framework, and nothing else. Its own way to send would cost some
    5 µs a write (an iterator, a timeout and a log record around each), its ping would be one more task a stream and
    end in an empty line, and when the server stops it would cut streams, which here end by an event or break off.
    """

    def __init__(
        self, options: ReadOptions, framing: Framing, *, heartbeat_seconds: float, headers: Mapping[str, str]
    ) -> None:
        # The parent's is not called: its iterator and its locks are for a stream of its own, and it forces
        # `Connection: keep-alive` even upon a client that asked for the contrary.
        self.status_code = 200
        self.background = None
        self.raw_headers = [
            (b"content-type", framing.media_type.encode("latin-1")),
            (b"cache-control", b"no-store, no-transform"),
            (b"x-accel-buffering", b"no"),
            *((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()),
        ]
        self._options = options
        self._framing = framing
        self._heartbeat_seconds = heartbeat_seconds
        self._client_is_gone = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._break_off = scope.get("extensions", {}).get(BREAK_OFF, _nothing)
        with self._options.presence():
            # Followed in a task of its own: each token that woke this one would go through all that stands around it.
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow(send), name="reader")
                await departure(receive)
                self._client_is_gone = True
                self._options.cursor.wake()

    async def _follow(self, send: Send) -> None:
        options, cursor = self._options, self._options.cursor
        encoder = FrameEncoder(
            self._framing, include_output=options.include_output, after=options.after, summary=options.summary
        )
        preamble = await self._begin(send)
        with Heartbeat(cursor, self._heartbeat_seconds, options.clock) as heartbeat:
            last, ended = 0, False
            while not (ended or self._client_is_gone):
                try:
                    entries = await cursor.read()
                except HandedOver:
                    self._break_off()  # the run goes on, elsewhere or later, and so may its reader
                    return
                if options.coalesce_ms and entries:
                    entries = await self._gather(entries)
                if not entries and heartbeat.is_due():
                    heartbeat.sending()
                    await send({"type": "http.response.body", "body": self._framing.heartbeat, "more_body": True})
                for block in encoder.encode(entries):
                    heartbeat.sending()
                    await send({"type": "http.response.body", "body": preamble + block, "more_body": True})
                    preamble = b""
                if entries:
                    last, ended = entries[-1][0], isinstance(entries[-1][1], RunEnded)
                if len(entries) >= _MANY_EVENTS:
                    # Perhaps more wait, and a send to a client that is gone does not: let the news of it be heard.
                    await checkpoint()
        if ended and options.after > last:
            self._break_off()  # it waited for events that never came: the run's end is not what it has read
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self, send: Send) -> bytes:
        """Send the head, and what is known to be missing; return what the first frame has to stand behind."""
        options, framing = self._options, self._framing
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if options.after + 1 >= options.first_available:
            return framing.preamble
        gap = gap_frame(framing, requested=options.after + 1, first_available=options.first_available)
        await send({"type": "http.response.body", "body": framing.preamble + gap, "more_body": True})
        return b""

    async def _gather(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return these entries and those of the next `coalesce_ms`, with neighbouring deltas joined."""
        options = self._options
        window = list(entries)
        if isinstance(window[-1][1], TextDelta):
            await sleep(options.clock, options.coalesce_ms / 1000)
            while more := options.cursor.read_nowait():
                window += more
        return join_deltas(window, after=options.after)


async def departure(receive: Receive) -> None:
    """Return when the client has gone, or the answer is complete (ASGI's `http.disconnect` is for both). The request's
    body has been read by now."""
    while (await receive())["type"] != "http.disconnect":
        pass
