"""Models of providers that speak OpenAI's chat-completions stream: read from the socket, without litellm between."""

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import cast
from urllib.parse import urljoin, urlsplit

import orjson
from aiohttp import ClientError, ClientResponse
from anyio import move_on_after

from app.errors import ModelError, ProviderError, ProviderRejected, ProviderUnreachable, UpstreamTruncated
from app.llm.base import Delta, ModelCall, Opened
from app.llm.chat_stream import ChatStream
from app.llm.connections import Connections
from app.llm.refusals import first_words, refused, retry_after_seconds
from app.swarm.conversation import ChatMessage
from app.swarm.models import ChatEndpoint

logger = logging.getLogger(__name__)

_MAX_REDIRECTS = 3
_MAX_REFUSAL_BYTES = 4096
_REFUSAL_SECONDS = 1.0
"""How long we wait for what a provider says when it refuses: the words are only for our log."""
_LAST_BYTES_SECONDS = 0.05
"""How long we wait for the end of an answer that is complete, so that its connection can be used again."""

_BROKEN = (ClientError, OSError)
"""What aiohttp raises when a connection cannot be made, or breaks."""


class DirectModel:
    """Posts to a model's `ChatEndpoint` and passes on what its stream says.

    A key goes to the endpoint's own origin only: redirects elsewhere are refused.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._connections: Connections | None = None

    async def ready(self) -> None:
        if self._connections is None:
            self._connections = Connections(self._environ)

    async def close(self) -> None:
        """Close the connections that are kept for reuse."""
        if self._connections is not None:
            await self._connections.close()
            self._connections = None

    async def stream(self, call: ModelCall) -> AsyncGenerator[Sequence[Delta]]:
        await self.ready()
        response = await self._open(call)
        stream = ChatStream()
        try:
            yield (Opened(),)
            read = response.content.readany
            while not stream.done and (received := await read()):
                if deltas := stream.feed(received):
                    yield deltas
                if stream.failure is not None:
                    raise stream.failure
            if not stream.finished:
                raise _unfinished(response)
            await _release(response)
        except ModelError as error:
            _log(call, error, error)
            raise
        except _BROKEN as error:
            if not stream.finished:
                failure = UpstreamTruncated("the connection to the provider broke in the middle of its answer")
                _log(call, failure, error)
                raise failure from error
        finally:
            response.close()

    async def _open(self, call: ModelCall) -> ClientResponse:
        """The provider's answer, once it has begun and promises a stream."""
        endpoint = call.model.endpoint
        assert endpoint is not None, "the registry gives every direct model an endpoint"
        try:
            response = await self._post(endpoint, _body(endpoint, call))
        except _BROKEN as error:
            failure = ProviderUnreachable("the provider could not be reached")
            _log(call, failure, error)
            raise failure from error
        if 200 <= response.status < 300:
            return response
        try:
            failure = _refusal(response)
            _log(call, failure, await _words(response))
            raise failure
        finally:
            response.close()

    async def _post(self, endpoint: ChatEndpoint, body: bytes) -> ClientResponse:
        """The answer; one that says that the same origin has it at another address is followed (RFC 9110, 15.4)."""
        assert self._connections is not None
        url = endpoint.url
        headers = self._headers(endpoint)
        for _ in range(_MAX_REDIRECTS):
            response = await self._connections.post(url, body, headers)
            if response.status not in (307, 308):
                return response
            elsewhere = urljoin(url, response.headers.get("location", ""))
            if urlsplit(elsewhere)[:2] != urlsplit(url)[:2]:
                return response
            response.close()
            url = elsewhere
        return await self._connections.post(url, body, headers)

    def _headers(self, endpoint: ChatEndpoint) -> dict[str, str]:
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream",
            # A compressed stream comes in blocks.
            "accept-encoding": "identity",
            "user-agent": "swarmstream",
            **dict(endpoint.headers),
        }
        if endpoint.key_env is not None:
            key = self._environ[endpoint.key_env]
            headers[endpoint.key_header] = f"Bearer {key}" if endpoint.key_header == "authorization" else key
        return headers


def _body(endpoint: ChatEndpoint, call: ModelCall) -> bytes:
    fields = call.sampling.fields(call.model)
    for name, theirs in endpoint.renames:
        if name in fields:
            fields[theirs] = fields.pop(name)
    messages = [_plain(message) for message in call.messages]
    return orjson.dumps(
        {"model": endpoint.model, "messages": messages, "stream": True, **dict(endpoint.extra), **fields}
    )


def _plain(message: ChatMessage) -> ChatMessage:
    """The message as every provider takes it: OpenAI's own take the newer forms, and the older as well."""
    role, content = message["role"], message.get("content")
    if isinstance(content, list) and all(part.get("type") == "text" for part in cast(list[ChatMessage], content)):
        content = "".join(part["text"] for part in cast(list[ChatMessage], content))
    elif role != "developer":
        return message
    return {**message, "role": "system" if role == "developer" else role, "content": content}


def _refusal(response: ClientResponse) -> ModelError:
    if 300 <= response.status < 400:
        return ProviderRejected(f"the provider sent us elsewhere, where its key must not go (HTTP {response.status})")
    return refused(response.status, retry_after_seconds(response.headers.get("retry-after", "")))


async def _words(response: ClientResponse) -> str:
    """What a provider says when it refuses, as far as it comes at once."""
    words = b""
    with move_on_after(_REFUSAL_SECONDS):
        try:
            while len(words) < _MAX_REFUSAL_BYTES and (more := await response.content.readany()):
                words += more
        except _BROKEN:
            logger.debug("the provider hung up while it refused")
    return words[:_MAX_REFUSAL_BYTES].decode(errors="replace")


def _unfinished(response: ClientResponse) -> ModelError:
    if "event-stream" not in response.headers.get("content-type", "event-stream"):
        return ProviderError("the provider answered with something that is no stream of tokens")
    return UpstreamTruncated("the provider's answer was cut off")


async def _release(response: ClientResponse) -> None:
    """Take the end of a complete answer; its connection can then be used again."""
    if not response.content.at_eof():
        with move_on_after(_LAST_BYTES_SECONDS):
            await response.content.readany()
    if response.content.at_eof():
        response.release()


def _log(call: ModelCall, failure: ModelError, cause: object) -> None:
    logger.warning("model %s: %s: %s", call.model.target, failure.code, first_words(cause))
