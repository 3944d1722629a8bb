"""The completion routes: a payload becomes a run, its answer a reading of that run.

They take their request whole, and ask for its parts themselves: resolving six annotated dependencies takes FastAPI as
long as everything that we do between the request and the first call of a model.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Generic

import orjson
from anyio import TaskHandle, create_task_group
from fastapi import APIRouter, Request
from starlette.responses import Response

from swarmstream.api.body import PayloadT, PostedPayload, parse_payload, read_body
from swarmstream.api.offload import run_aside
from swarmstream.api.payload_outline import PayloadLimits
from swarmstream.api.problems import waiting_run_response
from swarmstream.api.resuming import check_cursor, open_reader, parse_cursor
from swarmstream.api.state import AppState, authenticate, state_of
from swarmstream.api.streaming import RunResponse, RunStream, framing_for
from swarmstream.errors import InvalidRequest, Location, McpHostRefused
from swarmstream.journal.base import AlreadyClaimed, IdempotencyKey
from swarmstream.runs.job import Job, agent_job, swarm_job
from swarmstream.runs.limits import plan_limits
from swarmstream.swarm.payloads import AgentRequest, RunSpec, SwarmRequest
from swarmstream.swarm.plan import Compiled, compile_agent, compile_swarm
from swarmstream.tools.mcp.hub import McpHub
from swarmstream.tools.mcp.server import McpServer
from swarmstream.wire.shapes.answers import QueuedRun

router = APIRouter(prefix="/v1", tags=["completions"])

_LOOK_SECONDS = 2.0
"""How long the first byte may wait for the tool list of an MCP server."""

_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@router.post("/agent/completions", summary="Run one agent", operation_id="run_agent")
async def complete_agent(request: Request) -> Response:
    """Its answer comes as one JSON document at the end, or as a stream of events where `stream` or
    `agent_config.streaming_on` is true: Server-Sent Events, or JSON lines with `Accept: application/x-ndjson`."""
    parts, caller = state_of(request), await authenticate(request)

    def prepare(payload: AgentRequest) -> _Prepared:
        compiled = compile_agent(payload, parts["registry"], plan_limits(parts["settings"]), parts["tools"].of(caller))
        return _Prepared(compiled, agent_job(payload, compiled, owner=caller))

    return await _complete(request, parts, caller, AgentRequest, prepare)


@router.post("/swarm/completions", summary="Run a swarm of agents", operation_id="run_swarm")
async def complete_swarm(request: Request) -> Response:
    """What the agents say comes as one JSON document at the end, or as a stream of events where `stream` is true:
    Server-Sent Events, or JSON lines with `Accept: application/x-ndjson`. Each piece of text says whose it is."""
    parts, caller = state_of(request), await authenticate(request)

    def prepare(payload: SwarmRequest) -> _Prepared:
        compiled = compile_swarm(payload, parts["registry"], plan_limits(parts["settings"]), parts["tools"].of(caller))
        return _Prepared(compiled, swarm_job(payload, compiled, owner=caller))

    return await _complete(request, parts, caller, SwarmRequest, prepare)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What a payload came to."""

    compiled: Compiled
    job: Job


async def _body(request: Request, parts: AppState) -> bytes:
    return await read_body(
        request, _payload_limits(parts), seconds=parts["settings"].body_seconds, clock=parts["clock"]
    )


def _payload_limits(parts: AppState) -> PayloadLimits:
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
    request: Request, parts: AppState, caller: str, model: type[PayloadT], prepare: Callable[[PayloadT], _Prepared]
) -> Response:
    """Answer with a run of the payload: the one that its `Idempotency-Key` has, else one that is begun now."""
    body = await _body(request, parts)
    posted = await run_aside(body, partial(parse_payload, body, model, _payload_limits(parts)))
    claim = await run_aside(body, partial(_claim, request, posted, caller))
    asked = _Asked(request, parts, posted, claim, *_cursor(request, posted.payload))
    # Before anything is made of the payload, which may have become wrong since: an alias may be gone.
    job_id = await _run_of(asked)
    is_known = job_id is not None
    if job_id is None:
        prepared = await run_aside(body, partial(prepare, posted.payload))
        await _look_at_servers(prepared.compiled, parts["mcp"])
        try:
            job_id = (await parts["supervisor"].start(_with_request_context(prepared.job, asked))).job_id
        except AlreadyClaimed as claimed:
            job_id, is_known = claimed.job_id, True
    return await _answer(asked, job_id, is_known=is_known)


@dataclass(frozen=True, slots=True)
class _Asked(Generic[PayloadT]):
    """A completion request that was read."""

    request: Request
    parts: AppState
    posted: PostedPayload[PayloadT]
    claim: IdempotencyKey | None
    after: int
    """The last event that its client has of the run."""
    cursor: Location
    """What says so."""


async def _run_of(asked: _Asked[PayloadT]) -> str | None:
    """The id of the run that the request means, if there is one. Where it has a cursor there has to be: whoever has a
    run's events and was cut off would pay for a second one, and join its words to those of the first.

    Raises:
        InvalidRequest: the request has a cursor, and does not say of which run.
        NotFound: it has one, and there is no such run, or no longer.
    """
    runs = asked.parts["supervisor"]
    if not asked.after:
        return await runs.run_of(asked.claim) if asked.claim is not None else None
    if asked.claim is None:
        raise InvalidRequest(
            "without the Idempotency-Key of the stream's first request this would begin a second run: send one with "
            "both, or go on reading at GET /v1/runs/{job_id}/stream",
            location=asked.cursor,
        )
    return await runs.claimed(asked.claim)


async def _answer(asked: _Asked[PayloadT], job_id: str, *, is_known: bool) -> Response:
    """Read the run as the request wants it; `is_known`: an earlier request has begun it."""
    request, parts, payload = asked.request, asked.parts, asked.posted.payload
    headers = {"Location": f"/v1/runs/{job_id}/stream", **({"Idempotent-Replayed": "true"} if is_known else {})}
    if payload.background and not payload.streams:
        queued = orjson.dumps(QueuedRun(job_id=job_id, status="queued"))
        return Response(queued, 202, headers=headers, media_type="application/json")
    status = await parts["supervisor"].journal.status(job_id) if is_known else None
    if status is not None and payload.streams:
        check_cursor(asked.after, status, asked.cursor)
    elif status is not None and status.is_waiting:
        return waiting_run_response(job_id, request.state.request_id, headers)
    reader = await open_reader(
        job_id,
        parts,
        include_output=payload.stream_options.include_output,
        coalesce_ms=payload.stream_options.coalesce_ms,
        after=asked.after,
        status=status,
    )
    if payload.streams:
        heartbeat_seconds = parts["settings"].heartbeat_seconds
        return RunStream(reader, framing_for(request.headers), heartbeat_seconds=heartbeat_seconds, headers=headers)
    return RunResponse(
        reader,
        job_id=job_id,
        request_id=request.state.request_id,
        headers=headers,
        may_be_repeated=asked.claim is not None,
    )


def _cursor(request: Request, payload: RunSpec) -> tuple[int, Location]:
    """The last event that the client has, and what says so: as where a run is read, the header wins."""
    given = request.headers.get("last-event-id")
    if given is None:
        return payload.stream_options.starting_after, ("stream_options", "starting_after")
    return parse_cursor(given, "Last-Event-ID"), ("Last-Event-ID",)


def _with_request_context(job: Job, asked: _Asked[PayloadT]) -> Job:
    """The job with its payload, and with what its request's headers say."""
    payload = asked.posted.payload
    outlives = payload.background or (asked.claim is not None and "on_disconnect" not in payload.model_fields_set)
    return replace(
        job,
        request_id=asked.request.state.request_id,
        traceparent=_traceparent(asked.request),
        body=asked.posted.body,
        claim=asked.claim,
        on_disconnect="continue" if outlives else job.on_disconnect,
    )


def _claim(request: Request, posted: PostedPayload[PayloadT], caller: str) -> IdempotencyKey | None:
    """The claim of the request's `Idempotency-Key`, if it has one.

    Raises:
        InvalidRequest: it is no such key.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequest("an Idempotency-Key is 1 to 255 printable ASCII characters", location=("Idempotency-Key",))
    scoped = f"{caller}\n{request.url.path}\n{key}"
    return IdempotencyKey(sha256(scoped.encode()).hexdigest(), posted.digest())


def _traceparent(request: Request) -> str | None:
    given = request.headers.get("traceparent", "")
    return given if _TRACEPARENT.fullmatch(given) else None
