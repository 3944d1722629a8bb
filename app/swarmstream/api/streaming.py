"""Answers that follow a run while it goes on: as Server-Sent Events, as JSON lines, as one JSON document."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass

import orjson
from anyio.lowlevel import checkpoint
from sse_starlette import EventSourceResponse
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from swarmstream.api.problems import failed_run_response, waiting_run_response
from swarmstream.clock import SYSTEM_CLOCK, Clock, sleep
from swarmstream.events import RunEnded, TextDelta
from swarmstream.journal.base import Cursor, HandedOver
from swarmstream.journal.records import Entry
from swarmstream.journal.summary import Summary
from swarmstream.wire import answers
from swarmstream.wire.framing import NDJSON, SSE, Framing, Rendering, gap, join_deltas

BREAK_OFF = "swarmstream.break_off"
"""The extension of the ASGI scope by which an answer ends without its end, so that its client notices."""
_MANY_EVENTS = 64


def _nothing() -> None:
    pass


def framing_for(headers: Headers) -> Framing:
    """How a client wants its stream laid out. `application/json` is not negotiated on: the official SDK always sends
    it, also for streams."""
    return NDJSON if "application/x-ndjson" in headers.get("accept", "") else SSE


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Somebody who reads a run from its first event on."""

    tail: Cursor
    presence: Callable[[], AbstractContextManager[None]] = nullcontext
    """Entered while the reader is there: what the run's `on_disconnect` goes by."""
    after: int = 0
    """The last event that this reader has already."""
    include_output: bool = True
    coalesce_ms: int = 0
    first_available: int = 1
    """The first event that the log still has."""
    summary: Summary | None = None
    """Of the events that it no longer has."""
    clock: Clock = SYSTEM_CLOCK


class RunStream(EventSourceResponse):
    """A run's events, each sent as soon as it is in the journal; those that wait leave in one write.

    Of sse-starlette's response it keeps the place in the framework; reading a journal needs neither its ping task nor
    its queue, and a drained server ends its runs by an event, not by cutting streams.
    """

    def __init__(
        self, reader: ReadOptions, framing: Framing, *, heartbeat_seconds: float, headers: Mapping[str, str]
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
        self._reader = reader
        self._framing = framing
        self._heartbeat_seconds = heartbeat_seconds
        self._client_is_gone = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._break_off = scope.get("extensions", {}).get(BREAK_OFF, _nothing)
        with self._reader.presence():
            # Followed in a task of its own: each token that woke this one would go through all that stands around it.
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow(send), name="reader")
                await _departure(receive)
                self._client_is_gone = True
                self._reader.tail.wake()

    async def _follow(self, send: Send) -> None:
        reader, framing, tail = self._reader, self._framing, self._reader.tail
        rendering = Rendering(framing, include_output=reader.include_output, after=reader.after, summary=reader.summary)
        preamble = framing.preamble
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if reader.after + 1 < reader.first_available:
            body = preamble + gap(framing, requested=reader.after + 1, first_available=reader.first_available)
            await send({"type": "http.response.body", "body": body, "more_body": True})
            preamble = b""
        with _Heartbeat(tail, self._heartbeat_seconds, reader.clock) as heart:
            last, ended = 0, False
            while not (ended or self._client_is_gone):
                try:
                    entries = await tail.read()
                except HandedOver:
                    self._break_off()  # the run goes on, elsewhere or later, and so may its reader
                    return
                if reader.coalesce_ms and entries:
                    entries = await self._gather(entries)
                if not entries and heart.is_due():
                    heart.beat()
                    await send({"type": "http.response.body", "body": framing.heartbeat, "more_body": True})
                for block in rendering.blocks(entries):
                    heart.beat()
                    await send({"type": "http.response.body", "body": preamble + block, "more_body": True})
                    preamble = b""
                if entries:
                    last, ended = entries[-1][0], isinstance(entries[-1][1], RunEnded)
                if len(entries) >= _MANY_EVENTS:
                    # Perhaps more wait, and a send to a client that is gone does not: let the news of it be heard.
                    await checkpoint()
        if ended and reader.after > last:
            self._break_off()  # it waited for events that never came: the run's end is not what it has read
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _gather(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """These and those of the next `coalesce_ms`, with neighbouring deltas joined."""
        reader = self._reader
        window = list(entries)
        if isinstance(window[-1][1], TextDelta):
            await sleep(reader.clock, reader.coalesce_ms / 1000)
            while more := reader.tail.read_nowait():
                window += more
        return join_deltas(window, after=reader.after)


class RunResponse(Response):
    """What a run came to, once it is over; the client waits."""

    def __init__(
        self,
        reader: ReadOptions,
        *,
        job_id: str,
        request_id: str,
        headers: Mapping[str, str],
        may_be_repeated: bool = False,
    ) -> None:
        """`may_be_repeated`: the request has an `Idempotency-Key`, so that sent again it is the same run."""
        super().__init__()
        self._job_id = job_id
        self._may_be_repeated = may_be_repeated
        self._reader = reader
        self._headers = headers
        self._request_id = request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._reader.presence():
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self._summarize(), name="reader")
                leaving = tasks.create_task(_departure(receive), name="client")
                await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
                leaving.cancel()
                if not reading.done():
                    reading.cancel()
                    return
        summary = reading.result()
        if summary.ended is None:
            response = waiting_run_response(self._job_id, self._request_id, may_be_repeated=self._may_be_repeated)
        else:
            response = self._document(summary)
        response.headers.update(self._headers)
        await response(scope, receive, send)

    async def _summarize(self) -> Summary:
        """Of all events, or of those until the run was suspended."""
        summary = Summary()
        with suppress(HandedOver):
            while summary.ended is None:
                for _, event in await self._reader.tail.read():
                    summary.observe(event)
        return summary

    def _document(self, summary: Summary) -> Response:
        assert summary.described is not None
        assert summary.ended is not None
        if summary.ended.status != "success":
            assert summary.failure is not None
            return failed_run_response(summary.failure, self._request_id, answers.so_far(summary))
        is_swarm = summary.described.kind == "swarm"
        answer = answers.swarm_answer(summary) if is_swarm else answers.agent_answer(summary)
        return Response(orjson.dumps(answer), media_type="application/json")


async def _departure(receive: Receive) -> None:
    """Returns when the client has gone, or the answer is complete (ASGI's `http.disconnect` is for both). The
    request's body has been read by now."""
    while (await receive())["type"] != "http.disconnect":
        pass


class _Heartbeat:
    """Wakes a waiting reader when nothing was sent for a while: one timer, not one a frame."""

    def __init__(self, tail: Cursor, seconds: float, clock: Clock) -> None:
        self._tail = tail
        self._seconds = seconds
        self._clock = clock
        self._now = clock.now
        self._last_beat = clock.now()

    def __enter__(self) -> "_Heartbeat":
        self._timer = self._clock.call_later(self._seconds, self._look)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def beat(self) -> None:
        """Something is being sent."""
        self._last_beat = self._now()

    def is_due(self) -> bool:
        return self._now() - self._last_beat >= self._seconds

    def _look(self) -> None:
        left = self._last_beat + self._seconds - self._now()
        if left <= 0:
            self._tail.wake()
            left = self._seconds
        self._timer = self._clock.call_later(left, self._look)
