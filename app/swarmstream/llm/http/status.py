"""Errors of model calls by the provider's HTTP status, or by an error in its stream that stands for one."""

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from math import isnan
from typing import Any, cast

from swarmstream.errors import (
    ModelError,
    ProviderAuth,
    ProviderBusy,
    ProviderError,
    ProviderRateLimited,
    ProviderRejected,
    UpstreamInvalid,
)
from swarmstream.llm.http.field_refusals import field_refusal

_MAX_LOGGED_ERROR = 8_000
"""More than a log line holds: a cut here could be in the middle of a key, which would then not be blanked out."""

_STATUSES: Mapping[str, int] = {
    # Anthropic ("Errors"); OpenAI's chat completions and compatible servers share some of the words.
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    # OpenAI: codes ("Error codes", and ResponseError of its Responses API) and types.
    "context_length_exceeded": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "string_above_max_length": 400,
    "invalid_prompt": 400,
    "invalid_image": 400,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "tokens": 429,
    "requests": 429,
    "server_error": 500,
    "internal_server_error": 500,
    "service_unavailable": 503,
    "service_unavailable_error": 503,
    "server_is_overloaded": 503,
    "slow_down": 503,
    "vector_store_timeout": 504,
    # vLLM names the exceptions of OpenAI's SDK.
    "badrequesterror": 400,
    "notfounderror": 404,
    "internalservererror": 500,
    # Google (google.rpc.Code and its HTTP mapping).
    "invalid_argument": 400,
    "failed_precondition": 400,
    "out_of_range": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "not_found": 404,
    "aborted": 409,
    "resource_exhausted": 429,
    "internal": 500,
    "unknown": 500,
    "unavailable": 503,
    "deadline_exceeded": 504,
}
"""Statuses by codes and types of errors, in small letters."""

_ABOUT_FIELDS = (400, 422)
"""Statuses for a field that is not taken; 422 is that of servers made with FastAPI."""

_NO_TOOLS_IN_CHAT = re.compile(
    r"function tools? .{0,80}?not supported.{0,200}?(?:chat/completions|/responses)", re.IGNORECASE | re.DOTALL
)
"""The text of OpenAI and Azure for a model that takes tools on the Responses API alone, which its name may hide."""

_TOOLS_ELSEWHERE = (
    "while it reasons, this model takes no function tools on chat completions; call it openai/responses/<name> or "
    'azure/responses/<name>, or set reasoning_effort to "none"'
)

_DELAY = re.compile(r"\d{1,6}(\.\d{1,9})?s")
"""A google.protobuf.Duration in JSON."""


def status_error(status: int, retry_after_seconds: float | None, text: str = "") -> ModelError:
    """Return the error of a call that was answered with this status, and this text, instead of a stream."""
    kind, message = _kind(status)
    failure = kind(f"{message} (HTTP {status})", retry_after_seconds=retry_after_seconds)
    if isinstance(failure, ProviderRejected) and status in _ABOUT_FIELDS:
        if _NO_TOOLS_IN_CHAT.search(text[:_MAX_LOGGED_ERROR]) is not None:
            # It names the effort, and reasons without one, too.
            return ProviderRejected(f"{failure.detail}: {_TOOLS_ELSEWHERE}")
        failure.named, failure.is_about_field, failure.is_about_several = field_refusal(text)
    return failure


def stream_error(error: object) -> ModelError:
    """Return the error for one in the stream, before its first token, by the status that it stands for."""
    fields = cast(dict[str, Any], error) if isinstance(error, dict) else {}
    status = next((status for name in ("code", "type", "status") if (status := _status(fields.get(name)))), None)
    if status is None:
        return UpstreamInvalid("the provider reported an error instead of an answer")
    kind, message = _kind(status)
    return kind(f"{message} (error {status} in its stream)", retry_after_seconds=_retry_delay_seconds(fields))


def _status(code: object) -> int | None:
    """Return the status in a field of an error: a number, its digits, or a known code."""
    if isinstance(code, str) and not code.isdecimal():
        # OpenAI has a dozen codes for what is wrong with an image.
        return _STATUSES.get(code.lower()) or (400 if "image" in code else None)
    try:
        status = int(cast(Any, code))
    except (TypeError, ValueError, OverflowError):
        return None
    return status if 400 <= status < 600 else None


def _retry_delay_seconds(error: dict[str, Any]) -> float | None:
    """Return the delay in an error of Google's (google.rpc.RetryInfo)."""
    details: Any = error.get("details")
    for detail in cast(list[Any], details) if isinstance(details, list) else ():
        match detail:
            case {"retryDelay": str(delay)} if _DELAY.fullmatch(delay):
                return float(delay.removesuffix("s"))
            case _:
                pass
    return None


def retry_after_seconds(header: str, now: datetime) -> float | None:
    """Return the delay in a `Retry-After` header: a number of seconds or a date (RFC 9110, section 10.2.3)."""
    try:
        seconds = float(header)
    except ValueError:
        return _seconds_until(header, now)
    return None if isnan(seconds) else seconds


def first_line(error: object) -> str:
    """Return the first line of a foreign error, for our log; some hold whole tracebacks or pages."""
    return (str(error).splitlines() or [type(error).__name__])[0][:_MAX_LOGGED_ERROR]


def _seconds_until(date: str, now: datetime) -> float | None:
    try:
        return (parsedate_to_datetime(date) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None


def _kind(status: int) -> tuple[type[ModelError], str]:
    if status in (401, 403):
        return ProviderAuth, "the provider refused this server's credentials"
    if status == 429:
        return ProviderRateLimited, "the provider's rate limit is reached"
    if status in (408, 409):
        return ProviderBusy, "the provider refused the request for now"
    if 400 <= status < 500:
        return ProviderRejected, "the provider rejected the request"
    return ProviderError, "the provider failed"
