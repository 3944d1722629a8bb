"""What a provider's HTTP status means to us."""

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from math import isnan

from app.errors import ModelError, ProviderAuth, ProviderBusy, ProviderError, ProviderRateLimited, ProviderRejected

_MAX_LOGGED_ERROR = 8_000
"""Beyond what a log line holds: were it cut here, it could be in the middle of a key, which nobody would blank out."""


def refused(status: int, retry_after_seconds: float | None, said: str = "") -> ModelError:
    """The failure of a call that was answered with this status instead of a stream, and with these words."""
    kind, words = _refusal(status)
    failure = kind(f"{words} (HTTP {status})", retry_after_seconds=retry_after_seconds)
    if isinstance(failure, ProviderRejected) and status in _ABOUT_FIELDS:
        failure.named, failure.is_about_field = named_fields(said)
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


def retry_after_seconds(header: str, now: datetime) -> float | None:
    """How long the provider asks us to wait: a number of seconds or a date (RFC 9110, section 10.2.3)."""
    try:
        seconds = float(header)
    except ValueError:
        return _seconds_until(header, now)
    return None if isnan(seconds) else seconds


def first_words(said: object) -> str:
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

_PARAM = re.compile(r'"param"\s*:\s*"([^"]{1,100})"')
"""OpenAI's error objects say which field they are about."""

_REFUSES_FIELD = re.compile(
    r"unsupported|not (?:be )?(?:supported|permitted|allowed)|n[o']t support|deprecated|removed|unrecogni[sz]ed"
    r"|unknown|unexpected|extra[ _](?:inputs|forbidden|field)|only the default"
    r"|cannot (?:both )?be (?:used|specified|set)",
    re.IGNORECASE,
)


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
