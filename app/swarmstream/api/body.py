"""Reading a request's body within limits of size and time, and parsing it as strict JSON.

A body that is too large is read to its end all the same, up to four times the limit, and discarded: a client that is
cut off while it sends sees a broken connection and not our answer. One that announces its size and waits for
`100 Continue` (RFC 9110, section 10.1.1) is refused before it sends anything.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Generic, TypeVar

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.requests import Request

from swarmstream.api.payload_outline import PayloadLimits, check_size, check_text, count_members, image_bytes
from swarmstream.clock import SYSTEM_CLOCK, Clock, time_limit
from swarmstream.errors import BodyTimeout, BodyTooLarge, InvalidJson, NotJson
from swarmstream.swarm.payloads import RunSpec

PayloadT = TypeVar("PayloadT", bound=RunSpec)

_ORDERED_MEMBERS = ("history", "messages")
"""Members whose order has a meaning, also where they are objects."""

TOTAL_TIME_FACTOR = 8
"""The time limit of a whole body, as a multiple of that of 64 kB of it."""

_PROGRESS_BYTES = 64 * 1024
_MAX_DISCARDED_FACTOR = 4

_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_FORM = re.compile(r"application/x-www-form-urlencoded\s*(?:;.*)?", re.IGNORECASE)
_OBJECT = re.compile(rb"[ \t\r\n]*\{")
_NOT_CROSS_SITE = frozenset(["same-origin", "none"])
"""Values of `Sec-Fetch-Site` (W3C Fetch Metadata) of requests that no page of another site made."""


async def read_body(request: Request, limits: PayloadLimits, *, seconds: float, clock: Clock = SYSTEM_CLOCK) -> bytes:
    """Read the body. Each 64 kB of it, and its end, have to come within `seconds`, and all of it within eight times
    that.

    Raises:
        NotJson: it is declared as something else, and does not look like what `curl -d` sends.
        BodyTooLarge, BodyTimeout: there is more of it, or it takes longer to come, than the operator allows.
    """
    content_type = request.headers.get("content-type", "application/json").strip()
    is_json = _JSON.fullmatch(content_type) is not None
    not_json = NotJson("send the payload as JSON: with curl, add -H 'Content-Type: application/json', or use --json")
    if not is_json and not (_FORM.fullmatch(content_type) and is_sent_by_program(request.headers)):
        raise not_json
    with time_limit(clock, TOTAL_TIME_FACTOR * seconds):
        body = await _read(request, limits.max_body_bytes, seconds, clock)
        if not is_json and not _OBJECT.match(body):
            raise not_json
        return body
    raise BodyTimeout(f"the request's body did not arrive within {TOTAL_TIME_FACTOR * seconds:g} s")


def is_sent_by_program(headers: Headers) -> bool:
    """Tell whether a request declared as a form was sent by a program, as `curl -d` does by default.

    Pages can send forms to any server without being asked, but without a key in a header, and browsers add where the
    page is from.
    """
    return (
        ("x-api-key" in headers or "authorization" in headers)
        and "origin" not in headers
        and "referer" not in headers
        and set(headers.getlist("sec-fetch-site")) <= _NOT_CROSS_SITE
    )


@dataclass(frozen=True, slots=True)
class PostedPayload(Generic[PayloadT]):
    """A payload with the JSON that it was posted as, less its cursor."""

    payload: PayloadT
    body: bytes
    """The payload as JSON, its members in the order in which they came: an object of messages is a conversation in
    that order, and models write a schema's properties in theirs."""
    value: dict[str, Any]
    """The same, parsed."""

    def digest(self) -> str:
        """Return the SHA-256 of the payload, in hex: the same for two that differ only in an order without meaning."""
        value = {**self.value}
        for name in _ORDERED_MEMBERS:
            if isinstance(messages := value.get(name), dict):
                value[name] = list(messages.items())  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        return sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def parse_payload(body: bytes, model: type[PayloadT], limits: PayloadLimits) -> PostedPayload[PayloadT]:
    """Parse the body as a payload of this kind. The position to resume from is left out of what is kept.

    Raises:
        BodyTooLarge: it is more than a payload may be without its images.
        InvalidJson: it is not JSON that we accept.
        RequestValidationError: it is of the wrong shape.
    """
    if not body:
        raise InvalidJson("the request has no body")
    value = _parse(body, members=check_text(body, limits))
    try:
        payload = model.model_validate(value)
    except ValidationError as error:
        raise RequestValidationError(_simplify(error, value)) from None
    kept = _without_cursor(value)
    text = orjson.dumps(kept)
    if len(text) > limits.max_payload_bytes:
        check_size(len(text) - image_bytes(payload), limits)
    return PostedPayload(payload, text, kept)


async def _read(request: Request, max_bytes: int, seconds: float, clock: Clock) -> bytes:
    too_large = BodyTooLarge(
        f"the request's body is larger than this server's {max_bytes} bytes (SWARMSTREAM_MAX_BODY_BYTES)"
    )
    declared = request.headers.get("content-length", "")
    waits = "100-continue" in request.headers.get("expect", "")
    announced = int(declared) if declared.isdecimal() else 0
    if announced > (max_bytes if waits else _MAX_DISCARDED_FACTOR * max_bytes):
        raise too_large
    body = bytearray()
    size = 0
    chunks = aiter(request.stream())
    while True:
        with time_limit(clock, seconds) as window:
            received = await _read_some(chunks, body, room=max_bytes - size if announced <= max_bytes else 0)
        if window.cancelled_caught:
            raise BodyTimeout(f"{_PROGRESS_BYTES // 1024} kB of the request's body took longer than {seconds:g} s")
        size += received
        if size > _MAX_DISCARDED_FACTOR * max_bytes or (received < _PROGRESS_BYTES and size > max_bytes):
            raise too_large
        if received < _PROGRESS_BYTES:
            return bytes(body)


async def _read_some(chunks: AsyncIterator[bytes], body: bytearray, *, room: int) -> int:
    """Read the next 64 kB or more, or less at the end; discard what there is no room for. Return the bytes read."""
    received = 0
    async for chunk in chunks:
        received += len(chunk)
        if received <= room:
            body += chunk
        if received >= _PROGRESS_BYTES:
            break
    return received


def _parse(body: bytes, *, members: int) -> Any:
    """Parse JSON; `members` is how many its objects have in all, so that two of one name are noticed."""
    try:
        # Refuses NaN, lone surrogates and broken UTF-8.
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidJson(f"the body is not valid JSON: {error.msg} ({where})") from None
    if count_members(value) != members:
        raise InvalidJson("an object has two members of one name")
    if rb"\u0000" in body and _has_nul(value):
        raise InvalidJson("strings must not contain NUL characters")
    return value


def _without_cursor(value: dict[str, Any]) -> dict[str, Any]:
    """Return the payload without `starting_after`, which belongs to one reading and not to the run."""
    posted_options: dict[str, Any] = value.get("stream_options") or {}
    options = {name: option for name, option in posted_options.items() if name != "starting_after"}
    rest = {name: member for name, member in value.items() if name != "stream_options"}
    return {**rest, "stream_options": options} if options else rest


def _has_nul(value: Any) -> bool:
    pending = [value]
    while pending:
        match pending.pop():
            case str() as text:
                if "\0" in text:
                    return True
            case dict() as fields:  # pyright: ignore[reportUnknownVariableType]
                pending += fields.keys()
                pending += fields.values()
            case list() as items:  # pyright: ignore[reportUnknownVariableType]
                pending += items
            case _:
                pass
    return False


def _simplify(error: ValidationError, value: Any) -> list[dict[str, Any]]:
    """Return pydantic's errors at locations that a client can follow, without the names of a union's branches."""
    simplified: dict[tuple[tuple[int | str, ...], str], dict[str, Any]] = {}
    for found in error.errors(include_url=False, include_context=False, include_input=False):
        is_missing = found["type"] == "missing"
        loc = _existing_path(value, found["loc"][:-1] if is_missing else found["loc"])
        if is_missing:
            loc = (*loc, found["loc"][-1])
        simplified.setdefault((loc, found["msg"]), {"loc": loc, "msg": found["msg"], "type": found["type"]})
    return list(simplified.values())


def _existing_path(value: Any, loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return the steps of a location that lead somewhere in what was sent."""
    path: list[int | str] = []
    for step in loc:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            continue
        path.append(step)
    return tuple(path)
