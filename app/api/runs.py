"""Runs by their ids: their events again, from any point on, and their end on demand (WIRE.md, section 5)."""

import logging
from contextlib import nullcontext, suppress
from copy import deepcopy
from functools import partial
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from app.api.auth import masked_key
from app.api.deps import Caller, Operator, Runs, caller_of, parts_of
from app.api.listing import Listed, Listing
from app.api.stream import Reader, RunStream, framing_for
from app.api.stream_tokens import TOKEN_SECONDS, digest_of, read_token, stream_token
from app.clock import time_limit, utc
from app.errors import InvalidRequest, InvalidToken, NotFound, StorageUnavailable, Unavailable, quote
from app.events import RunEnded
from app.runs.journal import MAX_EVENT_ID, Page, RunState, RunStatus, Suspended
from app.runs.supervisor import Supervisor
from app.shares import Owner, owner_of_context
from app.swarm.spec import MAX_COALESCE_MS
from app.wire import answers
from app.wire.schema import RunAnswer

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/v1", tags=["runs"])

MAX_RUNS_LISTED = 100
_INCLUDED = frozenset(["output"])
"""What a list of runs has only where it is asked for."""
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
    has been read to its end answers 204, at which a browser's EventSource stops; a cursor beyond its end is refused.
    How the stream is written defaults to what was posted."""
    if last_event_id is not None:
        after = _cursor(last_event_id, "Last-Event-ID")
    else:
        after = _cursor(starting_after, "starting_after")
    try:
        if token is None:
            status = await _status(runs, job_id, await caller_of(request))
        else:
            status = await _status_by_token(request, runs, job_id, token, resumes=last_event_id is not None)
    except StorageUnavailable:
        if runs.journal.is_open:
            raise
        # An EventSource that is answered 503 never comes back: this one is kept waiting, and then has to ask again.
        reader = Reader(runs.journal.opening_tail(), after=after, clock=parts_of(request)["clock"])
        return RunStream(reader, framing_for(request.headers), heartbeat_seconds=settings.heartbeat_seconds, headers={})
    last = status.last_event_id
    if status.state != "running" and after >= last:
        if after > last and status.fault is None:
            name = "starting_after" if last_event_id is None else "Last-Event-ID"
            raise InvalidRequest(f"the cursor is beyond the run's last event, which is {last}", location=(name,))
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
        first_available=first_available,
        summary=deepcopy(status.summary) if first_available > 1 else None,
        clock=parts_of(request)["clock"],
    )
    framing = framing_for(request.headers)
    headers = {"Location": f"/v1/runs/{job_id}/stream"}
    return RunStream(reader, framing, heartbeat_seconds=settings.heartbeat_seconds, headers=headers)


@router.post("/runs/{job_id}/cancel", summary="Cancel a run")
async def cancel_run(job_id: str, request: Request, caller: Caller, runs: Runs) -> Response:
    """The run ends, and its readers see it end; one that has ended stays as it is. The answer is the run."""
    await _status(runs, job_id, caller)
    await runs.journal.cancel(job_id)
    with time_limit(parts_of(request)["clock"], _END_SECONDS):
        await _end(runs, job_id)
    return Response(orjson.dumps(await _run_answer(runs, job_id, caller)), media_type="application/json")


@router.post("/runs/{job_id}/stream-token", summary="A token for a browser's EventSource")
async def make_token(job_id: str, request: Request, caller: Caller, runs: Runs) -> Response:
    """`new EventSource("/v1/runs/{job_id}/stream?token=…")` works without headers. It reads this run, nothing else."""
    await _status(runs, job_id, caller)
    parts = parts_of(request)
    token = stream_token(parts["keys"], caller, job_id, now=parts["clock"].unix())
    return Response(orjson.dumps({"token": token, "expires_in": TOKEN_SECONDS}), media_type="application/json")


@router.get("/runs", summary="Your runs, newest first")
async def list_runs(
    caller: Caller,
    runs: Runs,
    status: Annotated[Literal["queued"] | RunState | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_RUNS_LISTED)] = 20,
    after: Annotated[str | None, Query(max_length=100)] = None,
    include: Annotated[
        list[str] | None, Query(description="`output`: each run with what its agents said, as it is read by its id.")
    ] = None,
) -> Response:
    """Those of this key. `after` is the last id of the page before. A page ends before 8 MB, but behind one run."""
    if unknown := set(include or ()).difference(_INCLUDED):
        raise InvalidRequest(f"a list of runs can include output, not {quote(min(unknown))}", location=("include",))
    state: RunState | None = None if status == "queued" else status
    if status == "queued":  # a run begins as soon as it is admitted
        page = Page((), has_more=False)
    else:
        page = await runs.journal.list(caller, state=state, limit=limit, after=after)

    def rest(listed: Listed) -> dict[str, Any]:
        return {
            "object": "list",
            "first_id": listed.job_ids[0] if listed.job_ids else None,
            "last_id": listed.job_ids[-1] if listed.job_ids else None,
            "has_more": listed.has_more,
        }

    row = partial(_row, with_output=bool(include))
    return await Listing(runs.journal, caller, "data", row, rest).response(page, state=state)


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
    """The same runs as `/v1/runs`, of the latest hundred those that 8 MB hold, in the hosted API's shape."""
    page = await runs.journal.list(caller, limit=MAX_RUNS_LISTED)
    masked = masked_key(request.headers)
    timestamp = utc(parts_of(request)["clock"]).isoformat()

    def row(run: RunStatus) -> dict[str, Any]:
        return {
            "id": run.record.job_id,
            "created_at": run.record.created_at.isoformat(),
            "api_key": masked,
            "category": "completion",
            "data": _row(run),
        }

    def rest(listed: Listed) -> dict[str, Any]:
        count = len(listed.job_ids)
        return {"status": "success", "count": count, "has_more": listed.has_more, "timestamp": timestamp}

    return await Listing(runs.journal, caller, "logs", row, rest).response(page)


def _row(run: RunStatus, *, with_output: bool = True) -> RunAnswer:
    return answers.run_answer(run.summary, run, with_output=with_output)


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
    return await runs.journal.status(job_id, owner=caller)


async def _status_by_token(request: Request, runs: Supervisor, job_id: str, token: str, *, resumes: bool) -> RunStatus:
    """How the run stands that a token is for. Whoever connected in time and resumes may come until a while after the
    run's end, also after a restart.

    Raises:
        InvalidToken: the token is none, is for another run, or comes too late.
    """
    keys = parts_of(request)["keys"]
    owner, expires = read_token(keys, token, job_id)
    owner_of_context.set(Owner(owner, of=len(keys)))
    try:
        status = await _status(runs, job_id, owner)
    except NotFound as error:
        raise InvalidToken("the stream token is not valid for this run") from error
    now = parts_of(request)["clock"].unix()
    if now <= expires:
        await _remember(runs, job_id, token)
    elif not (
        resumes
        and (status.ended_at is None or now <= status.ended_at + TOKEN_SECONDS)
        and await runs.journal.has_admitted(job_id, digest_of(token))
    ):
        raise InvalidToken("the stream token has expired")
    return status


async def _remember(runs: Supervisor, job_id: str, token: str) -> None:
    try:
        await runs.journal.admit_token(job_id, digest_of(token))
    except StorageUnavailable:
        # What there is can be read all the same; only who resumes later will be refused.
        logger.warning("run %s: it could not be written down that a stream token has connected", job_id)
    except NotFound as error:  # deleted a moment ago
        raise InvalidToken("the stream token is not valid for this run") from error


async def _run_answer(runs: Supervisor, job_id: str, caller: str) -> RunAnswer:
    status = await _status(runs, job_id, caller)
    if status.is_waiting:
        raise Unavailable("the run waits to be taken up again; its stream tells when it goes on", retry_after_seconds=1)
    if status.fault is not None:
        raise StorageUnavailable("what is stored of this run is damaged and cannot be read")
    return answers.run_answer(status.summary, status)


def _cursor(given: str | None, name: str) -> int:
    if given is None:
        return 0
    if not (given.isascii() and given.isdigit() and len(given) <= 16 and int(given) <= MAX_EVENT_ID):
        raise InvalidRequest("the cursor is the number of an event", location=(name,))
    return int(given)
