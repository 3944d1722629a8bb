"""The images of a payload: web URLs, data URLs, or bare base64."""

import base64
import binascii
import re
from contextlib import suppress

from swarmstream.errors import InvalidRequest, Location
from swarmstream.llm.images import image_format, is_web_url

_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


def image_url(image: str, *, location: Location) -> str:
    """Return the URL by which a provider gets an image; paths of files are refused.

    A web URL goes to the provider; for a provider that wants bytes, `swarmstream.llm.image_fetcher` fetches them.
    Bare base64 may be wrapped and URL-safe.

    Raises:
        InvalidRequest: it is neither a web URL, nor a data URL of an image, nor base64 of a known image format.
    """
    image = image.strip()
    if is_web_url(image) or _DATA_URL.match(image):
        return image
    encoded = "".join(image.split()).replace("-", "+").replace("_", "/")
    head = b""
    if _BASE64.fullmatch(encoded):
        with suppress(binascii.Error):
            head = base64.b64decode(encoded[:32])
    if kind := image_format(head):
        return f"data:image/{kind};base64,{encoded}"
    raise InvalidRequest("an image is an http(s) URL, a data:image/… URL or base64 of an image", location=location)
