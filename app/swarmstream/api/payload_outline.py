"""The outline of a request body before it is parsed: its size without images, the number of its parts, its depth.

A parser makes up to a hundred bytes of each byte that begins something, and the work on a payload grows with its parts;
an image is a single string and costs neither. So a body may be as large as photos are, and has to be small without
them. Before it is parsed, a string counts as an image if it begins like one; afterwards `image_bytes` measures the
places where images can stand.

Every check is a few passes over the bytes in C, some milliseconds a megabyte.
"""

import re
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, cast

from swarmstream.errors import BodyTooLarge, InvalidJson
from swarmstream.swarm.messages import ImagePart
from swarmstream.swarm.payloads import RunSpec, SwarmRequest

MAX_STRUCTURE: Final = 200_000
"""Structural characters: `{ } [ ] : , "` outside of strings, with the quotes around those."""
MAX_DEPTH: Final = 100

_MIN_IMAGE_BYTES = 1024
"""A shorter string counts as text."""
_IMAGE = re.compile(rb"(?:data:image/|[A-Za-z0-9+/_\\-]{64})", re.IGNORECASE)
"""The beginning of an image: of a data URL, or of base64; some encoders write `\\/` for a slash."""
_SLICE_BYTES = 1 << 20
_STRUCTURE = b'{}[]:,"'
_NOT_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_LEVELS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_LONG_NUMBER = re.compile(rb"(?<![0-9.])-?[0-9]{19,}+(?![0-9.eE])")


@dataclass(frozen=True, slots=True)
class PayloadLimits:
    """The largest body that the operator allows, in bytes."""

    max_body_bytes: int = 20 * 1024 * 1024
    max_payload_bytes: int = 1024 * 1024
    """Without images."""


def check_text(body: bytes, limits: PayloadLimits) -> int:
    """Check a body before it is parsed; return how many members its objects have in all.

    Raises:
        BodyTooLarge: it is too large without its images, or has too many parts.
        InvalidJson: it is nested too deep, or has an integer that parsing would change.
    """
    # Without escapes, each quote begins or ends a string: strings are every second piece.
    plain = _without_escapes(body)
    quotes = plain.count(b'"')
    if quotes > MAX_STRUCTURE:
        raise _too_many_parts()
    pieces = plain.split(b'"')
    if len(body) > limits.max_payload_bytes:
        images = sum(len(text) for text in pieces[1::2] if len(text) >= _MIN_IMAGE_BYTES and _IMAGE.match(text))
        check_size(len(body) - images, limits)
    outside = b'"'.join(pieces[::2])
    if quotes // 2 + len(outside) - len(outside.translate(None, _STRUCTURE)) > MAX_STRUCTURE:
        raise _too_many_parts()
    if _depth(outside) > MAX_DEPTH:
        raise InvalidJson(f"the body is nested more than {MAX_DEPTH} deep")
    if any(len(number) > 20 or not -(2**63) <= int(number) < 2**64 for number in _LONG_NUMBER.findall(outside)):
        raise InvalidJson("an integer has more than 64 bits; write it as a string")
    return outside.count(b":")


def check_size(size: int, limits: PayloadLimits) -> None:
    """Check the size of a payload without its images.

    Raises:
        BodyTooLarge: it is over the limit.
    """
    if size > limits.max_payload_bytes:
        raise BodyTooLarge(
            f"without its images the request's body is larger than this server's {limits.max_payload_bytes} bytes "
            "(SWARMSTREAM_MAX_PAYLOAD_BYTES)"
        )


def image_bytes(payload: RunSpec) -> int:
    """Count the characters of a payload that stand where images do."""
    images = [payload.img or "", *payload.imgs]
    messages = [*payload.history, *(payload.messages if isinstance(payload, SwarmRequest) else ())]
    for message in messages:
        if isinstance(message.content, list):
            images += [part.image_url.url for part in message.content if isinstance(part, ImagePart)]
    return sum(map(len, images))


def count_members(value: Any) -> int:
    """Count the members of all objects in a JSON value."""
    members = 0
    parts: list[Any] = [value]
    for part in parts:  # the list grows meanwhile
        if isinstance(part, dict):
            entries = cast("dict[str, Any]", part)
            members += len(entries)
            parts.extend(entries.values())
        elif isinstance(part, list):
            parts.extend(cast("list[Any]", part))
    return members


def _without_escapes(body: bytes) -> bytes:
    """Return the body without escaped quotes and backslashes.

    In slices: one pass that removes half of many megabytes would keep every other thread waiting.
    """
    if b"\\" not in body:
        return body
    slices: list[bytes] = []
    begun = b""
    for start in range(0, len(body), _SLICE_BYTES):
        part = (begun + body[start : start + _SLICE_BYTES]).replace(rb"\\", b"")
        begun = b"\\" if part.endswith(b"\\") else b""
        slices.append(part.removesuffix(begun).replace(rb"\"", b""))
    return b"".join(slices)


def _depth(outside: bytes) -> int:
    brackets = outside.translate(None, _NOT_BRACKETS)
    if len(brackets) <= MAX_DEPTH:
        return 0
    return max(accumulate(map(_LEVELS.__getitem__, brackets)))


def _too_many_parts() -> BodyTooLarge:
    return BodyTooLarge(
        f"the request's body has more than {MAX_STRUCTURE} structural characters ({{ }} [ ] : , \") outside its strings"
    )
