"""The direct backend: providers that speak OpenAI's chat completions, called without litellm."""

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
"""A limit on reading the body of a refusal, which is for our log, and for the field that it names."""


class DirectModel:
    """Posts to a model's `ChatEndpoint` and passes on the deltas of its stream.

    A key goes to the endpoint's own origin only: redirects to others are refused.
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
        response = await self._open(call, on_deltas)
        stream = ChatStream()

        def on_bytes(received: bytes) -> bool:
            if deltas := stream.feed(received):
                on_deltas(deltas)
            if stream.failure is not None:
                raise stream.failure
            return stream.done

        cause: OSError | None = None
        try:
            on_deltas((Opened(),))
            await response.read(on_bytes)
        except ModelError as error:
            _log(call, error, error)
            raise
        except OSError as error:
            cause = error
        finally:
            response.close()
        if not stream.finished:
            failure = _unfinished(response)
            _log(call, failure, cause or failure)
            raise failure from cause

    async def _open(self, call: ModelCall, on_deltas: OnDeltas) -> Response:
        """Return the provider's response once its head promises a stream.

        Raises:
            ModelError: there is none, or it is a refusal.
        """
        endpoint = call.model.endpoint
        assert endpoint is not None, "the registry gives every direct model an endpoint"
        try:
            response = await self._post(endpoint, self._body(endpoint, call), on_deltas)
        except (OSError, ValueError) as error:
            failure = ProviderUnreachable("the provider could not be reached")
            _log(call, failure, error)
            raise failure from error
        if 200 <= response.status < 300 and response.headers.get("content-encoding", "").lower() in ("", "identity"):
            return response
        try:
            text = await _refusal_text(response, self._clock)
            failure = _refusal(response, text, self._clock)
            _log(call, failure, text or "without a word")
            raise failure
        finally:
            response.close()

    def _body(self, endpoint: ChatEndpoint, call: ModelCall) -> RequestBody:
        fields = call.fields()
        for name, renamed in endpoint.renames:
            if name in fields:
                fields[renamed] = fields.pop(name)
        request = {"model": endpoint.model, "stream": True, **dict(endpoint.extra), **fields}
        return self._shared.encode(request, call.messages)

    async def _post(self, endpoint: ChatEndpoint, body: RequestBody, on_deltas: OnDeltas) -> Response:
        """Return the response; redirects within the same origin are followed (RFC 9110, 15.4)."""
        assert self._connections is not None

        def on_repeat() -> None:
            on_deltas((Repeated(),))

        url = endpoint.url
        headers = self._headers(endpoint)
        for _ in range(_MAX_REDIRECTS):
            response = await self._connections.post(url, body.pieces, headers, on_repeat=on_repeat)
            if response.status not in (307, 308):
                return response
            target = _same_origin(url, response.headers.get("location", ""))
            if target is None:
                return response
            response.close()
            url = target
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


def _same_origin(url: str, location: str) -> str | None:
    """Return the address that a redirect leads to; None for another origin or an address that cannot be read."""
    try:
        target = urljoin(url, location)
        return target if urlsplit(target)[:2] == urlsplit(url)[:2] else None
    except ValueError:
        return None


def _refusal(response: Response, text: str, clock: Clock) -> ModelError:
    if 200 <= response.status < 300:
        return ProviderError("the provider compressed its answer, which we had asked it not to do")
    if 300 <= response.status < 400:
        return ProviderRejected(f"the provider sent us elsewhere, where its key must not go (HTTP {response.status})")
    return status_error(response.status, retry_after_seconds(response.headers.get("retry-after", ""), utc(clock)), text)


async def _refusal_text(response: Response, clock: Clock) -> str:
    """Return the beginning of a refusal's body, as far as it comes at once."""
    body = bytearray()

    def on_bytes(part: bytes) -> bool:
        body.extend(part)
        return len(body) >= _MAX_REFUSAL_BYTES

    with time_limit(clock, _REFUSAL_SECONDS):
        try:
            await response.read(on_bytes)
        except OSError:
            logger.debug("the provider hung up while it refused")
    return body[:_MAX_REFUSAL_BYTES].decode(errors="replace")


def _unfinished(response: Response) -> ModelError:
    if "event-stream" not in response.headers.get("content-type", "event-stream").lower():
        return ProviderError("the provider answered with something that is no stream of tokens")
    return UpstreamTruncated("the provider's answer was cut off")


def _log(call: ModelCall, failure: ModelError, cause: object) -> None:
    logger.warning("model %s: %s: %s", call.model.target, failure.code, first_line(cause))
