"""Errors as events carry them."""

from swarmstream.errors import AppError
from swarmstream.events import Failure


def as_failure(error: AppError, *, agent: str | None = None) -> Failure:
    """Return the error as a failure, which names the agent it happened to."""
    message = f"{agent}: {error.detail}" if agent else error.detail
    return Failure(code=error.code, message=message, status=error.status, retryable=error.retryable)
