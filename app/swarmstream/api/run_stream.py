"""A run's stream, read again from any event on (docs/wire.md, section 5)."""

import logging

from fastapi import APIRouter, Request
from starlette.responses import Response

from swarmstream.api.admission import ApiCall, admit, admit_owner
from swarmstream.api.resuming import check_cursor, open_reader, parse_cursor
from swarmstream.api.run_parameters import CoalesceMs, IncludeOutput, JobId, LastEventId, StartingAfter, Token
from swarmstream.api.state import state_of
from swarmstream.api.stream_tokens import TOKEN_SECONDS, read_token, token_digest
from swarmstream.api.streaming import ReadOptions, RunStream, framing_for
from swarmstream.errors import InvalidToken, NotFound, StorageUnavailable
from swarmstream.journal.records import RunStatus

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/v1", tags=["runs"])


@router.get("/runs/{job_id}/stream", summary="Read a run's stream again", operation_id="stream_run")
async def read_run(
    job_id: JobId,
    request: Request,
    token: Token = None,
    last_event_id: LastEventId = None,
    starting_after: StartingAfter = None,
    include_output: IncludeOutput = None,
    coalesce_ms: CoalesceMs = None,
) -> Response:
    """Replay, then live. The cursor is `Last-Event-ID`, else `starting_after`, else the beginning; a finished run that
    has been read to its end answers 204, at which a browser's EventSource stops; a cursor beyond its end is refused.
    How the stream is written defaults to what was posted."""
    name, cursor = ("starting_after", starting_after) if last_event_id is None else ("Last-Event-ID", last_event_id)
    after = parse_cursor(cursor, name)
    try:
        call, status = await _admit_reader(request, job_id, token, resumes=last_event_id is not None)
    except StorageUnavailable:
        if (waiting := _waiting_stream(request, after)) is None:
            raise
        return waiting
    check_cursor(after, status, (name,))
    if status.state != "running" and after >= status.last_event_id:
        return Response(status_code=204)
    reader = await open_reader(
        call.runs,
        job_id,
        clock=call.state["clock"],
        include_output=status.record.include_output if include_output is None else include_output,
        coalesce_ms=status.record.coalesce_ms if coalesce_ms is None else coalesce_ms,
        after=after,
        status=status,
    )
    return _stream(request, reader, {"Location": f"/v1/runs/{job_id}/stream"})


async def _admit_reader(
    request: Request, job_id: str, token: str | None, *, resumes: bool
) -> tuple[ApiCall, RunStatus]:
    """Return the request as a call of the run's owner, by the token if there is one, and how the run stands.

    Raises:
        InvalidKey, InvalidToken: the request may not read.
        NotFound: the owner has no such run.
        StorageUnavailable: the run cannot be read.
    """
    if token is not None:
        return await _admit_token(request, job_id, token, resumes=resumes)
    call = await admit(request)
    return call, await call.runs.status(job_id)


async def _admit_token(request: Request, job_id: str, token: str, *, resumes: bool) -> tuple[ApiCall, RunStatus]:
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


def _waiting_stream(request: Request, after: int) -> Response | None:
    """Return a stream of heartbeats that breaks off once the journal is open, so that its reader comes again: an
    EventSource that is answered 503 never does. None if the journal is open."""
    state = state_of(request)
    if (cursor := state["supervisor"].opening_cursor()) is None:
        return None
    return _stream(request, ReadOptions(cursor, after=after, clock=state["clock"]), {})


def _stream(request: Request, reader: ReadOptions, headers: dict[str, str]) -> Response:
    heartbeat_seconds = state_of(request)["settings"].heartbeat_seconds
    return RunStream(reader, framing_for(request.headers), heartbeat_seconds=heartbeat_seconds, headers=headers)
