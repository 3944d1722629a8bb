"""Images in payloads: a URL, a data URL or bare base64 becomes a content part of a message."""

import base64
import binascii
import re
from typing import Any

from app.errors import InvalidRequest, Location
from app.swarm.conversation import ChatMessage

_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)
_WEB_URL = re.compile(r"https?://[^\s/]", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_SIGNATURES = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"RIFF", "webp"), (b"BM", "bmp"))
_PART_TYPES = frozenset({"text", "image_url", "input_audio", "refusal"})


def image_part(image: str, *, location: Location) -> dict[str, Any]:
    """The content part for one image.

    A URL is handed to the provider, or fetched by litellm where the provider wants bytes; litellm's guard then
    refuses private addresses. Paths of files are never an image.

    Raises:
        InvalidRequest: it is neither a web URL, nor a data URL of an image, nor base64 of a known image format.
    """
    return {"type": "image_url", "image_url": {"url": _image_url(image, location)}}


def check_parts(message: ChatMessage, *, location: Location) -> None:
    """Refuse content parts that could make a provider's adapter read a file or reach a host on its own.

    Raises:
        InvalidRequest: a part of another type, or an image that `image_part` would refuse.
    """
    content = message.get("content")
    if not isinstance(content, list):
        return
    parts: list[dict[str, Any]] = content  # pyright: ignore[reportUnknownVariableType]
    for index, part in enumerate(parts):
        at = (*location, "content", index)
        if part.get("type") not in _PART_TYPES:
            raise InvalidRequest(f"content parts are one of {', '.join(sorted(_PART_TYPES))}", location=at)
        if part["type"] == "image_url":
            image: Any = part.get("image_url")
            url: Any = image.get("url") if isinstance(image, dict) else image  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
            if not isinstance(url, str):
                raise InvalidRequest("an image_url part needs a url", location=at)
            _image_url(url, at)


def _image_url(image: str, location: Location) -> str:
    image = image.strip()
    if _WEB_URL.match(image) or _DATA_URL.match(image):
        return image
    if _BASE64.fullmatch(image):
        try:
            head = base64.b64decode(image[:32], altchars=b"-_" if set("-_") & set(image) else None)
        except (binascii.Error, ValueError):
            head = b""
        for signature, kind in _SIGNATURES:
            if head.startswith(signature):
                return f"data:image/{kind};base64,{image}"
    raise InvalidRequest("an image is an http(s) URL, a data:image/… URL or base64 of an image", location=location)
