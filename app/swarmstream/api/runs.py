"""Runs by their ids: their events again, from any point on, and their end on demand (docs/wire.md, section 5)."""

import logging
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import WithJsonSchema
from starlette.responses import Response

from swarmstream.api.auth import mask_key
from swarmstream.api.listing import Listed, Listing
from swarmstream.api.resuming import check_cursor, open_reader, parse_cursor
from swarmstream.api.state import Caller, Operator, Runs, authenticate, state_of
from swarmstream.api.stream_tokens import TOKEN_SECONDS, read_token, stream_token, token_digest
from swarmstream.api.streaming import ReadOptions, RunStream, framing_for
from swarmstream.clock import time_limit, utc
from swarmstream.errors import InvalidRequest, InvalidToken, NotFound, StorageUnavailable, Unavailable, quote
from swarmstream.events import RunEnded
from swarmstream.journal.base import HandedOver, Page, RunState, RunStatus
from swarmstream.runs.supervisor import Supervisor
from swarmstream.shares import Owner, current_owner
from swarmstream.swarm.payloads import MAX_COALESCE_MS
from swarmstream.wire import answers
from swarmstream.wire.shapes.runs import RunAnswer, StreamToken

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/v1", tags=["runs"])

MAX_RUNS_LISTED = 100
JobId = Annotated[
    str, Path(description="The run's id, which its `metadata` event, its answer and its `Location` tell.")
]
Cursor = Annotated[str, WithJsonSchema({"type": "integer", "minimum": 0})]
"""Read by ourselves, for a refusal that says what it is."""
_INCLUDED = frozenset(["output"])
"""What a list of runs has only where it is asked for."""
_END_SECONDS = 2.0
"""How long a request to cancel waits for the run's end, which takes a moment."""


@router.get("/runs/{job_id}/stream", summary="Read a run's stream again", operation_id="stream_run")
async def read_run(
    job_id: JobId,
    request: Request,
    settings: Operator,
    runs: Runs,
    token: Annotated[
        str | None,
        Query(description="A stream token, in place of an API key: for EventSource, which sends no headers."),
    ] = None,
    last_event_id: Annotated[
        Cursor | None,
        Header(
            alias="Last-Event-ID",
            description="The id of the last event that the reader has; it wins over `starting_after`.",
        ),
    ] = None,
    starting_after: Annotated[
        Cursor | None, Query(description="The id of the last event that the reader has; without: from the first on.")
    ] = None,
    include_output: Annotated[
        bool | None,
        Query(description="Whether each `chunk` repeats what its turn has said so far; without: as it was posted."),
    ] = None,
    coalesce_ms: Annotated[
        int | None,
        Query(
            ge=0,
            le=MAX_COALESCE_MS,
            description="Joins neighbouring deltas of one turn over so many milliseconds; without: as it was posted.",
        ),
    ] = None,
) -> Response:
    """Replay, then live. The cursor is `Last-Event-ID`, else `starting_after`, else the beginning; a finished run that
    has been read to its end answers 204, at which a browser's EventSource stops; a cursor beyond its end is refused.
    How the stream is written defaults to what was posted."""
    name, given = ("starting_after", starting_after) if last_event_id is None else ("Last-Event-ID", last_event_id)
    after = parse_cursor(given, name)
    try:
        if token is None:
            status = await _status(runs, job_id, await authenticate(request))
        else:
            status = await _status_by_token(request, runs, job_id, token, resumes=last_event_id is not None)
    except StorageUnavailable:
        if runs.journal.is_open:
            raise
        # An EventSource that is answered 503 never comes back: this one is kept waiting, and then has to ask again.
        reader = ReadOptions(runs.journal.opening_tail(), after=after, clock=state_of(request)["clock"])
        return RunStream(reader, framing_for(request.headers), heartbeat_seconds=settings.heartbeat_seconds, headers={})
    check_cursor(after, status, (name,))
    if status.state != "running" and after >= status.last_event_id:
        return Response(status_code=204)
    reader = await open_reader(
        job_id,
        state_of(request),
        include_output=status.record.include_output if include_output is None else include_output,
        coalesce_ms=status.record.coalesce_ms if coalesce_ms is None else coalesce_ms,
        after=after,
        status=status,
    )
    framing = framing_for(request.headers)
    headers = {"Location": f"/v1/runs/{job_id}/stream"}
    return RunStream(reader, framing, heartbeat_seconds=settings.heartbeat_seconds, headers=headers)


@router.post("/runs/{job_id}/cancel", summary="Cancel a run")
async def cancel_run(job_id: JobId, request: Request, caller: Caller, runs: Runs) -> Response:
    """The run ends, and its readers see it end; one that has ended stays as it is. The answer is the run."""
    await _status(runs, job_id, caller)
    await runs.journal.cancel(job_id)
    with time_limit(state_of(request)["clock"], _END_SECONDS):
        await _end(runs, job_id)
    return Response(orjson.dumps(await _run_answer(runs, job_id, caller)), media_type="application/json")


@router.post(
    "/runs/{job_id}/stream-token",
    summary="Make a token for a browser's EventSource",
    operation_id="create_stream_token",
)
async def make_token(job_id: JobId, request: Request, caller: Caller, runs: Runs) -> Response:
    """`new EventSource("/v1/runs/{job_id}/stream?token=…")` works without headers. It reads this run, nothing else."""
    await _status(runs, job_id, caller)
    parts = state_of(request)
    token = stream_token(parts["keys"], caller, job_id, now=parts["clock"].unix())
    return Response(orjson.dumps(StreamToken(token=token, expires_in=TOKEN_SECONDS)), media_type="application/json")


@router.get("/runs", summary="List your runs, newest first")
async def list_runs(
    caller: Caller,
    runs: Runs,
    status: Annotated[
        Literal["queued"] | RunState | None, Query(description="Only runs that stand so; without: all of them.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_RUNS_LISTED, description="How many runs the page may have.")] = 20,
    after: Annotated[
        str | None, Query(max_length=100, description="The last id of the page before; without: the first page.")
    ] = None,
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


@router.delete("/runs/{job_id}", status_code=204, summary="Delete a finished run")
async def delete_run(job_id: JobId, caller: Caller, runs: Runs) -> Response:
    """A run that goes on is refused: cancel it first."""
    await _status(runs, job_id, caller)
    await runs.journal.delete(job_id)
    return Response(status_code=204)


@router.get("/runs/{job_id}", summary="Tell how a run stands")
async def get_run(job_id: JobId, caller: Caller, runs: Runs) -> Response:
    """The run, with the output and the usage that there are by now."""
    return Response(orjson.dumps(await _run_answer(runs, job_id, caller)), media_type="application/json")


@router.get("/swarm/logs", summary="List your latest runs as the hosted API does", operation_id="list_swarm_logs")
async def swarm_logs(request: Request, caller: Caller, runs: Runs) -> Response:
    """The same runs as `/v1/runs`, of the latest hundred those that 8 MB hold, in the hosted API's shape."""
    page = await runs.journal.list(caller, limit=MAX_RUNS_LISTED)
    masked = mask_key(request.headers)
    timestamp = utc(state_of(request)["clock"]).isoformat()

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
    with suppress(HandedOver):  # the server stops: the run is told to be cancelled as far as it can be
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
    keys = state_of(request)["keys"]
    owner, expires = read_token(keys, token, job_id)
    current_owner.set(Owner(owner, of=len(keys)))
    try:
        status = await _status(runs, job_id, owner)
    except NotFound as error:
        raise InvalidToken("the stream token is not valid for this run") from error
    now = state_of(request)["clock"].unix()
    if now <= expires:
        await _remember(runs, job_id, token)
    elif not (
        resumes
        and (status.ended_at is None or now <= status.ended_at + TOKEN_SECONDS)
        and await runs.journal.has_admitted(job_id, token_digest(token))
    ):
        raise InvalidToken("the stream token has expired")
    return status


async def _remember(runs: Supervisor, job_id: str, token: str) -> None:
    try:
        await runs.journal.admit_token(job_id, token_digest(token))
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
