"""Stream tokens, by which a browser's EventSource reads one run: it can send no headers (docs/wire.md, section 5).

A token is `<job_id>.<unix seconds>.<signature>`. It is signed with the digest of the API key that asked for it, so that
it is worth nothing once that key is not one of ours any more, and survives a restart.

| the request | until the token expires | afterwards |
|---|---|---|
| connects | admitted, and the token's digest is remembered with the run | refused |
| comes back, with `Last-Event-ID` | the same | admitted if the token is remembered, until 60 s after the run's end |

A token in a URL is easily leaked, so that it is for connecting at once; an EventSource that reads a long run must be
able to come back with the same URL all the same.
"""

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256

from swarmstream.api.auth import KeyRing
from swarmstream.errors import InvalidToken

TOKEN_SECONDS = 60
"""How long a token may be used to connect, and to come back after its run's end."""


def make_stream_token(keys: KeyRing, owner: str, job_id: str, *, now: float) -> str:
    """Return a token for a run of this owner's, made now (Unix seconds)."""
    expires = int(now) + TOKEN_SECONDS
    return f"{job_id}.{expires}.{_sign(keys.secret(owner), job_id, expires)}"


def read_token(keys: KeyRing, token: str, job_id: str) -> tuple[str, int]:
    """Return the owner who made a token for this run, and when it expires (Unix seconds).

    Raises:
        InvalidToken: it is altered, for another run, or of a key that is gone.
    """
    token_job_id, _, rest = token.partition(".")
    expires, _, signature = rest.partition(".")
    if token_job_id == job_id and expires.isascii() and expires.isdigit() and len(expires) <= 12:
        for owner, secret in keys.secrets():
            # As bytes: of strings it takes ASCII ones only.
            if hmac.compare_digest(_sign(secret, job_id, int(expires)).encode(), signature.encode()):
                return owner, int(expires)
    raise InvalidToken("the stream token is not valid for this run")


def token_digest(token: str) -> bytes:
    """Return what a token is remembered by: a digest of its signature, for its number can be written in two ways."""
    return sha256(token.rpartition(".")[2].encode()).digest()


def _sign(secret: bytes, job_id: str, expires: int) -> str:
    signature = hmac.new(secret, f"stream-token {job_id} {expires}".encode(), sha256).digest()
    return urlsafe_b64encode(signature).rstrip(b"=").decode()
