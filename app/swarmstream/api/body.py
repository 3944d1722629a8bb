"""How a request's body is read: within limits of size and time, as strict JSON."""

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

_IN_ORDER = ("history", "messages")
"""Members whose own order says something, also where they are objects."""

TOTAL_TIME_FACTOR = 8
"""A body may take so many times what 64 kB of it may."""

_PROGRESS_BYTES = 64 * 1024
_DROPPED_BODIES = 4
"""What is too large is read on for this many times the limit at most."""

_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_FORM = re.compile(r"application/x-www-form-urlencoded\s*(?:;.*)?", re.IGNORECASE)
_OBJECT = re.compile(rb"[ \t\r\n]*\{")
_OF_NO_PAGE = frozenset(["same-origin", "none"])
"""Values of `Sec-Fetch-Site` (W3C Fetch Metadata) of requests that no page of another site made."""


async def read_body(request: Request, limits: PayloadLimits, *, seconds: float, clock: Clock = SYSTEM_CLOCK) -> bytes:
    """The body. Each 64 kB of it, and its end, have to come within `seconds`, and all of it within eight times that.

    Raises:
        NotJson: it is declared as something else, and is not what `curl -d` sends.
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
    """Whether a request that is declared as a form's comes from a program, such as `curl -d` by its default, and not
    from a page: pages can send forms anywhere without being asked, but no key in a header, and say where they are."""
    return (
        ("x-api-key" in headers or "authorization" in headers)
        and "origin" not in headers
        and "referer" not in headers
        and set(headers.getlist("sec-fetch-site")) <= _OF_NO_PAGE
    )


@dataclass(frozen=True, slots=True)
class PostedPayload(Generic[PayloadT]):
    """A body that is a payload."""

    payload: PayloadT
    body: bytes
    """It as JSON, its members in the order in which they came: an object of messages is a conversation in that order,
    and models write a schema's properties in theirs."""
    value: dict[str, Any]
    """The same, parsed."""

    def digest(self) -> str:
        """The same for the same request, however its members are ordered where that means nothing."""
        value = {**self.value}
        for name in _IN_ORDER:
            if isinstance(said := value.get(name), dict):
                value[name] = list(said.items())  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        return sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def parse_payload(body: bytes, model: type[PayloadT], limits: PayloadLimits) -> PostedPayload[PayloadT]:
    """The body as a payload of this kind, but for where in its stream the client wants to go on.

    Raises:
        BodyTooLarge: it is more than a payload may be without its images.
        InvalidJson: it is not JSON that we accept.
        RequestValidationError: it is of the wrong shape.
    """
    if not body:
        raise InvalidJson("the request has no body")
    value = _parse(body, members=check_text(body, limits))
    try:
        spec = model.model_validate(value)
    except ValidationError as error:
        raise RequestValidationError(_tidy(error, value)) from None
    lasting = _lasting(value)
    text = orjson.dumps(lasting)
    if len(text) > limits.max_payload_bytes:
        check_size(len(text) - image_bytes(spec), limits)
    return PostedPayload(spec, text, lasting)


async def _read(request: Request, max_bytes: int, seconds: float, clock: Clock) -> bytes:
    too_large = BodyTooLarge(
        f"the request's body is larger than this server's {max_bytes} bytes (SWARMSTREAM_MAX_BODY_BYTES)"
    )
    declared = request.headers.get("content-length", "")
    waits = "100-continue" in request.headers.get("expect", "")
    announced = int(declared) if declared.isdecimal() else 0
    if announced > (max_bytes if waits else _DROPPED_BODIES * max_bytes):
        raise too_large
    body = bytearray()
    size = 0
    parts = aiter(request.stream())
    while True:
        with time_limit(clock, seconds) as window:
            came = await _some(parts, body, room=max_bytes - size if announced <= max_bytes else 0)
        if window.cancelled_caught:
            raise BodyTimeout(f"{_PROGRESS_BYTES // 1024} kB of the request's body took longer than {seconds:g} s")
        size += came
        if size > _DROPPED_BODIES * max_bytes or (came < _PROGRESS_BYTES and size > max_bytes):
            raise too_large
        if came < _PROGRESS_BYTES:
            return bytes(body)


async def _some(parts: AsyncIterator[bytes], body: bytearray, *, room: int) -> int:
    """Read the next 64 kB or more, or less at the end; how much came. What there is no room for is read all the same
    and let go: a client that is cut off while it sends sees a broken connection, not our answer."""
    came = 0
    async for part in parts:
        came += len(part)
        if came <= room:
            body += part
        if came >= _PROGRESS_BYTES:
            break
    return came


def _parse(body: bytes, *, members: int) -> Any:
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


def _lasting(value: dict[str, Any]) -> dict[str, Any]:
    """The payload without its cursor, which is one reading's and no part of what is to be run."""
    given: dict[str, Any] = value.get("stream_options") or {}
    options = {name: option for name, option in given.items() if name != "starting_after"}
    rest = {name: member for name, member in value.items() if name != "stream_options"}
    return {**rest, "stream_options": options} if options else rest


def _has_nul(value: Any) -> bool:
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                if "\0" in text:
                    return True
            case dict() as fields:  # pyright: ignore[reportUnknownVariableType]
                waiting += fields.keys()
                waiting += fields.values()
            case list() as items:  # pyright: ignore[reportUnknownVariableType]
                waiting += items
            case _:
                pass
    return False


def _tidy(error: ValidationError, value: Any) -> list[dict[str, Any]]:
    """Pydantic's errors with locations that a client can follow: without the names of a union's branches."""
    tidy: dict[tuple[tuple[int | str, ...], str], dict[str, Any]] = {}
    for found in error.errors(include_url=False, include_context=False, include_input=False):
        missing = found["type"] == "missing"
        loc = _within(value, found["loc"][:-1] if missing else found["loc"])
        if missing:
            loc = (*loc, found["loc"][-1])
        tidy.setdefault((loc, found["msg"]), {"loc": loc, "msg": found["msg"], "type": found["type"]})
    return list(tidy.values())


def _within(value: Any, loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The parts of a location that lead somewhere in what was sent."""
    path: list[int | str] = []
    for part in loc:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            continue
        path.append(part)
    return tuple(path)
