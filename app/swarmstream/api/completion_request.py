"""A completion request as it was read: its payload, its idempotency key, its cursor."""

import re
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Generic

from fastapi import Request

from swarmstream.api.admission import ApiCall
from swarmstream.api.body import PayloadT, PostedPayload, parse_payload, read_body
from swarmstream.api.offload import run_aside
from swarmstream.api.payload_outline import PayloadLimits
from swarmstream.api.resuming import parse_cursor
from swarmstream.errors import InvalidRequest, Location
from swarmstream.journal.records import IdempotencyKey
from swarmstream.swarm.payloads import RunSpec

_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class CompletionRequest(Generic[PayloadT]):
    """A call of a completion route, read and valid in its form."""

    call: ApiCall
    payload: PayloadT
    body: bytes
    """The payload as JSON, without the cursor."""
    key: IdempotencyKey | None
    after: int
    """The last event that its client has of the run."""
    cursor_location: Location
    """The header or field that says so."""

    @property
    def traceparent(self) -> str | None:
        """The W3C trace that the request belongs to."""
        value = self.call.request.headers.get("traceparent", "")
        return value if _TRACEPARENT.fullmatch(value) else None


async def read_completion(call: ApiCall, model: type[PayloadT]) -> CompletionRequest[PayloadT]:
    """Read the call's body as a payload of this kind.

    Raises:
        AppError, RequestValidationError: the body, or a header, is not what it has to be.
    """
    settings = call.state["settings"]
    limits = PayloadLimits(settings.max_body_bytes, settings.max_payload_bytes)
    body = await read_body(call.request, limits, seconds=settings.body_seconds, clock=call.state["clock"])
    posted = await run_aside(body, partial(parse_payload, body, model, limits))
    key = await run_aside(body, partial(_parse_idempotency_key, call, posted))
    after, cursor_location = _parse_cursor(call.request, posted.payload)
    return CompletionRequest(call, posted.payload, posted.body, key, after, cursor_location)


def _parse_cursor(request: Request, payload: RunSpec) -> tuple[int, Location]:
    """Return the last event that the client has, and where it says so: the header wins over the payload."""
    value = request.headers.get("last-event-id")
    if value is None:
        return payload.stream_options.starting_after, ("stream_options", "starting_after")
    return parse_cursor(value, "Last-Event-ID"), ("Last-Event-ID",)


def _parse_idempotency_key(call: ApiCall, posted: PostedPayload[PayloadT]) -> IdempotencyKey | None:
    """Return the request's `Idempotency-Key`, as a digest that is of this caller and this route.

    Raises:
        InvalidRequest: the header does not have the form of a key.
    """
    key = call.request.headers.get("idempotency-key")
    if key is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequest("an Idempotency-Key is 1 to 255 printable ASCII characters", location=("Idempotency-Key",))
    scoped = f"{call.caller}\n{call.request.url.path}\n{key}"
    return IdempotencyKey(sha256(scoped.encode()).hexdigest(), posted.digest())
