"""`GET /v1/runs/{job_id}/stream`: a run's events again, from any point on."""

from contextlib import nullcontext
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from app.api.deps import Caller, Operator, Runs
from app.api.stream import Reader, RunStream
from app.errors import InvalidRequest, NotFound
from app.swarm.spec import MAX_COALESCE_MS
from app.wire.framing import SSE

router = APIRouter(prefix="/v1/runs", tags=["runs"])

_MAX_CURSOR_DIGITS = 15


@router.get("/{job_id}/stream", summary="Read a run's stream again")
async def read_run(
    job_id: str,
    caller: Caller,
    settings: Operator,
    runs: Runs,
    last_event_id: Annotated[str | None, Header()] = None,
    starting_after: Annotated[str | None, Query()] = None,
    include_output: Annotated[bool | None, Query()] = None,
    coalesce_ms: Annotated[int | None, Query(ge=0, le=MAX_COALESCE_MS)] = None,
) -> Response:
    """Replay, then live. The cursor is `Last-Event-ID`, else `starting_after`, else the beginning; a finished run that
    has been read to its end answers 204, at which a browser's EventSource stops. How the stream is written defaults to
    what was posted."""
    if last_event_id is not None:
        after = _cursor(last_event_id, "Last-Event-ID")
    else:
        after = _cursor(starting_after, "starting_after")
    status = await runs.journal.status(job_id)
    if status.record.owner != caller:
        raise NotFound("there is no such run")
    if status.state != "running" and after >= status.last_event_id:
        return Response(status_code=204)
    run = runs.live(job_id)
    reader = Reader(
        await runs.journal.tail(job_id),
        run.reader if run else nullcontext,
        after=after,
        include_output=status.record.include_output if include_output is None else include_output,
        coalesce_ms=status.record.coalesce_ms if coalesce_ms is None else coalesce_ms,
    )
    return RunStream(reader, SSE, heartbeat_seconds=settings.heartbeat_seconds, headers={})


def _cursor(given: str | None, name: str) -> int:
    if given is None:
        return 0
    if not (given.isascii() and given.isdigit() and len(given) <= _MAX_CURSOR_DIGITS):
        raise InvalidRequest("the cursor is the number of an event", location=(name,))
    return int(given)
