"""Models of providers that speak OpenAI's chat-completions stream: read from the socket, without litellm between."""

import logging
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

from swarmstream.clock import SYSTEM_CLOCK, Clock, time_limit, utc
from swarmstream.errors import ModelError, ProviderError, ProviderRejected, ProviderUnreachable, UpstreamTruncated
from swarmstream.llm.base import ModelCall, OnDeltas, Opened, Repeated
from swarmstream.llm.http.exchange import Response
from swarmstream.llm.http.pool import ConnectionPool
from swarmstream.llm.http.status import first_line, retry_after_seconds, status_error
from swarmstream.llm.model_ref import ChatEndpoint
from swarmstream.llm.providers.openai_chat import ChatStream
from swarmstream.llm.providers.openai_chat_request import RequestBody, SharedMessages

logger = logging.getLogger(__name__)

_MAX_REDIRECTS = 3
_MAX_REFUSAL_BYTES = 4096
_REFUSAL_SECONDS = 1.0
"""How long we wait for what a provider says when it refuses: the words are for our log, and for the field they name."""


class DirectModel:
    """Posts to a model's `ChatEndpoint` and passes on what its stream says.

    A key goes to the endpoint's own origin only: redirects elsewhere are refused.
    """

    def __init__(self, environ: Mapping[str, str], clock: Clock = SYSTEM_CLOCK) -> None:
        self._environ = environ
        self._clock = clock
        self._connections: ConnectionPool | None = None
        self._shared = SharedMessages()

    async def ready(self) -> None:
        if self._connections is None:
            self._connections = ConnectionPool(self._environ, self._clock)

    async def close(self) -> None:
        """Close the connections that are kept for reuse."""
        if self._connections is not None:
            await self._connections.close()
            self._connections = None

    async def stream(self, call: ModelCall, on_deltas: OnDeltas) -> None:
        await self.ready()
        answer = await self._open(call, on_deltas)
        stream = ChatStream()

        def take(received: bytes) -> bool:
            if deltas := stream.feed(received):
                on_deltas(deltas)
            if stream.failure is not None:
                raise stream.failure
            return stream.done

        cause: OSError | None = None
        try:
            on_deltas((Opened(),))
            await answer.read(take)
        except ModelError as error:
            _log(call, error, error)
            raise
        except OSError as error:
            cause = error
        finally:
            answer.close()
        if not stream.finished:
            failure = _unfinished(answer)
            _log(call, failure, cause or failure)
            raise failure from cause

    async def _open(self, call: ModelCall, on_deltas: OnDeltas) -> Response:
        """The provider's answer, once it has begun and promises a stream."""
        endpoint = call.model.endpoint
        assert endpoint is not None, "the registry gives every direct model an endpoint"
        try:
            answer = await self._post(endpoint, self._body(endpoint, call), on_deltas)
        except (OSError, ValueError) as error:
            failure = ProviderUnreachable("the provider could not be reached")
            _log(call, failure, error)
            raise failure from error
        if 200 <= answer.status < 300 and answer.headers.get("content-encoding", "").lower() in ("", "identity"):
            return answer
        try:
            said = await _words(answer, self._clock)
            failure = _refusal(answer, said, self._clock)
            _log(call, failure, said or "without a word")
            raise failure
        finally:
            answer.close()

    def _body(self, endpoint: ChatEndpoint, call: ModelCall) -> RequestBody:
        fields = call.fields()
        for name, theirs in endpoint.renames:
            if name in fields:
                fields[theirs] = fields.pop(name)
        request = {"model": endpoint.model, "stream": True, **dict(endpoint.extra), **fields}
        return self._shared.encode(request, call.messages)

    async def _post(self, endpoint: ChatEndpoint, body: RequestBody, on_deltas: OnDeltas) -> Response:
        """The answer; one that says that the same origin has it at another address is followed (RFC 9110, 15.4)."""
        assert self._connections is not None

        def on_repeat() -> None:
            on_deltas((Repeated(),))

        url = endpoint.url
        headers = self._headers(endpoint)
        for _ in range(_MAX_REDIRECTS):
            answer = await self._connections.post(url, body.pieces, headers, on_repeat=on_repeat)
            if answer.status not in (307, 308):
                return answer
            elsewhere = _within_its_origin(url, answer.headers.get("location", ""))
            if elsewhere is None:
                return answer
            answer.close()
            url = elsewhere
        return await self._connections.post(url, body.pieces, headers, on_repeat=on_repeat)

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


def _within_its_origin(url: str, location: str) -> str | None:
    """Where a redirect leads; None if that is to another origin, or to nowhere."""
    try:
        elsewhere = urljoin(url, location)
        return elsewhere if urlsplit(elsewhere)[:2] == urlsplit(url)[:2] else None
    except ValueError:
        return None


def _refusal(answer: Response, said: str, clock: Clock) -> ModelError:
    if 200 <= answer.status < 300:
        return ProviderError("the provider compressed its answer, which we had asked it not to do")
    if 300 <= answer.status < 400:
        return ProviderRejected(f"the provider sent us elsewhere, where its key must not go (HTTP {answer.status})")
    return status_error(answer.status, retry_after_seconds(answer.headers.get("retry-after", ""), utc(clock)), said)


async def _words(answer: Response, clock: Clock) -> str:
    """What a provider says when it refuses, as far as it comes at once."""
    words = bytearray()

    def take(part: bytes) -> bool:
        words.extend(part)
        return len(words) >= _MAX_REFUSAL_BYTES

    with time_limit(clock, _REFUSAL_SECONDS):
        try:
            await answer.read(take)
        except OSError:
            logger.debug("the provider hung up while it refused")
    return words[:_MAX_REFUSAL_BYTES].decode(errors="replace")


def _unfinished(answer: Response) -> ModelError:
    if "event-stream" not in answer.headers.get("content-type", "event-stream").lower():
        return ProviderError("the provider answered with something that is no stream of tokens")
    return UpstreamTruncated("the provider's answer was cut off")


def _log(call: ModelCall, failure: ModelError, cause: object) -> None:
    logger.warning("model %s: %s: %s", call.model.target, failure.code, first_line(cause))
