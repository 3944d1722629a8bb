"""The completion routes: a payload becomes a run, and the answer is a reading of that run.

They are given the request alone and admit it themselves: resolving annotated dependencies takes FastAPI as long as
everything that we do between the request and the first call of a model.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import orjson
from anyio import TaskHandle, create_task_group
from fastapi import APIRouter, Request
from starlette.responses import Response

from swarmstream.api.admission import ApiCall, admit
from swarmstream.api.body import PayloadT
from swarmstream.api.completion_request import CompletionRequest, read_completion
from swarmstream.api.offload import run_aside
from swarmstream.api.problems import waiting_run_response
from swarmstream.api.resuming import check_cursor, open_reader
from swarmstream.api.run_response import RunResponse
from swarmstream.api.streaming import RunStream, framing_for
from swarmstream.errors import InvalidRequest, Location, McpHostRefused
from swarmstream.journal.base import AlreadySubmitted
from swarmstream.runs.compiled_job import agent_job, swarm_job
from swarmstream.runs.job import Job
from swarmstream.runs.limits import plan_limits
from swarmstream.swarm.compile import Compiled, compile_agent, compile_swarm
from swarmstream.swarm.payloads import AgentRequest, SwarmRequest
from swarmstream.tools.mcp.hub import McpHub
from swarmstream.tools.mcp.server import McpServer
from swarmstream.wire.shapes.answers import QueuedRun

router = APIRouter(prefix="/v1", tags=["completions"])

_PROBE_SECONDS = 2.0
"""How long the first byte may wait for the tool list of an MCP server."""


@router.post("/agent/completions", summary="Run one agent", operation_id="run_agent")
async def complete_agent(request: Request) -> Response:
    """Its answer comes as one JSON document at the end, or as a stream of events where `stream` or
    `agent_config.streaming_on` is true: Server-Sent Events, or JSON lines with `Accept: application/x-ndjson`."""
    call = await admit(request)

    def prepare(payload: AgentRequest) -> _Prepared:
        state = call.state
        compiled = compile_agent(payload, state["registry"], plan_limits(state["settings"]), call.tools)
        return _Prepared(compiled, agent_job(payload, compiled, owner=call.caller))

    return await _complete(call, AgentRequest, prepare)


@router.post("/swarm/completions", summary="Run a swarm of agents", operation_id="run_swarm")
async def complete_swarm(request: Request) -> Response:
    """What the agents say comes as one JSON document at the end, or as a stream of events where `stream` is true:
    Server-Sent Events, or JSON lines with `Accept: application/x-ndjson`. Each piece of text says whose it is."""
    call = await admit(request)

    def prepare(payload: SwarmRequest) -> _Prepared:
        state = call.state
        compiled = compile_swarm(payload, state["registry"], plan_limits(state["settings"]), call.tools)
        return _Prepared(compiled, swarm_job(payload, compiled, owner=call.caller))

    return await _complete(call, SwarmRequest, prepare)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A payload once it is compiled."""

    compiled: Compiled
    job: Job


async def _complete(call: ApiCall, model: type[PayloadT], prepare: Callable[[PayloadT], _Prepared]) -> Response:
    """Answer with a run of the payload: the one that its `Idempotency-Key` has, else one that is begun now."""
    completion = await read_completion(call, model)
    # Before the payload is compiled, which may be refused by now although its run goes on: an alias may be gone.
    job_id = await _find_run(completion)
    is_known = job_id is not None
    if job_id is None:
        prepared = await run_aside(completion.body, partial(prepare, completion.payload))
        await _probe_mcp_servers(prepared.compiled, call.state["mcp"])
        try:
            job_id = (await call.state["supervisor"].start(_with_request(prepared.job, completion))).job_id
        except AlreadySubmitted as known:
            job_id, is_known = known.job_id, True
    return await _answer(completion, job_id, is_known=is_known)


async def _find_run(completion: CompletionRequest[PayloadT]) -> str | None:
    """Return the id of the run that the request means, if there is one. One with a cursor has to mean one: its client
    has a run's events and was cut off, would pay for a second run, and would join its text to that of the first.

    Raises:
        InvalidRequest: the request has a cursor, and does not say of which run.
        NotFound: it has one, and there is no such run, or no longer.
    """
    keyed_runs, key = completion.call.state["supervisor"].keyed_runs, completion.key
    if not completion.after:
        return await keyed_runs.find(key) if key is not None else None
    if key is None:
        raise InvalidRequest(
            "without the Idempotency-Key of the stream's first request this would begin a second run: send one with "
            "both, or go on reading at GET /v1/runs/{job_id}/stream",
            location=completion.cursor_location,
        )
    return await keyed_runs.require(key)


async def _answer(completion: CompletionRequest[PayloadT], job_id: str, *, is_known: bool) -> Response:
    """Return a reading of the run as the request wants it; `is_known`: an earlier request has begun the run."""
    call, payload = completion.call, completion.payload
    headers = {"Location": f"/v1/runs/{job_id}/stream", **({"Idempotent-Replayed": "true"} if is_known else {})}
    if payload.background and not payload.streams:
        queued = orjson.dumps(QueuedRun(job_id=job_id, status="queued"))
        return Response(queued, 202, headers=headers, media_type="application/json")
    status = await call.runs.status(job_id) if is_known else None
    if status is not None and payload.streams:
        check_cursor(completion.after, status, completion.cursor_location)
    elif status is not None and status.is_waiting:
        return waiting_run_response(job_id, call.request_id, headers)
    reader = await open_reader(
        call.runs,
        job_id,
        clock=call.state["clock"],
        include_output=payload.stream_options.include_output,
        coalesce_ms=payload.stream_options.coalesce_ms,
        after=completion.after,
        status=status,
    )
    if payload.streams:
        framing = framing_for(call.request.headers)
        heartbeat_seconds = call.state["settings"].heartbeat_seconds
        return RunStream(reader, framing, heartbeat_seconds=heartbeat_seconds, headers=headers)
    return RunResponse(
        reader,
        job_id=job_id,
        request_id=call.request_id,
        headers=headers,
        may_be_repeated=completion.key is not None,
    )


def _with_request(job: Job, completion: CompletionRequest[PayloadT]) -> Job:
    """Return the job with its payload's text, and with what its request's headers say."""
    payload, key = completion.payload, completion.key
    outlives = payload.background or (key is not None and "on_disconnect" not in payload.model_fields_set)
    return replace(
        job,
        request_id=completion.call.request_id,
        traceparent=completion.traceparent,
        body=completion.body,
        idempotency_key=key,
        on_disconnect="continue" if outlives else job.on_disconnect,
    )


async def _probe_mcp_servers(compiled: Compiled, mcp: McpHub) -> None:
    """Refuse an MCP server whose name turns out to lead where it must not. One that is merely down or slow is reported
    in the run, which goes on without it.

    Raises:
        McpHostRefused: the first of them that is refused, with the field that names it.
    """
    if not compiled.mcp_servers:
        return
    probes: list[tuple[TaskHandle[McpHostRefused | None], Location]] = []
    async with create_task_group() as tasks:
        probes += [
            (tasks.create_task(_probe(mcp, server)), location) for server, location in compiled.mcp_servers.items()
        ]
    for probe, location in probes:
        if (refusal := probe.return_value) is not None:
            refusal.location = location
            raise refusal


async def _probe(mcp: McpHub, server: McpServer) -> McpHostRefused | None:
    try:
        await mcp.probe(server, seconds=_PROBE_SECONDS)
    except McpHostRefused as error:
        return error
    return None
