"""Who may call: API keys, compared in constant time (docs/wire.md, section 1)."""

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

    def owner(self, headers: Headers) -> str:
        """An opaque name for whoever holds the key of a request: `x-api-key`, else `Authorization: Bearer`.

        Raises:
            InvalidKey: there is no key, or it is not one of ours.
        """
        given = _given(headers)
        if not given and headers.get("authorization", "").strip():
            raise InvalidKey(
                "the key stands behind the word Bearer: send Authorization: Bearer <key>, or x-api-key: <key>"
            )
        if not given:
            raise InvalidKey("send an API key, as x-api-key: <key> or as Authorization: Bearer <key>")
        digest = sha256(given.encode()).digest()
        # All of them, whether or not one has matched: the time taken tells nothing.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise InvalidKey("this API key is not valid")
        return digest.hex()[:_OWNER_LENGTH]

    def secrets(self) -> Iterator[tuple[str, bytes]]:
        """For each key, its owner's name and what tokens of theirs are signed with."""
        for digest in self._digests:
            yield digest.hex()[:_OWNER_LENGTH], digest

    def secret(self, owner: str) -> bytes:
        """What tokens of this owner's are signed with."""
        return dict(self.secrets())[owner]


def owner_name(key: str) -> str:
    """The opaque name for whoever holds this key."""
    return sha256(key.encode()).hexdigest()[:_OWNER_LENGTH]


def mask_key(headers: Headers) -> str:
    """The key of a request as it may be shown: no more than its last four characters, of a long one."""
    given = _given(headers)
    return f"***{given[-4:]}" if len(given) >= _LONG_KEY else "***"


def _given(headers: Headers) -> str:
    """The key, without the white space around it, which is no part of a header's value (RFC 9110, section 5.5)."""
    return headers.get("x-api-key", "").strip() or _bearer(headers.get("authorization", ""))


def _bearer(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
