"""The completion routes: a payload becomes a run, its answer a reading of that run.

They take their request whole, and ask for its parts themselves: resolving six annotated dependencies takes FastAPI as
long as everything that we do between the request and the first call of a model.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256

import orjson
from anyio import TaskHandle, create_task_group
from fastapi import APIRouter, Request
from starlette.responses import Response

from swarmstream.api.aside import aside
from swarmstream.api.body import Posted, SpecT, payload_of, read_body
from swarmstream.api.deps import Parts, caller_of, parts_of
from swarmstream.api.payload_text import PayloadLimits
from swarmstream.api.problems import waiting_run
from swarmstream.api.resuming import check_cursor, cursor_of, reader_of
from swarmstream.api.stream import RunDocument, RunStream, framing_for
from swarmstream.errors import InvalidRequest, Location, McpHostRefused
from swarmstream.journal.base import AlreadyClaimed, Claim
from swarmstream.runs.job import Job, agent_job, swarm_job
from swarmstream.runs.limits import plan_limits
from swarmstream.runs.supervisor import Supervisor
from swarmstream.swarm.plan import Compiled, compile_agent, compile_swarm
from swarmstream.swarm.spec import AgentRequest, RunSpec, SwarmRequest
from swarmstream.tools.mcp import McpHub
from swarmstream.tools.mcp_server import McpServer
from swarmstream.wire.schema import QueuedRun

router = APIRouter(prefix="/v1", tags=["completions"])

_LOOK_SECONDS = 2.0
"""How long the first byte may wait for the tool list of an MCP server."""

_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@router.post("/agent/completions", summary="Run one agent", operation_id="run_agent")
async def complete_agent(request: Request) -> Response:
    """Its answer comes as one JSON document at the end, or as a stream of events where `stream` or
    `agent_config.streaming_on` is true: Server-Sent Events, or JSON lines with `Accept: application/x-ndjson`."""
    parts, caller = parts_of(request), await caller_of(request)

    def prepare(payload: AgentRequest) -> _Prepared:
        compiled = compile_agent(payload, parts["registry"], plan_limits(parts["settings"]), parts["tools"].of(caller))
        return _Prepared(compiled, agent_job(payload, compiled, owner=caller))

    return await _complete(request, parts, caller, AgentRequest, prepare)


@router.post("/swarm/completions", summary="Run a swarm of agents", operation_id="run_swarm")
async def complete_swarm(request: Request) -> Response:
    """What the agents say comes as one JSON document at the end, or as a stream of events where `stream` is true:
    Server-Sent Events, or JSON lines with `Accept: application/x-ndjson`. Each piece of text says whose it is."""
    parts, caller = parts_of(request), await caller_of(request)

    def prepare(payload: SwarmRequest) -> _Prepared:
        compiled = compile_swarm(payload, parts["registry"], plan_limits(parts["settings"]), parts["tools"].of(caller))
        return _Prepared(compiled, swarm_job(payload, compiled, owner=caller))

    return await _complete(request, parts, caller, SwarmRequest, prepare)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What a payload came to."""

    compiled: Compiled
    job: Job


async def _body(request: Request, parts: Parts) -> bytes:
    return await read_body(
        request, _payload_limits(parts), seconds=parts["settings"].body_seconds, clock=parts["clock"]
    )


def _payload_limits(parts: Parts) -> PayloadLimits:
    settings = parts["settings"]
    return PayloadLimits(settings.max_body_bytes, settings.max_payload_bytes)


async def _look_at_servers(compiled: Compiled, mcp: McpHub) -> None:
    """Refuse an MCP server whose name turns out to lead where it must not. What is merely down or slow is told in the
    run, which goes on without it."""
    if not compiled.mcp_servers:
        return
    looks: list[tuple[TaskHandle[McpHostRefused | None], Location]] = []
    async with create_task_group() as tasks:
        looks += [
            (tasks.create_task(_refusal(mcp, server)), location) for server, location in compiled.mcp_servers.items()
        ]
    for look, location in looks:
        if (refusal := look.return_value) is not None:
            refusal.location = location
            raise refusal


async def _refusal(mcp: McpHub, server: McpServer) -> McpHostRefused | None:
    try:
        await mcp.look(server, seconds=_LOOK_SECONDS)
    except McpHostRefused as error:
        return error
    return None


async def _complete(
    request: Request, parts: Parts, caller: str, model: type[SpecT], prepare: Callable[[SpecT], _Prepared]
) -> Response:
    """Answer with a run of the payload: one that is begun now, or the one that its `Idempotency-Key` has. That one is
    looked for before anything is made of the payload, which may have become wrong since, by an alias that is gone."""
    body, runs = await _body(request, parts), parts["supervisor"]
    has_key = "idempotency-key" in request.headers

    def read() -> tuple[Posted[SpecT], str, _Prepared | None]:
        posted = payload_of(body, model, _payload_limits(parts))
        return posted, posted.digest() if has_key else "", None if has_key else prepare(posted.payload)

    posted, digest, prepared = await aside(body, read)
    payload = posted.payload
    claim = _claim(request, digest, caller) if has_key else None
    after, cursor = _cursor(request, payload)
    request_id: str = request.state.request_id
    headers: dict[str, str] = {}
    if after:
        job_id, is_known = await _resumed(claim, cursor, runs), True
    elif claim is not None and (known := await runs.run_of(claim)) is not None:
        job_id, is_known = known, True
    else:
        prepared = prepared or await aside(body, partial(prepare, payload))
        await _look_at_servers(prepared.compiled, parts["mcp"])
        try:
            run = await runs.start(_asked_by(request, posted.body, claim, payload, prepared.job))
            job_id, is_known = run.job_id, False
        except AlreadyClaimed as claimed:
            job_id, is_known = claimed.job_id, True
    if is_known:
        headers["Idempotent-Replayed"] = "true"
    headers["Location"] = f"/v1/runs/{job_id}/stream"
    streams = payload.streams
    if payload.background and not streams:
        queued = orjson.dumps(QueuedRun(job_id=job_id, status="queued"))
        return Response(queued, 202, headers=headers, media_type="application/json")
    status = await runs.journal.status(job_id) if is_known else None
    if status is not None and status.is_waiting and not streams:
        return waiting_run(job_id, request_id, headers)
    if status is not None and streams:
        check_cursor(after, status, cursor)
    options = payload.stream_options
    reader = await reader_of(
        job_id,
        parts,
        include_output=options.include_output,
        coalesce_ms=options.coalesce_ms,
        after=after,
        status=status,
    )
    if not streams:
        return RunDocument(
            reader,
            job_id=job_id,
            request_id=request_id,
            headers=headers,
            may_be_repeated=claim is not None,
        )
    framing = framing_for(request.headers)
    return RunStream(reader, framing, heartbeat_seconds=parts["settings"].heartbeat_seconds, headers=headers)


def _cursor(request: Request, payload: RunSpec) -> tuple[int, Location]:
    """The last event that the client has, and what says so: as where a run is read, the header wins."""
    given = request.headers.get("last-event-id")
    if given is None:
        return payload.stream_options.starting_after, ("stream_options", "starting_after")
    return cursor_of(given, "Last-Event-ID"), ("Last-Event-ID",)


async def _resumed(claim: Claim | None, cursor: Location, runs: Supervisor) -> str:
    """The id of the run that a client goes on reading. None is begun for it: whoever has a run's events and was cut off
    would pay for a second one, and join its words to those of the first.

    Raises:
        InvalidRequest: the request does not say which run.
        NotFound: there is none, or no longer.
    """
    if claim is None:
        raise InvalidRequest(
            "without the Idempotency-Key of the stream's first request this would begin a second run: send one with "
            "both, or go on reading at GET /v1/runs/{job_id}/stream",
            location=cursor,
        )
    return await runs.claimed(claim)


def _asked_by(request: Request, body: bytes, claim: Claim | None, payload: RunSpec, job: Job) -> Job:
    """The job with its payload, and with what its request's headers say."""
    outlives = payload.background or (claim is not None and "on_disconnect" not in payload.model_fields_set)
    return replace(
        job,
        request_id=request.state.request_id,
        traceparent=_traceparent(request),
        body=body,
        claim=claim,
        on_disconnect="continue" if outlives else job.on_disconnect,
    )


def _claim(request: Request, digest: str, caller: str) -> Claim:
    key = request.headers["idempotency-key"]
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequest("an Idempotency-Key is 1 to 255 printable ASCII characters", location=("Idempotency-Key",))
    scoped = f"{caller}\n{request.url.path}\n{key}"
    return Claim(sha256(scoped.encode()).hexdigest(), digest)


def _traceparent(request: Request) -> str | None:
    given = request.headers.get("traceparent", "")
    return given if _TRACEPARENT.fullmatch(given) else None
