"""A load client that costs next to nothing: it looks for tokens in the bytes of an answer, and parses nothing else.

It takes an order a line on standard input and answers each with a line of JSON.
"""

import asyncio
import gc
import json
import random
import re
import sys
import time
from dataclasses import dataclass, field
from typing import Any, cast

import tokens
import uvloop

_END = b"\r\n0\r\n\r\n"
_LONGEST_TOKEN = 160
"""Bytes of a frame up to the end of its stamp, at most."""
_ERRORS_TOLD = 5
_TAKE_IN_SECONDS = 0.1
_CATCH_UP_SECONDS = 1.0
_LOCATION = re.compile(rb"\r\nlocation: *(\S+)", re.IGNORECASE)


@dataclass(slots=True)
class Order:
    """A load: so many streams at once, each of them so many requests in a row."""

    port: int
    path: str
    headers: dict[str, str]
    body: str
    pattern: str
    tokens: int
    """Tokens that each answer must have."""
    streams: int = 1
    requests: int = 1
    spread_seconds: float = 0.0
    """The seconds within which streams begin, each at a random moment."""
    pause_seconds: float = 0.0
    """Pause between the requests of a stream."""
    readers: int = 0
    """Number of others that read the run of the first stream, from its beginning."""
    holds: bool = False
    """Leave the streams open once each has its tokens."""
    deadline_seconds: float = 120.0

    def reading(self, path: str) -> bytes:
        """Return the request of a reader."""
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\n{head}\r\n".encode()

    def request(self) -> bytes:
        body = self.body.encode()
        headers = {
            "host": f"127.0.0.1:{self.port}",
            "content-type": "application/json",
            "accept": "text/event-stream",
            **self.headers,
            "content-length": str(len(body)),
        }
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(slots=True)
class Totals:
    """The figures of a load."""

    tokens: int = 0
    answers: int = 0
    latencies_ms: list[float] = field(default_factory=list[float])
    firsts_ms: list[float] = field(default_factory=list[float])
    errors: list[str] = field(default_factory=list[str])


class Connection(asyncio.Protocol):
    """A connection to the server, for one request at a time."""

    def __init__(self, order: Order, tally: Totals, request: bytes | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self.location: asyncio.Future[str] = self._loop.create_future()
        """The path at which the run of a stream can be read."""
        self._request = request or order.request()
        self._expected = order.tokens
        self._holds = order.holds
        self._find = tokens.finder(order.pattern).finditer
        self._tally = tally
        self._answer: asyncio.Future[str | None]
        self._sent_ns = 0
        self._count = 0
        self._rest = b""
        self._in_head = True
        self.reusable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self) -> asyncio.Future[str | None]:
        """Send the request; the future has None at the answer's end, or an error."""
        self._answer = self._loop.create_future()
        self._count = 0
        self._rest = b""
        self._in_head = True
        self._sent_ns = time.monotonic_ns()
        self._transport.write(self._request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        now = tokens.now()
        read = self._rest + data
        if self._in_head:
            head, blank, read = read.partition(b"\r\n\r\n")
            if not blank:
                self._rest = head
                return
            self._in_head = False
            self._read_head(head, read)
        end = 0
        count = 0
        note = self._tally.latencies_ms.append
        for match in self._find(read):
            note(tokens.age_ms(now, match[1]))
            end = match.end()
            count += 1
        if count:
            if not self._count:
                self._tally.firsts_ms.append((time.monotonic_ns() - self._sent_ns) / 1e6)
            self._count += count
        self._rest = read[max(end, len(read) - _LONGEST_TOKEN) :]
        if self._rest.endswith(_END) or (self._holds and self._count >= self._expected):
            self._finish()

    def _read_head(self, head: bytes, body: bytes) -> None:
        if not head.startswith(b"HTTP/1.1 200 "):
            self._settle(f"{head.splitlines()[0].decode()}: {body[:200].decode(errors='replace')}")
        self.reusable = b"\r\nconnection: close" not in head.lower()
        if (found := _LOCATION.search(head)) and not self.location.done():
            self.location.set_result(found[1].decode())

    def _finish(self) -> None:
        self._tally.tokens += self._count
        if self._count == self._expected:
            self._tally.answers += 1
            self._settle(None)
        else:
            self._settle(f"an answer had {self._count} tokens, not {self._expected}")

    def _settle(self, error: str | None) -> None:
        if not self._answer.done():
            self._answer.set_result(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._settle(f"the connection was lost after {self._count} tokens")

    @property
    def is_open(self) -> bool:
        """True while its answer goes on."""
        return not self._transport.is_closing() and not self._rest.endswith(_END)

    def close(self) -> None:
        self._transport.abort()


class Client:
    """Carries out orders, and holds the streams that it was asked to leave open."""

    def __init__(self) -> None:
        self._held: list[Connection] = []

    async def read_together(self, order: Order) -> dict[str, Any]:
        """Load the server with a run and its readers, whose delays count once all have caught up with it."""
        own, tally = Totals(), Totals()
        began_cpu = time.process_time()
        first = await _connect(order, own)
        answers = [first.ask()]
        path = await first.location
        began = time.monotonic()
        readers = [await _connect(order, tally, order.reading(path)) for _ in range(order.readers)]
        answers += [reader.ask() for reader in readers]
        while len(tally.firsts_ms) < order.readers and not answers[0].done():  # noqa: ASYNC110  # they only count
            await asyncio.sleep(_TAKE_IN_SECONDS)
        await asyncio.sleep(_CATCH_UP_SECONDS)
        tally.latencies_ms.clear()
        await asyncio.wait(answers[:1], timeout=order.deadline_seconds)
        wall_seconds = time.monotonic() - began
        _, late = await asyncio.wait(answers, timeout=order.deadline_seconds)
        errors = ["a reader had not ended"] * len(late)
        errors += [error for answer in answers if answer.done() and (error := answer.result())]
        for connection in (first, *readers):
            connection.close()
        return {
            **_figures(tally, errors),
            "wall_seconds": wall_seconds,
            "last_start_seconds": 0.0,
            "cpu_seconds": time.process_time() - began_cpu,
        }

    async def carry_out(self, order: Order) -> dict[str, Any]:
        if order.readers:
            return await self.read_together(order)
        tally = Totals()
        moment = random.Random(1)
        starts = sorted(moment.uniform(0, order.spread_seconds) for _ in range(order.streams))
        began, began_cpu = time.monotonic(), time.process_time()
        streams = [asyncio.create_task(self._stream(order, tally, start)) for start in starts]
        _, late = await asyncio.wait(streams, timeout=order.deadline_seconds)
        wall_seconds, cpu_seconds = time.monotonic() - began, time.process_time() - began_cpu
        for stream in late:
            stream.cancel()
        if late:
            tally.errors.append(f"{len(late)} streams had not ended after {order.deadline_seconds:g} s")
            await asyncio.wait(late)
        return {
            **_figures(tally, tally.errors),
            "wall_seconds": wall_seconds,
            "last_start_seconds": starts[-1],
            "cpu_seconds": cpu_seconds,
        }

    async def _stream(self, order: Order, tally: Totals, start: float) -> None:
        await asyncio.sleep(start)
        connection: Connection | None = None
        try:
            for number in range(order.requests):
                if number and order.pause_seconds:
                    await asyncio.sleep(order.pause_seconds)
                if connection is None or not connection.reusable:
                    connection = await _connect(order, tally)
                if error := await connection.ask():
                    tally.errors.append(error)
                    connection.reusable = False
        except OSError as error:
            tally.errors.append(f"no connection: {error}")
        finally:
            if connection is not None:
                if order.holds:
                    self._held.append(connection)
                else:
                    connection.close()

    async def release(self) -> dict[str, Any]:
        """Hang up on the streams that are held; return how many of them were still open."""
        await asyncio.sleep(_TAKE_IN_SECONDS)
        open_streams = sum(connection.is_open for connection in self._held)
        for connection in self._held:
            connection.close()
        self._held.clear()
        return {"open": open_streams}


async def _connect(order: Order, tally: Totals, request: bytes | None = None) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(order, tally, request), "127.0.0.1", order.port)
    return connection


def _figures(tally: Totals, errors: list[str]) -> dict[str, Any]:
    return {
        "tokens": tally.tokens,
        "answers": tally.answers,
        "errors": len(errors),
        "error_texts": errors[:_ERRORS_TOLD],
        "latency_p50_ms": percentile(tally.latencies_ms, 0.5),
        "latency_p99_ms": percentile(tally.latencies_ms, 0.99),
        "first_token_p50_ms": percentile(tally.firsts_ms, 0.5),
    }


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0


def main() -> None:
    gc.freeze()
    client = Client()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            fields = json.loads(line)
            answer = client.carry_out(Order(**fields)) if fields else client.release()
            print(json.dumps(runner.run(answer)), flush=True)


if __name__ == "__main__":
    main()
