"""What images are: their formats, by their first bytes, and the URLs that name them."""

import re

_WEB_URL = re.compile(r"https?://[^\s/]", re.IGNORECASE)
_SIGNATURES = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"BM", "bmp"))


def image_format(head: bytes) -> str | None:
    """The format of an image that begins so: `png`, `jpeg`, `gif`, `webp` or `bmp`; None for all else."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    return next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)


def is_web_url(image: str) -> bool:
    """Whether an image is named by where it is, not by what it holds."""
    return _WEB_URL.match(image) is not None
