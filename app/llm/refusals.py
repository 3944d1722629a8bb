"""What a provider's HTTP status means to us."""

from datetime import datetime
from email.utils import parsedate_to_datetime
from math import isnan

from app.errors import ModelError, ProviderAuth, ProviderBusy, ProviderError, ProviderRateLimited, ProviderRejected

_MAX_LOGGED_ERROR = 8_000
"""Beyond what a log line holds: were it cut here, it could be in the middle of a key, which nobody would blank out."""


def refused(status: int, retry_after_seconds: float | None) -> ModelError:
    """The failure of a call that was answered with this status instead of a stream."""
    kind, words = _refusal(status)
    return kind(f"{words} (HTTP {status})", retry_after_seconds=retry_after_seconds)


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
