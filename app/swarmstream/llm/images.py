"""Formats of images by their first bytes, and their web URLs."""

import re

_WEB_URL = re.compile(r"https?://[^\s/]", re.IGNORECASE)
_SIGNATURES = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"BM", "bmp"))


def image_format(head: bytes) -> str | None:
    """Return the format of an image that begins with `head`: `png`, `jpeg`, `gif`, `webp` or `bmp`; else None."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    return next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)


def is_web_url(image: str) -> bool:
    """Return True if an image is given by its web address, not by its bytes."""
    return _WEB_URL.match(image) is not None
