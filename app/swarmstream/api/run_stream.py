"""A run's stream, read again from any event on (docs/wire.md, section 5)."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import WithJsonSchema
from starlette.responses import Response

from swarmstream.api.admission import ApiCall, admit
from swarmstream.api.resuming import check_cursor, open_reader, parse_cursor
from swarmstream.api.state import state_of
from swarmstream.api.stream_tokens import admit_token
from swarmstream.api.streaming import ReadOptions, RunStream, framing_for
from swarmstream.errors import StorageUnavailable
from swarmstream.journal.records import RunStatus
from swarmstream.swarm.payloads import MAX_COALESCE_MS

router = APIRouter(prefix="/v1", tags=["runs"])

JobId = Annotated[
    str, Path(description="The run's id, which its `metadata` event, its answer and its `Location` tell.")
]
_Cursor = Annotated[str, WithJsonSchema({"type": "integer", "minimum": 0})]
"""Read by ourselves, for a refusal that says what it is."""
_Token = Annotated[
    str | None,
    Query(description="A stream token, in place of an API key: for EventSource, which sends no headers."),
]
_LastEventId = Annotated[
    _Cursor | None,
    Header(
        alias="Last-Event-ID",
        description="The id of the last event that the reader has; it wins over `starting_after`.",
    ),
]
_StartingAfter = Annotated[
    _Cursor | None, Query(description="The id of the last event that the reader has; without: from the first on.")
]
_IncludeOutput = Annotated[
    bool | None,
    Query(description="Whether each `chunk` repeats what its turn has said so far; without: as it was posted."),
]
_CoalesceMs = Annotated[
    int | None,
    Query(
        ge=0,
        le=MAX_COALESCE_MS,
        description="Joins neighbouring deltas of one turn over so many milliseconds; without: as it was posted.",
    ),
]


@router.get("/runs/{job_id}/stream", summary="Read a run's stream again", operation_id="stream_run")
async def read_run(
    job_id: JobId,
    request: Request,
    token: _Token = None,
    last_event_id: _LastEventId = None,
    starting_after: _StartingAfter = None,
    include_output: _IncludeOutput = None,
    coalesce_ms: _CoalesceMs = None,
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
        return await admit_token(request, job_id, token, resumes=resumes)
    call = await admit(request)
    return call, await call.runs.status(job_id)


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
