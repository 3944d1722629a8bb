"""The bare relay: a provider's tokens in, one frame each out, and nothing else. It is what others are measured against.

No journal, no agents, no validation, no heartbeat, no answer to a client that leaves: nobody should run this.
"""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import ClientSession, ClientTimeout, TCPConnector

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_URL = os.environ.get("OPENAI_BASE_URL", "") + "/chat/completions"
_SENT = {"content-type": "application/json", "authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"}
_START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")],
}
_END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


class Relay:
    """An ASGI application around one session with the provider."""

    _session: ClientSession

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["method"] == "POST":
            await self._relay(await _body(receive), send)
        else:
            await send(_START)
            await send(_END)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with _session() as self._session:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _relay(self, body: bytes, send: Send) -> None:
        async with self._session.post(_URL, data=body, headers=_SENT) as answer:
            await send(_START)
            rest = b""
            while read := await answer.content.readany():
                *lines, rest = (rest + read).split(b"\n")
                if frames := b"".join(_frames(lines)):
                    await send({"type": "http.response.body", "body": frames, "more_body": True})
        await send(_END)


def _frames(lines: list[bytes]) -> Iterator[bytes]:
    for line in lines:
        if line.startswith(b"data: {"):
            choices = orjson.loads(line[6:])["choices"]
            if choices and (content := choices[0]["delta"].get("content")):
                yield b'event: chunk\ndata: {"content":%b}\n\n' % orjson.dumps(content)


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            return body


@asynccontextmanager
async def _session() -> AsyncGenerator[ClientSession]:
    async with ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=None)) as session:
        yield session


app = Relay()
