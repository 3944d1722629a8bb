"""API keys, compared in constant time (docs/wire.md, section 1)."""

import hmac
from collections.abc import Iterable, Iterator
from hashlib import sha256

from starlette.datastructures import Headers

from swarmstream.errors import InvalidKey

_OWNER_LENGTH = 32
_LONG_KEY = 16


class KeyRing:
    """The keys that this server accepts. It keeps digests only."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in dict.fromkeys(keys)]

    def __len__(self) -> int:
        return len(self._digests)

    def authenticate(self, headers: Headers) -> str:
        """Return the owner's name of a request's key: `x-api-key`, else `Authorization: Bearer`.

        Raises:
            InvalidKey: there is no key, or it is not one of ours.
        """
        key = _read_key(headers)
        if not key and headers.get("authorization", "").strip():
            raise InvalidKey(
                "the key stands behind the word Bearer: send Authorization: Bearer <key>, or x-api-key: <key>"
            )
        if not key:
            raise InvalidKey("send an API key, as x-api-key: <key> or as Authorization: Bearer <key>")
        digest = sha256(key.encode()).digest()
        # All of them, whether or not one has matched: the time taken tells nothing.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise InvalidKey("this API key is not valid")
        return digest.hex()[:_OWNER_LENGTH]

    def secrets(self) -> Iterator[tuple[str, bytes]]:
        """Yield for each key its owner's name and the secret that the owner's stream tokens are signed with."""
        for digest in self._digests:
            yield digest.hex()[:_OWNER_LENGTH], digest

    def secret(self, owner: str) -> bytes:
        """Return the secret that this owner's stream tokens are signed with."""
        return dict(self.secrets())[owner]


def owner_name(key: str) -> str:
    """Return the opaque name of the key's holder: a digest, from which the key cannot be found."""
    return sha256(key.encode()).hexdigest()[:_OWNER_LENGTH]


def mask_key(headers: Headers) -> str:
    """Return the request's key as it may be shown: no more than its last four characters, if it is long."""
    key = _read_key(headers)
    return f"***{key[-4:]}" if len(key) >= _LONG_KEY else "***"


def _read_key(headers: Headers) -> str:
    """Return the key without the white space around it, which is no part of a header's value (RFC 9110, 5.5)."""
    return headers.get("x-api-key", "").strip() or _read_bearer(headers.get("authorization", ""))


def _read_bearer(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
