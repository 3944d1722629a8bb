"""A provider that costs next to nothing: OpenAI's chat-completions stream, everything constant rendered beforehand.

The model's name says what it answers: `burst-2000` (so many tokens at once), `paced-200-50` (200 tokens, 50 a second),
`silent` (one token, then nothing for two minutes), `tools-2000` (so many tokens at once and a call of the calculator,
then as many again). Every token is its own HTTP chunk, as OpenAI sends them.
"""

import asyncio
import json
import re
import sys
from collections.abc import Callable
from typing import Any, cast

import uvloop
from tokens import STAMP_LENGTH, now, stamp

SILENT_SECONDS = 120.0

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model": ?"(?:openai/)?(burst|paced|silent|tools)(?:-(\d+))?(?:-(\d+))?"')

_HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Sun, 01 Nov 2026 12:00:00 GMT\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\nconnection: keep-alive\r\ncache-control: no-cache\r\nopenai-version: 2020-10-01\r\n"
    b"openai-processing-ms: 12\r\nx-request-id: req_0123456789abcdef0123456789abcdef\r\nserver: benchmark\r\n\r\n"
)


def token_lines(count: int) -> bytes:
    """Render a number of tokens as the stream has them, without HTTP's chunks around them."""
    return _BARE_TOKEN * count


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def _event(choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> bytes:
    fields = {
        "id": "chatcmpl-CXw6xE0PkTqvAdZt3yPgNfRHJ5mK2",
        "object": "chat.completion.chunk",
        "created": 1793534400,
        "model": "gpt-4.1-mini-2025-04-14",
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
        "choices": choices,
        "usage": usage,
    }
    return _chunk(b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n")


def _delta(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    return _event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}])


_OPENING = _HEAD + _delta({"role": "assistant", "content": "", "refusal": None})
_BEFORE_STAMP, _AFTER_STAMP = _delta({"content": "0" * STAMP_LENGTH + " "}).split(b"0" * STAMP_LENGTH)
_BARE_TOKEN = (_BEFORE_STAMP + b"0" * STAMP_LENGTH + _AFTER_STAMP).partition(b"\r\n")[2][:-2]
_FINISH = _delta({}, "stop")
_SUM = {"name": "calculator", "arguments": '{"expression": "17 + 25"}'}
_CALLING = _delta({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": _SUM}]})
_CALLED = _delta({}, "tool_calls")
_CLOSING = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _token() -> bytes:
    return _BEFORE_STAMP + stamp(now()) + _AFTER_STAMP


def _tokens(count: int) -> bytes:
    """Render tokens to be sent at once. Each differs from the last: litellm takes a hundred alike for a stuck model."""
    earlier, later = stamp(now() - 1), stamp(now())
    stamps = [earlier, later] * (count // 2) + [later] * (count % 2)
    return _BEFORE_STAMP + (_AFTER_STAMP + _BEFORE_STAMP).join(stamps) + _AFTER_STAMP


def _ending(count: int, request: bytes, finish: bytes = _FINISH) -> bytes:
    """Render the end of an answer, with usage if that was asked for."""
    if b'"include_usage"' not in request:
        return finish + _CLOSING
    usage = {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": 9 + count}
    return finish + _event([], usage) + _CLOSING


class Connection(asyncio.Protocol):
    """A client's connection, which takes one request after the other."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not blank or (length and len(body) < int(length[1])):
            return
        self._received = b""
        self._answer(body)

    def _answer(self, request: bytes) -> None:
        asked = _MODEL.search(request)
        if asked is None:
            self._transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        kind, count, rate = asked[1], int(asked[2] or 1), int(asked[3] or 1)
        if kind == b"burst":
            self._transport.write(_OPENING + _tokens(count) + _ending(count, request))
        elif kind == b"tools":
            is_first = b'"role":"tool"' not in request
            ending = _CALLING + _ending(count, request, _CALLED) if is_first else _ending(count, request)
            self._transport.write(_OPENING + _tokens(count) + ending)
        elif kind == b"paced":
            self._transport.write(_OPENING)
            self._pace(count, 1 / rate, _ending(count, request))
        else:
            self._transport.write(_OPENING + _token())
            self._timer = self._loop.call_later(SILENT_SECONDS, self._transport.write, _ending(1, request))

    def _pace(self, count: int, interval: float, ending: bytes) -> None:
        """Send a token now and one every `interval` seconds by the clock; a late one does not delay the others."""
        write, call_at = self._transport.write, self._loop.call_at
        left, due = count, self._loop.time()

        def speak() -> None:
            nonlocal left, due
            left -= 1
            if left:
                write(_token())
                due += interval
                self._timer = call_at(due, speak)
            else:
                write(_token() + ending)

        speak()


async def serve(tell: Callable[[str], None]) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=2048)
    tell(json.dumps({"port": server.sockets[0].getsockname()[1]}))
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(lambda line: print(line, flush=True)))
