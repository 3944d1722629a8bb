"""Runs by their ids: their events again, from any point on, and their end on demand (WIRE.md, section 5)."""

import time
from contextlib import nullcontext, suppress
from copy import deepcopy
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from anyio import move_on_after
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from app.api.auth import masked_key
from app.api.deps import Caller, Operator, Runs, caller_of, parts_of
from app.api.stream import Reader, RunStream, framing_for
from app.api.stream_tokens import TOKEN_SECONDS, read_token, stream_token
from app.errors import InvalidRequest, InvalidToken, NotFound, StorageUnavailable
from app.events import RunEnded
from app.runs.journal import Page, RunState, RunStatus, Suspended
from app.runs.supervisor import Supervisor
from app.swarm.spec import MAX_COALESCE_MS
from app.wire import answers
from app.wire.schema import RunAnswer

router = APIRouter(prefix="/v1", tags=["runs"])

_MAX_CURSOR_DIGITS = 15
MAX_RUNS_LISTED = 100
_END_SECONDS = 2.0
"""How long a request to cancel waits for the run's end, which takes a moment."""


@router.get("/runs/{job_id}/stream", summary="Read a run's stream again")
async def read_run(
    job_id: str,
    request: Request,
    settings: Operator,
    runs: Runs,
    token: Annotated[str | None, Query()] = None,
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
    if token is None:
        status = await _status(runs, job_id, await caller_of(request))
    else:
        status = await _status_by_token(request, runs, job_id, token, resumes=last_event_id is not None)
    if status.state != "running" and after >= status.last_event_id:
        return Response(status_code=204)
    tail = await runs.journal.tail(job_id, after=0)
    first_available = tail.first_available or 1
    run = runs.live(job_id)
    reader = Reader(
        tail,
        run.reader if run else nullcontext,
        after=after,
        include_output=status.record.include_output if include_output is None else include_output,
        coalesce_ms=status.record.coalesce_ms if coalesce_ms is None else coalesce_ms,
        send_seconds=settings.send_seconds,
        first_available=first_available,
        summary=deepcopy(status.summary) if first_available > 1 else None,
    )
    framing = framing_for(request.headers)
    headers = {"Location": f"/v1/runs/{job_id}/stream"}
    return RunStream(reader, framing, heartbeat_seconds=settings.heartbeat_seconds, headers=headers)


@router.post("/runs/{job_id}/cancel", summary="Cancel a run")
async def cancel_run(job_id: str, caller: Caller, runs: Runs) -> Response:
    """The run ends, and its readers see it end; one that has ended stays as it is. The answer is the run."""
    await _status(runs, job_id, caller)
    await runs.journal.cancel(job_id)
    with move_on_after(_END_SECONDS):
        await _end(runs, job_id)
    return Response(orjson.dumps(await _run_answer(runs, job_id, caller)), media_type="application/json")


@router.post("/runs/{job_id}/stream-token", summary="A token for a browser's EventSource")
async def make_token(job_id: str, request: Request, caller: Caller, runs: Runs) -> Response:
    """`new EventSource("/v1/runs/{job_id}/stream?token=…")` works without headers. It reads this run, nothing else."""
    await _status(runs, job_id, caller)
    token = stream_token(parts_of(request)["keys"], caller, job_id, now=time.time())
    return Response(orjson.dumps({"token": token, "expires_in": TOKEN_SECONDS}), media_type="application/json")


@router.get("/runs", summary="Your runs, newest first")
async def list_runs(
    caller: Caller,
    runs: Runs,
    status: Annotated[Literal["queued"] | RunState | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_RUNS_LISTED)] = 20,
    after: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """Those of this key. `after` is the last id of the page before."""
    if status == "queued":  # a run begins as soon as it is admitted
        page = Page((), has_more=False)
    else:
        page = await runs.journal.list(caller, state=status, limit=limit, after=after)
    rows = [answers.run_answer(run.summary, run) for run in page.runs if run.summary.described is not None]
    listed: dict[str, Any] = {
        "object": "list",
        "data": rows,
        "first_id": rows[0]["job_id"] if rows else None,
        "last_id": rows[-1]["job_id"] if rows else None,
        "has_more": page.has_more,
    }
    return Response(orjson.dumps(listed), media_type="application/json")


@router.delete("/runs/{job_id}", status_code=204, summary="Forget a finished run")
async def delete_run(job_id: str, caller: Caller, runs: Runs) -> Response:
    """A run that goes on is refused: cancel it first."""
    await _status(runs, job_id, caller)
    await runs.journal.delete(job_id)
    return Response(status_code=204)


@router.get("/runs/{job_id}", summary="How a run stands")
async def get_run(job_id: str, caller: Caller, runs: Runs) -> Response:
    """The run, with the output and the usage that there are by now."""
    return Response(orjson.dumps(await _run_answer(runs, job_id, caller)), media_type="application/json")


@router.get("/swarm/logs", summary="Your latest runs, as the hosted API lists them")
async def swarm_logs(request: Request, caller: Caller, runs: Runs) -> Response:
    """The same runs as `/v1/runs`, the latest hundred, in the hosted API's shape."""
    page = await runs.journal.list(caller, limit=MAX_RUNS_LISTED)
    masked = masked_key(request.headers)
    logs = [
        {
            "id": run.record.job_id,
            "created_at": run.record.created_at.isoformat(),
            "api_key": masked,
            "category": "completion",
            "data": answers.run_answer(run.summary, run),
        }
        for run in page.runs
        if run.summary.described is not None
    ]
    listed: dict[str, Any] = {
        "status": "success",
        "count": len(logs),
        "logs": logs,
        "timestamp": datetime.now(UTC).isoformat(),
    }
    return Response(orjson.dumps(listed), media_type="application/json")


async def _end(runs: Supervisor, job_id: str) -> None:
    """Wait for the run's last event."""
    tail = await runs.journal.tail(job_id)
    with suppress(Suspended):  # the server stops: the run is told to be cancelled as far as it can be
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


async def _status_by_token(request: Request, runs: Supervisor, job_id: str, token: str, *, resumes: bool) -> RunStatus:
    """How the run stands that a token is for. Whoever resumes may come until a while after the run's end.

    Raises:
        InvalidToken: the token is none, is for another run, or comes too late.
    """
    owner, expires = read_token(parts_of(request)["keys"], token, job_id)
    try:
        status = await _status(runs, job_id, owner)
    except NotFound as error:
        raise InvalidToken("the stream token is not valid for this run") from error
    now = time.time()
    ended, described = status.summary.ended, status.summary.described
    if resumes and ended is not None and described is not None:
        expires = described.created_at.timestamp() + ended.t_ms / 1000 + TOKEN_SECONDS
    if now > expires and not (resumes and ended is None):
        raise InvalidToken("the stream token has expired")
    return status


async def _run_answer(runs: Supervisor, job_id: str, caller: str) -> RunAnswer:
    status = await _status(runs, job_id, caller)
    if status.fault is not None:
        raise StorageUnavailable("what is stored of this run is damaged and cannot be read")
    return answers.run_answer(status.summary, status)


def _cursor(given: str | None, name: str) -> int:
    if given is None:
        return 0
    if not (given.isascii() and given.isdigit() and len(given) <= _MAX_CURSOR_DIGITS):
        raise InvalidRequest("the cursor is the number of an event", location=(name,))
    return int(given)
