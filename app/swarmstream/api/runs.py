"""Runs by their ids: how they stand, and their end on demand (docs/wire.md, section 5)."""

from functools import partial
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query
from starlette.responses import Response

from swarmstream.api.admission import ApiCall, Call
from swarmstream.api.auth import mask_key
from swarmstream.api.listing import Listing, WrittenPage
from swarmstream.api.run_parameters import JobId
from swarmstream.api.stream_tokens import TOKEN_SECONDS, make_stream_token
from swarmstream.clock import utc
from swarmstream.errors import InvalidRequest, StorageUnavailable, Unavailable, quote
from swarmstream.journal.records import Page, RunState, RunStatus
from swarmstream.wire import answers
from swarmstream.wire.shapes.runs import RunAnswer, StreamToken

router = APIRouter(prefix="/v1", tags=["runs"])

MAX_RUNS_LISTED = 100
_INCLUDED = frozenset(["output"])
"""What a list of runs has only where it is asked for."""
_END_SECONDS = 2.0
"""How long a request to cancel waits for the run's end, which takes a moment."""


@router.post("/runs/{job_id}/cancel", summary="Cancel a run")
async def cancel_run(job_id: JobId, call: Call) -> Response:
    """The run ends, and its readers see it end; one that has ended stays as it is. The answer is the run."""
    await call.runs.cancel(job_id, wait_seconds=_END_SECONDS)
    return _json(await _run_answer(call, job_id))


@router.post(
    "/runs/{job_id}/stream-token",
    summary="Make a token for a browser's EventSource",
    operation_id="create_stream_token",
)
async def make_token(job_id: JobId, call: Call) -> Response:
    """`new EventSource("/v1/runs/{job_id}/stream?token=…")` works without headers. It reads this run, nothing else."""
    await call.runs.status(job_id)
    token = make_stream_token(call.state["keys"], call.caller, job_id, now=call.state["clock"].unix())
    return _json(StreamToken(token=token, expires_in=TOKEN_SECONDS))


@router.get("/runs", summary="List your runs, newest first")
async def list_runs(
    call: Call,
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
        page = await call.runs.list(state=state, limit=limit, after=after)
    row = partial(_row, with_output=bool(include))
    return await Listing(call.runs, "data", row, _list_fields).response(page, state=state)


@router.delete("/runs/{job_id}", status_code=204, summary="Delete a finished run")
async def delete_run(job_id: JobId, call: Call) -> Response:
    """A run that goes on is refused: cancel it first."""
    await call.runs.delete(job_id)
    return Response(status_code=204)


@router.get("/runs/{job_id}", summary="Tell how a run stands")
async def get_run(job_id: JobId, call: Call) -> Response:
    """The run, with the output and the usage that there are by now."""
    return _json(await _run_answer(call, job_id))


@router.get("/swarm/logs", summary="List your latest runs as the hosted API does", operation_id="list_swarm_logs")
async def swarm_logs(call: Call) -> Response:
    """The same runs as `/v1/runs`, of the latest hundred those that 8 MB hold, in the hosted API's shape."""
    page = await call.runs.list(limit=MAX_RUNS_LISTED)
    masked = mask_key(call.request.headers)
    timestamp = utc(call.state["clock"]).isoformat()

    def row(run: RunStatus) -> dict[str, Any]:
        return {
            "id": run.record.job_id,
            "created_at": run.record.created_at.isoformat(),
            "api_key": masked,
            "category": "completion",
            "data": _row(run),
        }

    def rest(page: WrittenPage) -> dict[str, Any]:
        count = len(page.job_ids)
        return {"status": "success", "count": count, "has_more": page.has_more, "timestamp": timestamp}

    return await Listing(call.runs, "logs", row, rest).response(page)


def _list_fields(page: WrittenPage) -> dict[str, Any]:
    return {
        "object": "list",
        "first_id": page.job_ids[0] if page.job_ids else None,
        "last_id": page.job_ids[-1] if page.job_ids else None,
        "has_more": page.has_more,
    }


def _row(run: RunStatus, *, with_output: bool = True) -> RunAnswer:
    return answers.run_answer(run.summary, run, with_output=with_output)


async def _run_answer(call: ApiCall, job_id: str) -> RunAnswer:
    status = await call.runs.status(job_id)
    if status.is_waiting:
        raise Unavailable("the run waits to be taken up again; its stream tells when it goes on", retry_after_seconds=1)
    if status.fault is not None:
        raise StorageUnavailable("what is stored of this run is damaged and cannot be read")
    return answers.run_answer(status.summary, status)


def _json(document: RunAnswer | StreamToken) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
