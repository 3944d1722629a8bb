"""Tokens by which a browser's EventSource reads one run: it can send no headers (docs/wire.md, section 5).

A token is `<job_id>.<unix seconds>.<signature>`. It is signed with the digest of the API key that asked for it, so that
it is worth nothing once that key is not one of ours any more, and survives a restart. It is for connecting at once;
the journal remembers by its digest that it did, for only then may its reader come back later.
"""

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256

from swarmstream.api.auth import KeyRing
from swarmstream.errors import InvalidToken

TOKEN_SECONDS = 60
"""How long a token may be used to connect, and to come back after its run's end."""


def stream_token(keys: KeyRing, owner: str, job_id: str, *, now: float) -> str:
    """A token for a run of this owner's, made now (Unix seconds)."""
    expires = int(now) + TOKEN_SECONDS
    return f"{job_id}.{expires}.{_signature(keys.secret(owner), job_id, expires)}"


def read_token(keys: KeyRing, token: str, job_id: str) -> tuple[str, int]:
    """Whose token it is, and until when (Unix seconds) it may be used to connect.

    Raises:
        InvalidToken: it is altered, for another run, or of a key that is gone.
    """
    its_job, _, rest = token.partition(".")
    expires, _, signature = rest.partition(".")
    if its_job == job_id and expires.isascii() and expires.isdigit() and len(expires) <= 12:
        for owner, secret in keys.secrets():
            # As bytes: of strings it takes ASCII ones only.
            if hmac.compare_digest(_signature(secret, job_id, int(expires)).encode(), signature.encode()):
                return owner, int(expires)
    raise InvalidToken("the stream token is not valid for this run")


def token_digest(token: str) -> bytes:
    """What a token is remembered by. It is taken of the signature: the number before it can be written in two ways."""
    return sha256(token.rpartition(".")[2].encode()).digest()


def _signature(secret: bytes, job_id: str, expires: int) -> str:
    signed = hmac.new(secret, f"stream-token {job_id} {expires}".encode(), sha256).digest()
    return urlsafe_b64encode(signed).rstrip(b"=").decode()
