"""Runs by their ids: their events again, from any point on, and their end on demand (WIRE.md, section 5)."""

from contextlib import nullcontext
from typing import Annotated

import orjson
from anyio import move_on_after
from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from app.api.deps import Caller, Operator, Runs
from app.api.stream import Reader, RunStream
from app.errors import InvalidRequest, NotFound
from app.events import RunEnded
from app.runs.journal import RunStatus
from app.runs.summary import Summary
from app.runs.supervisor import Supervisor
from app.swarm.spec import MAX_COALESCE_MS
from app.wire import answers
from app.wire.framing import SSE
from app.wire.schema import RunAnswer

router = APIRouter(prefix="/v1/runs", tags=["runs"])

_MAX_CURSOR_DIGITS = 15
_END_SECONDS = 2.0
"""How long a request to cancel waits for the run's end, which takes a moment."""


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
    status = await _status(runs, job_id, caller)
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


@router.post("/{job_id}/cancel", summary="Cancel a run")
async def cancel_run(job_id: str, caller: Caller, runs: Runs) -> Response:
    """The run ends, and its readers see it end; one that has ended stays as it is. The answer is the run."""
    await _status(runs, job_id, caller)
    await runs.journal.cancel(job_id)
    with move_on_after(_END_SECONDS):
        await _end(runs, job_id)
    return Response(orjson.dumps(await _run_answer(runs, job_id, caller)), media_type="application/json")


@router.get("/{job_id}", summary="How a run stands")
async def get_run(job_id: str, caller: Caller, runs: Runs) -> Response:
    """The run, with the output and the usage that there are by now."""
    return Response(orjson.dumps(await _run_answer(runs, job_id, caller)), media_type="application/json")


async def _end(runs: Supervisor, job_id: str) -> None:
    """Wait for the run's last event."""
    tail = await runs.journal.tail(job_id)
    while not any(isinstance(event, RunEnded) for _, event in await tail.read()):
        pass


async def _status(runs: Supervisor, job_id: str, caller: str) -> RunStatus:
    """How a run of this caller's stands.

    Raises:
        NotFound: there is none.
    """
    status = await runs.journal.status(job_id)
    if status.record.owner != caller:
        raise NotFound("there is no such run")
    return status


async def _run_answer(runs: Supervisor, job_id: str, caller: str) -> RunAnswer:
    status = await _status(runs, job_id, caller)
    tail = await runs.journal.tail(job_id)
    summary = Summary()
    read = 0
    while read < status.last_event_id and (entries := tail.available()):
        for read, event in entries:  # noqa: B007  # the last number is how far we have read
            summary.observe(event)
    return answers.run_answer(summary, status)


def _cursor(given: str | None, name: str) -> int:
    if given is None:
        return 0
    if not (given.isascii() and given.isdigit() and len(given) <= _MAX_CURSOR_DIGITS):
        raise InvalidRequest("the cursor is the number of an event", location=(name,))
    return int(given)
