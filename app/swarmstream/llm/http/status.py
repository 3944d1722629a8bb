"""What a provider's refusals mean to us: its HTTP statuses, and errors in its stream that stand for one."""

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

_MAX_LOGGED_ERROR = 8_000
"""Beyond what a log line holds: were it cut here, it could be in the middle of a key, which nobody would blank out."""

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
"""What the words of errors stand for, in small letters."""

_DELAY = re.compile(r"\d{1,6}(\.\d{1,9})?s")
"""A google.protobuf.Duration in JSON."""


def status_error(status: int, retry_after_seconds: float | None, said: str = "") -> ModelError:
    """The failure of a call that was answered with this status instead of a stream, and with these words."""
    kind, words = _refusal(status)
    failure = kind(f"{words} (HTTP {status})", retry_after_seconds=retry_after_seconds)
    if isinstance(failure, ProviderRejected) and status in _ABOUT_FIELDS:
        if _NO_TOOLS_IN_CHAT.search(said[:_MAX_LOGGED_ERROR]) is not None:
            # It names the effort, and reasons without one, too.
            return ProviderRejected(f"{failure.detail}: {_TOOLS_ELSEWHERE}")
        failure.named, failure.is_about_field = named_fields(said)
        failure.is_about_several = _REFUSES_SEVERAL.search(said[:_MAX_LOGGED_ERROR]) is not None
    return failure


def named_fields(said: str) -> tuple[tuple[str, ...], bool]:
    """Which of the fields that a call can do without a refusal names, the one that it means first; and whether it
    refuses that whatever its value."""
    said = said[:_MAX_LOGGED_ERROR]
    found = {name: place for name, words in _FIELDS.items() if (place := words.search(said))}
    named = sorted(found, key=lambda name: found[name].start())
    if (param := _PARAM.search(said)) is not None:
        named.sort(key=lambda name: _FIELDS[name].search(param[1]) is None)
    return tuple(named), _REFUSES_FIELD.search(said) is not None


def stream_error(error: object) -> ModelError:
    """The failure of a call that was answered with this error inside a stream, before its first token: that of the
    status it stands for."""
    fields = cast(dict[str, Any], error) if isinstance(error, dict) else {}
    status = next((status for name in ("code", "type", "status") if (status := _status(fields.get(name)))), None)
    if status is None:
        return UpstreamInvalid("the provider reported an error instead of an answer")
    kind, words = _refusal(status)
    return kind(f"{words} (error {status} in its stream)", retry_after_seconds=_retry_delay_seconds(fields))


def _status(word: object) -> int | None:
    """The status in a field of an error: a number, its digits, or what a word stands for."""
    if isinstance(word, str) and not word.isdecimal():
        # OpenAI has a dozen codes for what is wrong with an image.
        return _STATUSES.get(word.lower()) or (400 if "image" in word else None)
    try:
        status = int(cast(Any, word))
    except (TypeError, ValueError, OverflowError):
        return None
    return status if 400 <= status < 600 else None


def _retry_delay_seconds(error: dict[str, Any]) -> float | None:
    """How long Google's errors ask us to wait (google.rpc.RetryInfo)."""
    details: Any = error.get("details")
    for detail in cast(list[Any], details) if isinstance(details, list) else ():
        match detail:
            case {"retryDelay": str(delay)} if _DELAY.fullmatch(delay):
                return float(delay.removesuffix("s"))
            case _:
                pass
    return None


def retry_after_seconds(header: str, now: datetime) -> float | None:
    """How long the provider asks us to wait: a number of seconds or a date (RFC 9110, section 10.2.3)."""
    try:
        seconds = float(header)
    except ValueError:
        return _seconds_until(header, now)
    return None if isnan(seconds) else seconds


def first_line(said: object) -> str:
    """As much of a foreign error as tells what happened, for our log; some hold whole tracebacks or pages."""
    return (str(said).splitlines() or [type(said).__name__])[0][:_MAX_LOGGED_ERROR]


_ABOUT_FIELDS = (400, 422)
"""What providers answer to a field that they do not take; 422 is that of servers made with FastAPI."""

_FIELDS = {
    "temperature": re.compile(r"(?<![a-z])temperature(?![a-z])", re.IGNORECASE),
    "top_p": re.compile(r"(?<![a-z])top_?p(?![a-z])", re.IGNORECASE),
    "top_k": re.compile(r"(?<![a-z])top_?k(?![a-z])", re.IGNORECASE),
    "frequency_penalty": re.compile(r"frequency_?penalty", re.IGNORECASE),
    "presence_penalty": re.compile(r"presence_?penalty", re.IGNORECASE),
    "seed": re.compile(r"(?<![a-z])(random_)?seed(?![a-z])", re.IGNORECASE),
    "reasoning_effort": re.compile(r"(?<![a-z])(reasoning)?[_.]?effort(?![a-z])|thinking_?level", re.IGNORECASE),
    "thinking": re.compile(r"(?<![a-z])thinking(?!_?level|[a-z])|budget_?tokens|thinking_?budget", re.IGNORECASE),
}
"""Nothing that changes what an answer is for: never tools, `response_format`, `max_tokens`, `stop`."""

_NO_TOOLS_IN_CHAT = re.compile(
    r"function tools? .{0,80}?not supported.{0,200}?(?:chat/completions|/responses)", re.IGNORECASE | re.DOTALL
)
"""What OpenAI and Azure say where a name hides that the model takes tools on the Responses API alone."""

_TOOLS_ELSEWHERE = (
    "while it reasons, this model takes no function tools on chat completions; call it openai/responses/<name> or "
    'azure/responses/<name>, or set reasoning_effort to "none"'
)

_PARAM = re.compile(r'"param"\s*:\s*"([^"]{1,100})"')
"""OpenAI's error objects say which field they are about."""

_REFUSES_FIELD = re.compile(
    r"unsupported|not (?:be )?(?:supported|permitted|allowed)|n[o']t support|deprecated|removed|unrecogni[sz]ed"
    r"|unknown|unexpected|extra[ _](?:inputs|forbidden|field)|only the default"
    r"|cannot (?:both )?be (?:used|specified|set)",
    re.IGNORECASE,
)


_REFUSES_SEVERAL = re.compile(
    r"\bboth\b|together|at the same time|simultaneous|combin|mutually|exclusive|in conjunction|\bonly one\b"
    r"|\bwhen\b|\bwhile\b|\bunless\b|\b(?:greater|less|larger|smaller) than\b",
    re.IGNORECASE,
)
"""Words of a refusal that is about what stands beside a field as well."""


def _seconds_until(date: str, now: datetime) -> float | None:
    try:
        return (parsedate_to_datetime(date) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None


def _refusal(status: int) -> tuple[type[ModelError], str]:
    if status in (401, 403):
        return ProviderAuth, "the provider refused this server's credentials"
    if status == 429:
        return ProviderRateLimited, "the provider's rate limit is reached"
    if status in (408, 409):
        return ProviderBusy, "the provider refused the request for now"
    if 400 <= status < 500:
        return ProviderRejected, "the provider rejected the request"
    return ProviderError, "the provider failed"
