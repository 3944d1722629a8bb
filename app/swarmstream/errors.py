"""Failures that a client can act on.

`code` is part of the public contract (docs/wire.md, "Codes"). `status` counts only while no byte of an answer has been
sent: in an open stream the same failure travels as an `error` event.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, TypeVar

Location = tuple[str | int, ...]

QUOTE_LIMIT = 100
"""Characters of a client's own text that an error may repeat."""

ErrorT = TypeVar("ErrorT", bound=BaseException)


def drop_tracebacks(error: ErrorT) -> ErrorT:
    """Forget the frames that this error went through, and those of the errors that led to it; return the error.

    A frame that holds the error it raises is a reference cycle: all its local variables stay in memory until the
    garbage collector runs.
    """
    link: BaseException | None = error
    while link is not None and link.__traceback__ is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error


def quote(text: str) -> str:
    """Return a client's text as an error may show it: quoted, on one line, cut to `QUOTE_LIMIT` characters."""
    shown = "".join(char if char.isprintable() else " " for char in text[: QUOTE_LIMIT + 1])
    return f'"{shown}"' if len(shown) <= QUOTE_LIMIT else f'"{shown[: QUOTE_LIMIT - 1]}…"'


_kinds: "list[type[AppError]]" = []


class AppError(Exception):
    """A failure that a client can act on.

    `location` is the path of the offending field in the payload; `retry_after_seconds` becomes the header of that name.

    A subclass declares its `code`, `status` and `retryable` as arguments of its class statement, and inherits those
    that it leaves out. Some codes have two classes: a payload and a run can both exceed a limit.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    retryable: ClassVar[bool] = False
    """True if the same request may succeed later, unchanged."""

    def __init_subclass__(
        cls, *, code: str | None = None, status: int | None = None, retryable: bool | None = None
    ) -> None:
        super().__init_subclass__()
        if code is not None:
            cls.code = code
            _kinds.append(cls)
        if status is not None:
            cls.status = status
        if retryable is not None:
            cls.retryable = retryable

    def __init__(self, detail: str, *, location: Location = (), retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.location = location
        self.retry_after_seconds = retry_after_seconds


def error_kinds() -> "Sequence[type[AppError]]":
    """Return the classes that have a code of their own, in the order of their definition."""
    return _kinds


def error_from_code(code: str, detail: str, family: type[AppError] = AppError) -> AppError:
    """Make the error of this family that has this code; `InternalError` if no class has it."""
    kind = next((kind for kind in _kinds if kind.code == code and issubclass(kind, family)), InternalError)
    return kind(detail)


# --- The request: refused before the first byte -------------------------------------------------------------------


class InvalidRequest(AppError, code="invalid_request", status=400):
    """The payload is well formed and cannot be run as it is."""


class FlowSyntaxError(AppError, code="flow_syntax", status=400):
    """The flow expression cannot be read. `column` counts characters from 1."""

    def __init__(self, reason: str, *, column: int) -> None:
        super().__init__(f"{reason} (column {column})", location=("rearrange_flow",))
        self.column = column


class UnknownAgent(AppError, code="unknown_agent", status=400):
    """A flow names an agent that the payload does not define."""


class DuplicateAgent(AppError, code="duplicate_agent", status=400):
    """Two agents of a swarm have one name."""


class UnknownSwarmType(AppError, code="unknown_swarm_type", status=400):
    """The swarm type is not one that this server runs."""


class NoTask(AppError, code="no_task", status=400):
    """The payload gives the agents nothing to do."""


class LimitExceeded(AppError, code="limit_exceeded", status=400):
    """The payload is larger than the operator allows."""


class UnsupportedOption(AppError, code="unsupported_option", status=400):
    """The payload asks for something that this server does not do; leaving it out silently would mislead."""


class UnknownTool(AppError, code="unknown_tool", status=400):
    """This server has no such tool."""


class ToolNotAllowed(AppError, code="tool_not_allowed", status=403):
    """The tool is not for this key."""


class InvalidTool(AppError, code="invalid_tool", status=400):
    """The payload describes a tool or a schema that a model cannot be given."""


class McpHostRefused(AppError, code="mcp_host_not_allowed", status=400):
    """The operator does not allow this MCP server."""


class UnknownModel(AppError, code="unknown_model", status=400):
    """The model's name does not tell its provider."""


class NoCredentials(AppError, code="no_credentials", status=400):
    """The server has no credentials for the model's provider."""


class InvalidKey(AppError, code="invalid_api_key", status=401):
    """The API key is missing or wrong."""


class NotFound(AppError, code="not_found", status=404):
    """The thing does not exist, or belongs to another key."""


class StillRunning(AppError, code="still_running", status=409):
    """The run goes on; it can be cancelled, not deleted."""


class IdempotencyMismatch(AppError, code="idempotency_mismatch", status=422):
    """The `Idempotency-Key` came with another body before."""


class InvalidToken(AppError, code="invalid_token", status=401):
    """The stream token is altered, expired, or for something else."""


class UnpricedModel(AppError, code="unpriced_model", status=400):
    """A budget in USD needs a model whose price is known."""


class HeadTimeout(AppError, code="head_timeout", status=408, retryable=True):
    """The request's line and header fields did not arrive in time."""


class HeadTooLarge(AppError, code="head_too_large", status=431):
    """The request's line and header fields, or its trailers and chunk extensions, are too large."""


class BodyTimeout(AppError, code="body_timeout", status=408, retryable=True):
    """The request's body did not arrive in time."""


class BodyTooLarge(AppError, code="body_too_large", status=413):
    """The request's body is larger than the operator allows."""


class NotJson(AppError, code="unsupported_media_type", status=415):
    """The request's body is declared as something other than JSON."""


class InvalidJson(AppError, code="invalid_json", status=422):
    """The request's body is not JSON that we accept (RFC 8259: no NaN, no lone surrogates; ours: no NUL)."""


class Unavailable(AppError, code="unavailable", status=503, retryable=True):
    """The server is full or about to stop."""


# --- A model call: ends a turn --------------------------------------------------------------------------------------


class ModelError(AppError):
    """A turn's model call failed. `detail` is our own text and safe to show; the provider's text stays in our log."""

    repeatable: ClassVar[bool] = False
    """True if the call may be tried again before its first token (docs/engine.md, "When the model misbehaves")."""


class ProviderAuth(ModelError, code="provider_auth", status=502):
    """The provider refused our credentials (401, 403)."""


class ProviderRateLimited(ModelError, code="provider_rate_limited", status=502, retryable=True):
    """The provider asks us to slow down (429)."""

    repeatable = True


class ProviderRejected(ModelError, code="provider_rejected", status=502):
    """The provider refused the request as it is (other 4xx)."""

    named: tuple[str, ...] = ()
    """Fields of the request that the provider's answer names, the most likely culprit first."""
    is_about_field: bool = False
    """True if the provider refuses these fields with any value."""
    is_about_several: bool = False
    """True if the provider refuses these fields together; each may be accepted without the others."""


class ProviderBusy(ProviderRejected, retryable=True):
    """The provider refused the request for now (408, 409)."""

    repeatable = True


class ProviderError(ModelError, code="provider_error", status=502, retryable=True):
    """The provider failed (5xx), or sent something other than a model's answer."""

    repeatable = True


class ProviderUnreachable(ModelError, code="provider_unreachable", status=502, retryable=True):
    """No connection to the provider (DNS, connect, TLS), or it was lost before the answer began."""

    repeatable = True


class FirstTokenTimeout(ModelError, code="first_token_timeout", status=504, retryable=True):
    """The provider sent no token in time."""

    repeatable = True


class IdleTimeout(ModelError, code="idle_timeout", status=504, retryable=True):
    """The provider fell silent in the middle of its answer."""


class TurnTimeout(ModelError, code="turn_timeout", status=504):
    """The turn took longer than it may."""


class UpstreamTruncated(ModelError, code="upstream_truncated", status=502, retryable=True):
    """The provider's answer stopped without the mark of its end."""


class UpstreamInvalid(ModelError, code="upstream_invalid", status=502, retryable=True):
    """The provider's stream held an error, or something that cannot be parsed."""


class PlanFailed(ModelError, code="plan_failed", status=502):
    """An autonomous agent made no plan that can be carried out."""


class InvalidOutput(ModelError, code="invalid_output", status=502):
    """The model's answer violates the `response_format`, also after the model was told so."""


# --- A run: ends it, whatever its turns did -------------------------------------------------------------------------


class RunError(AppError):
    """A run ended for a reason of its own. `end_status` is the `status` of its `end` event."""

    end_status: ClassVar[Literal["failed", "cancelled", "timed_out", "budget_exceeded", "interrupted"]] = "failed"


class RunTimedOut(RunError, code="timed_out", status=504):
    """The run took longer than its `timeout`, or than the operator allows."""

    end_status = "timed_out"


class RunCancelled(RunError, code="cancelled", status=409):
    """The run was cancelled, or its client went away."""

    end_status = "cancelled"


class BudgetExceeded(RunError, code="budget_exceeded", status=402):
    """The run has spent its budget."""

    end_status = "budget_exceeded"


class RunLimitReached(RunError, code="limit_exceeded", status=409):
    """The run has reached a limit that the operator sets for each run."""


class StorageUnavailable(RunError, code="storage_unavailable", status=503, retryable=True):
    """The run's events can no longer be stored."""


class RunInterrupted(RunError, code="interrupted", status=503, retryable=True):
    """The server stopped before the run was over."""

    end_status = "interrupted"


class InternalError(RunError, code="internal", status=500):
    """This server has a bug; the log has the traceback."""
