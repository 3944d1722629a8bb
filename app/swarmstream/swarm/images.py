"""What counts as an image in a payload: a web URL, a data URL, or bare base64."""

import base64
import binascii
import re
from contextlib import suppress

from swarmstream.errors import InvalidRequest, Location

_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)
_WEB_URL = re.compile(r"https?://[^\s/]", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_SIGNATURES = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"BM", "bmp"))


def image_url(image: str, *, location: Location) -> str:
    """The URL by which a provider is given an image; paths of files are never one.

    A web URL is handed to the provider; where that one wants bytes, `swarmstream.llm.image_fetcher` fetches them. Bare
    base64 may be wrapped and URL-safe.

    Raises:
        InvalidRequest: it is neither a web URL, nor a data URL of an image, nor base64 of a known image format.
    """
    image = image.strip()
    if _WEB_URL.match(image) or _DATA_URL.match(image):
        return image
    encoded = "".join(image.split()).replace("-", "+").replace("_", "/")
    head = b""
    if _BASE64.fullmatch(encoded):
        with suppress(binascii.Error):
            head = base64.b64decode(encoded[:32])
    if kind := image_kind(head):
        return f"data:image/{kind};base64,{encoded}"
    raise InvalidRequest("an image is an http(s) URL, a data:image/… URL or base64 of an image", location=location)


def image_kind(head: bytes) -> str | None:
    """The format of an image that begins so: `png`, `jpeg`, `gif`, `webp` or `bmp`; None for all else."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    return next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)


def is_web_url(image: str) -> bool:
    """Whether an image is named by where it is, not by what it holds."""
    return _WEB_URL.match(image) is not None
