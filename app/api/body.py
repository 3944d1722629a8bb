"""How a request's body is read: within limits of size and time, as strict JSON."""

import re
from typing import Any, TypeVar

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import Request

from app.clock import Clock, time_limit
from app.errors import BodyTimeout, BodyTooLarge, InvalidJson, NotJson
from app.swarm.spec import Payload

SpecT = TypeVar("SpecT", bound=Payload)

_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)


async def read_spec(
    request: Request, model: type[SpecT], *, max_bytes: int, seconds: float, clock: Clock
) -> tuple[SpecT, bytes]:
    """The body as a payload of this kind, and as JSON that is the same for the same payload.

    Raises:
        NotJson: the content type says that it is something else.
        BodyTooLarge, BodyTimeout: there is more of it, or it takes longer to come, than the operator allows.
        InvalidJson: it is not JSON that we accept.
        RequestValidationError: it is of the wrong shape.
    """
    content_type = request.headers.get("content-type")
    if content_type is not None and not _JSON.fullmatch(content_type.strip()):
        raise NotJson("send the payload as application/json")
    with time_limit(clock, seconds) as deadline:
        body = await _read(request, max_bytes)
    if deadline.cancelled_caught:
        raise BodyTimeout(f"the request's body did not arrive within {seconds:g} s")
    value = _parse(body)  # pyright: ignore[reportPossiblyUnboundVariable]
    try:
        spec = model.model_validate(value)
    except ValidationError as error:
        raise RequestValidationError(_tidy(error, value)) from None
    try:
        return spec, orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # it reads what is nested deeper than it writes
        return spec, body  # pyright: ignore[reportPossiblyUnboundVariable]


async def _read(request: Request, max_bytes: int) -> bytes:
    too_large = BodyTooLarge(f"the request's body is larger than this server's {max_bytes} bytes")
    declared = request.headers.get("content-length", "")
    waits = "100-continue" in request.headers.get("expect", "")
    if waits and declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    body = bytearray()
    size = 0
    async for part in request.stream():
        size += len(part)
        # What is too much is read all the same and let go: a client that is cut off while it
        # sends sees a broken connection, not our answer.
        if size <= max_bytes:
            body += part
    if size > max_bytes:
        raise too_large
    return bytes(body)


def _parse(body: bytes) -> Any:
    if not body:
        raise InvalidJson("the request has no body")
    try:
        # Refuses NaN, lone surrogates, broken UTF-8 and nesting beyond 1,024 levels.
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidJson(f"the body is not valid JSON: {error.msg} ({where})") from None
    if rb"\u0000" in body and _has_nul(value):
        raise InvalidJson("strings must not contain NUL characters")
    return value


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
