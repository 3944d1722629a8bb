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
import logging
from base64 import urlsafe_b64encode
from hashlib import sha256

from starlette.requests import Request

from swarmstream.api.admission import ApiCall, admit_owner
from swarmstream.api.auth import KeyRing
from swarmstream.api.state import state_of
from swarmstream.errors import InvalidToken, NotFound, StorageUnavailable
from swarmstream.journal.records import RunStatus

logger = logging.getLogger(__name__)

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


async def admit_token(request: Request, job_id: str, token: str, *, resumes: bool) -> tuple[ApiCall, RunStatus]:
    """Return the request as a call of the token's owner, and how the token's run stands. `resumes`: the reader has
    events of it already.

    Raises:
        InvalidToken: the token is not valid for this run, or comes too late.
        StorageUnavailable: the run cannot be read.
    """
    state = state_of(request)
    owner, expires = read_token(state["keys"], token, job_id)
    call = admit_owner(request, state, owner)
    try:
        status = await call.runs.status(job_id)
    except NotFound as error:
        raise InvalidToken("the stream token is not valid for this run") from error
    now = state["clock"].unix()
    if now <= expires:
        await _remember(call, job_id, token)
    elif not (
        resumes
        and (status.ended_at is None or now <= status.ended_at + TOKEN_SECONDS)
        and await call.runs.has_admitted_token(job_id, token_digest(token))
    ):
        raise InvalidToken("the stream token has expired")
    return call, status


async def _remember(call: ApiCall, job_id: str, token: str) -> None:
    try:
        await call.runs.admit_token(job_id, token_digest(token))
    except StorageUnavailable:
        # The run can be read all the same; only a reader that comes back later will be refused.
        logger.warning("run %s: it could not be written down that a stream token has connected", job_id)
    except NotFound as error:  # deleted a moment ago
        raise InvalidToken("the stream token is not valid for this run") from error


def _sign(secret: bytes, job_id: str, expires: int) -> str:
    signature = hmac.new(secret, f"stream-token {job_id} {expires}".encode(), sha256).digest()
    return urlsafe_b64encode(signature).rstrip(b"=").decode()
