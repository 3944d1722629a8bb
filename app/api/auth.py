"""Who may call: API keys, compared in constant time (WIRE.md, section 1)."""

import hmac
from collections.abc import Iterable
from hashlib import sha256

from starlette.datastructures import Headers

from app.errors import InvalidKey

_OWNER_LENGTH = 32


class KeyRing:
    """The keys that this server accepts. It keeps digests only."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in keys]

    def owner(self, headers: Headers) -> str:
        """An opaque name for whoever holds the key of a request: `x-api-key`, else `Authorization: Bearer`.

        Raises:
            InvalidKey: there is no key, or it is not one of ours.
        """
        given = headers.get("x-api-key") or _bearer(headers.get("authorization", ""))
        if not given:
            raise InvalidKey("send an API key as x-api-key or as Authorization: Bearer")
        digest = sha256(given.encode()).digest()
        # All of them, whether or not one has matched: the time taken tells nothing.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise InvalidKey("this API key is not valid")
        return digest.hex()[:_OWNER_LENGTH]


def owner_of(key: str) -> str:
    """The opaque name for whoever holds this key."""
    return sha256(key.encode()).hexdigest()[:_OWNER_LENGTH]


def _bearer(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
