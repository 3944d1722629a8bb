"""Images that a provider wants as bytes: fetched from public addresses, bounded in size, time and number."""

import base64
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import anyio
import httpcore2
from anyio import Lock, Semaphore, to_thread

from swarmstream.clock import SYSTEM_CLOCK, Clock, Timer, time_limit
from swarmstream.errors import McpHostRefused, ProviderBusy, ProviderRejected, quote
from swarmstream.llm.images import image_format, is_web_url
from swarmstream.llm.messages import ChatMessage
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.network.checked import CheckedNetwork, default_tls
from swarmstream.network.host_port import parse_host_port
from swarmstream.network.policy import NetworkPolicy

MAX_IMAGE_BYTES: Final = 20 * 1024 * 1024
"""Of one image, and of all that are fetched for one call."""
FETCH_SECONDS: Final = 10.0
"""For one image, from the look-up of its host's name to its last byte."""
MAX_KEPT_BYTES: Final = 256 * 1024 * 1024
"""Of all images, encoded, that are in use or kept."""
KEEP_SECONDS: Final = 60.0
"""How long an image is kept after its last use: longer than any pause before a retry."""
_AT_ONCE: Final = 8
"""Fetches in this process."""
_AT_ONCE_FOR_A_CALL: Final = 3


class ImageFetcher:
    """Replaces the web URLs of images by their bytes, as data URLs.

    Clients choose these URLs. Names are resolved here and every address is checked, so that the address that was
    checked is the one that is connected to; redirects are not followed, proxies not used, and nothing of ours goes
    along. Calls that want an image at the same time, or shortly after one another (siblings, retries), share one fetch.
    """

    def __init__(
        self, policy: NetworkPolicy | None = None, *, max_kept_bytes: int = MAX_KEPT_BYTES, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        """`policy` tells where images may come from: by default every public address."""
        self._max_kept_bytes = max_kept_bytes
        self._policy = policy or NetworkPolicy(AllowedHosts(["*"]))
        self._clock = clock
        self._places = Semaphore(_AT_ONCE)
        self._images: dict[str, _Image] = {}
        self._kept_bytes = 0

    @asynccontextmanager
    async def inlined(self, messages: Sequence[ChatMessage]) -> AsyncGenerator[list[ChatMessage]]:
        """Yield the messages with the bytes of their images, which count as in use for the length of the block.

        Raises:
            ProviderRejected: an image cannot be had; the message names its host and why.
            ProviderBusy: calls under way hold too many images.
        """
        images = {url: self._use(url) for url in _web_urls(messages)}
        try:
            await self._fetch_all(images)
            yield [_inlined(message, images) for message in messages]
        finally:
            for image in images.values():
                self._release(image)

    async def _fetch_all(self, images: "dict[str, _Image]") -> None:
        places = Semaphore(_AT_ONCE_FOR_A_CALL)
        failures: list[ProviderRejected] = []
        left = MAX_IMAGE_BYTES

        async def fetch(image: _Image) -> None:
            nonlocal left
            try:
                async with places:
                    await self._fetch(image)
            except ProviderRejected as failure:
                failures.append(failure)
            left -= image.size
            if left < 0:
                failures.append(ProviderRejected(f"the images of one call are larger than {_MEBIBYTES} MiB together"))
            if failures:
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for image in images.values():
                tasks.start_soon(fetch, image)
        if failures:
            raise failures[0]

    def _use(self, url: str) -> "_Image":
        image = self._images.get(url)
        if image is None:
            image = self._images[url] = _Image(url)
        image.users += 1
        if image.timer is not None:
            image.timer.cancel()
            image.timer = None
        return image

    def _release(self, image: "_Image") -> None:
        image.users -= 1
        if image.users or self._images.get(image.url) is not image:
            return
        if image.data_url is None:
            del self._images[image.url]
        else:
            image.timer = self._clock.call_later(KEEP_SECONDS, self._forget, image)

    def _forget(self, image: "_Image") -> None:
        del self._images[image.url]
        self._kept_bytes -= len(image.data_url or "")

    async def _fetch(self, image: "_Image") -> None:
        """Fetch the image's bytes. Calls that come meanwhile wait, and share the result."""
        async with image.lock:
            if image.failure is not None:
                raise _copy(image.failure)
            if image.data_url is not None:
                return
            try:
                async with self._places:
                    content = await self._download(image.url)
                self._keep(image, content)
            except ProviderRejected as failure:
                image.failure = _copy(failure)
                if self._images.get(image.url) is image:
                    del self._images[image.url]  # the next call tries again
                raise

    def _keep(self, image: "_Image", content: bytes) -> None:
        kind = image_format(content)
        if kind is None:
            raise _refusal(image.url, "is no PNG, JPEG, GIF, WebP or BMP")
        data_url = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        for idle in [other for other in self._images.values() if other.timer is not None]:
            if self._kept_bytes + len(data_url) <= self._max_kept_bytes:
                break
            cast(Timer, idle.timer).cancel()
            self._forget(idle)
        if self._kept_bytes + len(data_url) > self._max_kept_bytes:
            raise ProviderBusy("this server holds too many images for other calls just now")
        self._kept_bytes += len(data_url)
        image.data_url, image.size = data_url, len(content)

    async def _download(self, url: str) -> bytes:
        try:
            self._policy.allowed.check_url(url)
            with time_limit(self._clock, FETCH_SECONDS) as limit:
                return await self._get(url)
        except McpHostRefused:
            raise _refusal(url, "is not at a public address, or its URL is not a plain one") from None
        except (OSError, httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
            raise _refusal(url, "could not be fetched: its host cannot be reached, or hung up") from error
        assert limit.cancelled_caught
        raise _refusal(url, f"did not come within {FETCH_SECONDS:g} s")

    async def _get(self, url: str) -> bytes:
        async with (
            httpcore2.AsyncConnectionPool(
                ssl_context=self._policy.tls or await to_thread.run_sync(default_tls),
                network_backend=CheckedNetwork(self._policy),
            ) as pool,
            pool.stream("GET", url, headers=_HEADERS) as answer,
        ):
            return await _body(answer, url)


class _Image:
    """The image at a URL: wanted, fetched or failed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.data_url: str | None = None
        self.size = 0
        """Of the image itself, in bytes."""
        self.failure: ProviderRejected | None = None
        self.users = 0
        self.lock = Lock()
        self.timer: Timer | None = None
        """Runs while it is kept without being used."""


_MEBIBYTES: Final = MAX_IMAGE_BYTES // 2**20
_HEADERS: Final = [("accept", "image/*"), ("accept-encoding", "identity"), ("user-agent", "swarmstream")]


async def _body(answer: httpcore2.Response, url: str) -> bytes:
    headers = {name.lower(): value for name, value in answer.headers}
    if 300 <= answer.status < 400:
        raise _refusal(url, "is somewhere else: its host redirects, and redirects are not followed")
    if answer.status != 200:
        raise _refusal(url, f"could not be fetched: its host answered with HTTP status {answer.status}")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise _refusal(url, "came compressed, which was not asked for")
    length = headers.get(b"content-length", b"")
    content = bytearray()
    if not (length.isdigit() and int(length) > MAX_IMAGE_BYTES):
        async for part in cast("AsyncIterator[bytes]", answer.aiter_stream()):
            content += part
            if len(content) > MAX_IMAGE_BYTES:
                break
        else:
            return bytes(content)
    raise _refusal(url, f"is larger than {_MEBIBYTES} MiB")


def _refusal(url: str, problem: str) -> ProviderRejected:
    return ProviderRejected(f"the image at {quote(_host(url))} {problem}")


def _copy(failure: ProviderRejected) -> ProviderRejected:
    """Copy the error for another call, without its traceback."""
    return type(failure)(failure.detail)


def _host(url: str) -> str:
    try:
        return str(parse_host_port(url))
    except McpHostRefused:
        return url.partition("//")[2].partition("/")[0].rpartition("@")[2]


def _web_urls(messages: Sequence[ChatMessage]) -> dict[str, None]:
    """Return the web URLs of the messages' images, each once, in their order."""
    return {url: None for message in messages for part in _parts(message) if (url := _web_url(part))}


def _inlined(message: ChatMessage, images: "dict[str, _Image]") -> ChatMessage:
    def replaced(part: dict[str, Any]) -> dict[str, Any]:
        url = _web_url(part)
        return {**part, "image_url": {**part["image_url"], "url": images[url].data_url}} if url else part

    return {**message, "content": [replaced(part) for part in parts]} if (parts := _parts(message)) else message


def _parts(message: ChatMessage) -> list[dict[str, Any]]:
    content = message.get("content")
    return cast("list[dict[str, Any]]", content) if isinstance(content, list) else []


def _web_url(part: dict[str, Any]) -> str | None:
    if part.get("type") != "image_url":
        return None
    url: str = part["image_url"]["url"]
    return url if is_web_url(url) else None
