"""A web server for images on loopback, and a fetcher that may read from it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.llm.image_fetcher import ImageFetcher
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.network.policy import NetworkPolicy

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
PNG_URL = "data:image/png;base64,iVBORw0KGgpwaWN0dXJl"

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


class ImageHost:
    """A web server for images, on loopback."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.port = 0
        self.asked: list[str] = []
        self.heads: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self._changed = anyio.Event()

    async def was_asked(self, count: int) -> None:
        """Wait until that many requests have come."""
        while len(self.asked) < count:
            await self._changed.wait()

    def url(self, path: str = "cat.png", host: str = "pictures.example") -> str:
        return f"http://{host}:{self.port}/{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            self.asked.append(head.split()[1])
            changed, self._changed = self._changed, anyio.Event()
            changed.set()
            await self.answer(head.split()[1], writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # we hung up
        finally:
            self.at_once -= 1
            writer.close()


def answering(body: bytes, *headers: str, status: str = "200 OK") -> Answer:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}", "connection: close", "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    return answer


@asynccontextmanager
async def image_host(answer: Answer) -> AsyncGenerator[ImageHost]:
    host = ImageHost(answer)
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    host.port = server.sockets[0].getsockname()[1]
    try:
        with anyio.fail_after(30):
            yield host
    finally:
        server.close()


def policy_leading_to(address: str, *allowed: str) -> NetworkPolicy:
    """Where every name leads to this address."""

    async def resolve(host: str, port: int) -> list[str]:
        return [address]

    return NetworkPolicy(AllowedHosts(allowed), resolve=resolve)


LOOPBACK_POLICY = policy_leading_to("127.0.0.1", "*", "127.0.0.1")
"""The one exception to "public addresses": where the tests' own hosts are."""


def fetcher(clock: Clock = SYSTEM_CLOCK) -> ImageFetcher:
    return ImageFetcher(LOOPBACK_POLICY, clock=clock)


def messages_with(*urls: str) -> list[dict[str, Any]]:
    parts = [{"type": "image_url", "image_url": {"url": url, "detail": "low"}} for url in urls]
    return [{"role": "system", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "?"}, *parts]}]
