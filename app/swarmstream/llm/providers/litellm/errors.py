"""litellm's errors as ours, by the error at their root: litellm's own classes often mislead."""

import json
from collections.abc import Iterator
from datetime import datetime

import httpx
from pydantic import ValidationError

from swarmstream.errors import ModelError, ProviderRejected, ProviderUnreachable, UpstreamInvalid, UpstreamTruncated
from swarmstream.llm.http.status import retry_after_seconds, status_error, stream_error


def hung_up(error: Exception) -> bool:
    """Return True if the provider closed the connection instead of answering."""
    causes = list(_causes(error))
    refused = any(isinstance(cause, httpx.ConnectError | httpx.HTTPStatusError) for cause in causes)
    return not refused and any(isinstance(cause, httpx.ReadError | httpx.RemoteProtocolError) for cause in causes)


def wants_images(error: Exception) -> bool:
    """Return True if an adapter would have fetched an image, which litellm must not."""
    return any(type(cause).__name__ == "ImageFetchError" for cause in _causes(error))


def refusal(error: Exception) -> tuple[int | None, str]:
    """Return the status of the provider's HTTP response, if it is a refusal, and its text, which can hold keys."""
    return _http_status(list(_causes(error))), str(error)


def translate(error: Exception, *, begun: bool, has_deltas: bool, now: datetime) -> ModelError:
    """Return our error for one of litellm's.

    `begun` is True if a chunk had come, `has_deltas` if part of the answer had come.
    """
    causes = list(_causes(error))
    status = None if begun else _http_status(causes)
    if status is not None:
        return status_error(status, _retry_after_seconds(causes, now), str(error))
    if type(error).__name__ == "UnsupportedParamsError":  # litellm's own refusal; it says 500 or 400
        return status_error(400, None, str(error))
    if any(isinstance(cause, json.JSONDecodeError | UnicodeDecodeError | ValidationError) for cause in causes):
        return UpstreamInvalid("the provider's stream could not be read")
    if any(_is_transport(cause) for cause in causes):
        if begun:
            return UpstreamTruncated("the connection to the provider broke in the middle of its answer")
        return ProviderUnreachable("the provider could not be reached")
    if has_deltas:
        return UpstreamInvalid("the provider reported an error in the middle of its answer")
    for cause in causes:
        if _is_stream_error(cause):
            return stream_error(getattr(cause, "body", None))
    if any(isinstance(cause, ImportError) for cause in causes):
        return ProviderRejected("this server lacks a package that litellm needs for this model")
    own_status = getattr(error, "status_code", None)
    return status_error(own_status if isinstance(own_status, int) else 500, None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and everything that led to it, nearest first."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [cause.__cause__, cause.__context__]


def _http_status(causes: list[BaseException]) -> int | None:
    """Return the status of the provider's HTTP response, if it is a refusal."""
    for cause in causes:
        if isinstance(cause, httpx.HTTPStatusError):
            return cause.response.status_code
    return None


def _retry_after_seconds(causes: list[BaseException], now: datetime) -> float | None:
    for cause in causes:
        if isinstance(cause, httpx.HTTPStatusError):
            return retry_after_seconds(cause.response.headers.get("retry-after", ""), now)
    return None


def _is_transport(cause: BaseException) -> bool:
    if isinstance(cause, httpx.TransportError | OSError):
        return True
    kind = type(cause)
    return kind.__module__.startswith("aiohttp.") or (kind.__module__, kind.__name__) == (
        "openai",
        "APIConnectionError",
    )


def _is_stream_error(cause: BaseException) -> bool:
    """Return True if the OpenAI SDK found an error object in the stream: its bare `APIError` has no status."""
    return type(cause).__module__ == "openai" and type(cause).__name__ == "APIError"
