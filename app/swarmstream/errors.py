"""What can go wrong, as a client may act on it.

`code` is part of the public contract (docs/wire.md, "Codes"); `status` is used only while no byte of an answer has
been sent, in an open stream the same failure travels as an `error` event.
"""

from typing import ClassVar, Literal, TypeVar

Location = tuple[str | int, ...]

QUOTE_LIMIT = 100
"""Characters of a client's own words that an error may repeat."""


ErrorT = TypeVar("ErrorT", bound=BaseException)


def drop_tracebacks(error: ErrorT) -> ErrorT:
    """The error without the frames that it, and those that it came from, went through.

    A frame that names the error that it raises is a circle, which keeps all that the frame knows in memory until the
    garbage collector comes.
    """
    link: BaseException | None = error
    while link is not None and link.__traceback__ is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error


def quote(text: str) -> str:
    """A client's word as an error may show it: on one line, cut to `QUOTE_LIMIT` characters."""
    shown = "".join(char if char.isprintable() else " " for char in text[: QUOTE_LIMIT + 1])
    return f'"{shown}"' if len(shown) <= QUOTE_LIMIT else f'"{shown[: QUOTE_LIMIT - 1]}…"'


class AppError(Exception):
    """A failure that a client can act on.

    `location` is the path of the offending field in the payload; `retry_after_seconds` becomes the header of that name.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    retryable: ClassVar[bool] = False
    """Whether the same request may succeed later, unchanged."""

    def __init__(self, detail: str, *, location: Location = (), retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.location = location
        self.retry_after_seconds = retry_after_seconds


def error_from_code(code: str, detail: str, kind: "type[AppError] | None" = None) -> AppError:
    """The error of this kind that has this code, as it was told."""
    waiting: list[type[AppError]] = [kind or AppError]
    while waiting:
        kind = waiting.pop(0)
        if kind.__dict__.get("code") == code:
            return kind(detail)
        waiting += kind.__subclasses__()
    return InternalError(detail)


# --- The request: refused before the first byte -------------------------------------------------------------------


class InvalidRequest(AppError):
    """The payload is well formed and cannot be run as it is."""

    code = "invalid_request"
    status = 400


class FlowSyntaxError(AppError):
    """The flow expression cannot be read. `column` counts characters from 1."""

    code = "flow_syntax"
    status = 400

    def __init__(self, reason: str, *, column: int) -> None:
        super().__init__(f"{reason} (column {column})", location=("rearrange_flow",))
        self.column = column


class UnknownAgent(AppError):
    """A flow names an agent that the payload does not define."""

    code = "unknown_agent"
    status = 400


class DuplicateAgent(AppError):
    """Two agents of a swarm have one name."""

    code = "duplicate_agent"
    status = 400


class UnknownSwarmType(AppError):
    """The swarm type is not one that this server runs."""

    code = "unknown_swarm_type"
    status = 400


class NoTask(AppError):
    """There is nothing for the agents to do."""

    code = "no_task"
    status = 400


class LimitExceeded(AppError):
    """The payload is larger than the operator allows."""

    code = "limit_exceeded"
    status = 400


class UnsupportedOption(AppError):
    """The payload asks for something that this server does not do; leaving it out silently would mislead."""

    code = "unsupported_option"
    status = 400


class UnknownTool(AppError):
    """This server has no such tool."""

    code = "unknown_tool"
    status = 400


class ToolNotAllowed(AppError):
    """The tool is not for this key."""

    code = "tool_not_allowed"
    status = 403


class InvalidTool(AppError):
    """A tool or a schema that the payload describes is none that a model could be given."""

    code = "invalid_tool"
    status = 400


class McpHostRefused(AppError):
    """The operator does not allow this MCP server."""

    code = "mcp_host_not_allowed"
    status = 400


class UnknownModel(AppError):
    """No provider can be told from the model's name."""

    code = "unknown_model"
    status = 400


class NoCredentials(AppError):
    """The server has no credentials for the model's provider."""

    code = "no_credentials"
    status = 400


class InvalidKey(AppError):
    """The API key is missing or wrong."""

    code = "invalid_api_key"
    status = 401


class NotFound(AppError):
    """There is no such thing, or it belongs to another key."""

    code = "not_found"
    status = 404


class StillRunning(AppError):
    """The run goes on; it can be cancelled, not deleted."""

    code = "still_running"
    status = 409


class IdempotencyMismatch(AppError):
    """The `Idempotency-Key` came with another body before."""

    code = "idempotency_mismatch"
    status = 422


class InvalidToken(AppError):
    """The stream token is altered, expired, or for something else."""

    code = "invalid_token"
    status = 401


class UnpricedModel(AppError):
    """A budget in USD needs a model whose price is known."""

    code = "unpriced_model"
    status = 400


class HeadTimeout(AppError):
    """The request's line and header fields did not arrive in time."""

    code = "head_timeout"
    status = 408
    retryable = True


class HeadTooLarge(AppError):
    """The request's line and header fields are more than the operator allows, or what is around its body is."""

    code = "head_too_large"
    status = 431


class BodyTimeout(AppError):
    """The request's body did not arrive in time."""

    code = "body_timeout"
    status = 408
    retryable = True


class BodyTooLarge(AppError):
    """The request's body is larger than the operator allows."""

    code = "body_too_large"
    status = 413


class NotJson(AppError):
    """The request's body is declared to be something else than JSON."""

    code = "unsupported_media_type"
    status = 415


class InvalidJson(AppError):
    """The request's body is not JSON that we accept (RFC 8259: no NaN, no lone surrogates; ours: no NUL)."""

    code = "invalid_json"
    status = 422


class Unavailable(AppError):
    """The server is full or about to stop."""

    code = "unavailable"
    status = 503
    retryable = True


# --- A model call: ends a turn --------------------------------------------------------------------------------------


class ModelError(AppError):
    """A turn's model call failed. `detail` is ours and safe to show; a provider's own words stay in our log."""

    repeatable: ClassVar[bool] = False
    """Whether the call may be tried again before its first token (docs/engine.md, "When the model misbehaves")."""


class ProviderAuth(ModelError):
    """The provider refused our credentials (401, 403)."""

    code = "provider_auth"
    status = 502


class ProviderRateLimited(ModelError):
    """The provider told us to slow down (429)."""

    code = "provider_rate_limited"
    status = 502
    retryable = True
    repeatable = True


class ProviderRejected(ModelError):
    """The provider refused the request as it is (other 4xx)."""

    code = "provider_rejected"
    status = 502

    named: tuple[str, ...] = ()
    """Fields of the request that the provider names, the one that it means first."""
    is_about_field: bool = False
    """Whether it refuses them whatever their values."""
    is_about_several: bool = False
    """Whether it refuses them together: each may be welcome without the others."""


class ProviderBusy(ProviderRejected):
    """The provider refused the request for now (408, 409)."""

    retryable = True
    repeatable = True


class ProviderError(ModelError):
    """The provider broke (5xx), or answered with something that is no model's answer."""

    code = "provider_error"
    status = 502
    retryable = True
    repeatable = True


class ProviderUnreachable(ModelError):
    """No connection to the provider (DNS, connect, TLS), or it was lost before the answer began."""

    code = "provider_unreachable"
    status = 502
    retryable = True
    repeatable = True


class FirstTokenTimeout(ModelError):
    """The provider sent no token in time."""

    code = "first_token_timeout"
    status = 504
    retryable = True
    repeatable = True


class IdleTimeout(ModelError):
    """The provider fell silent in the middle of its answer."""

    code = "idle_timeout"
    status = 504
    retryable = True


class TurnTimeout(ModelError):
    """The turn took longer than it may."""

    code = "turn_timeout"
    status = 504


class UpstreamTruncated(ModelError):
    """The provider's answer stopped without saying that it was complete."""

    code = "upstream_truncated"
    status = 502
    retryable = True


class UpstreamInvalid(ModelError):
    """The provider's stream held an error or something that cannot be read."""

    code = "upstream_invalid"
    status = 502
    retryable = True


class PlanFailed(ModelError):
    """An autonomous agent did not come up with a plan."""

    code = "plan_failed"
    status = 502


class InvalidOutput(ModelError):
    """The model's answer does not keep to the `response_format`, even after it was told so."""

    code = "invalid_output"
    status = 502


# --- A run: ends it, whatever its turns did -------------------------------------------------------------------------


class RunError(AppError):
    """A run ended for a reason of its own. `end_status` is the `status` of its `end` event."""

    end_status: ClassVar[Literal["failed", "cancelled", "timed_out", "budget_exceeded", "interrupted"]] = "failed"


class RunTimedOut(RunError):
    """The run took longer than its `timeout`, or than the operator allows."""

    code = "timed_out"
    status = 504
    end_status = "timed_out"


class RunCancelled(RunError):
    """The run was cancelled, or its client went away."""

    code = "cancelled"
    status = 409
    end_status = "cancelled"


class BudgetExceeded(RunError):
    """The run has used up what it was given."""

    code = "budget_exceeded"
    status = 402
    end_status = "budget_exceeded"


class RunLimitReached(RunError):
    """The run has grown to what the operator allows one."""

    code = "limit_exceeded"
    status = 409


class StorageUnavailable(RunError):
    """What happens in the run can no longer be written down."""

    code = "storage_unavailable"
    status = 503
    retryable = True


class RunInterrupted(RunError):
    """The server stopped before the run was over."""

    code = "interrupted"
    status = 503
    retryable = True
    end_status = "interrupted"


class InternalError(RunError):
    """We have a bug; the log knows which."""

    code = "internal"
    status = 500
