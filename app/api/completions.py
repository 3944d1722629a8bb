"""The completion routes: a payload becomes a run, its answer a reading of that run.

They take their request whole, and ask for its parts themselves: resolving six annotated dependencies takes FastAPI as
long as everything that we do between the request and the first call of a model.
"""

import re
from dataclasses import replace

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.deps import Parts, body_of, caller_of, parts_of
from app.api.stream import Reader, RunDocument, RunStream
from app.events import RunKind
from app.runs.supervisor import Job
from app.settings import Settings
from app.swarm.plan import Compiled, PlanLimits, compile_agent, compile_swarm
from app.swarm.spec import AgentRequest, RunSpec, SwarmRequest
from app.wire.framing import NDJSON, SSE

router = APIRouter(prefix="/v1", tags=["completions"])

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@router.post("/agent/completions", summary="Run one agent")
async def complete_agent(request: Request) -> Response:
    """One agent, streamed where `stream` or `agent_config.streaming_on` is true."""
    parts, caller = parts_of(request), await caller_of(request)
    payload = await body_of(request, AgentRequest)
    compiled = compile_agent(payload, parts["registry"], plan_limits(parts["settings"]))
    job = _agent_job(payload, compiled, request, caller)
    return await _answer(job, payload, request, parts, streams=payload.streams)


@router.post("/swarm/completions", summary="Run a swarm of agents")
async def complete_swarm(request: Request) -> Response:
    """A team of agents, streamed where `stream` is true."""
    parts, caller = parts_of(request), await caller_of(request)
    payload = await body_of(request, SwarmRequest)
    compiled = compile_swarm(payload, parts["registry"], plan_limits(parts["settings"]))
    job = _swarm_job(payload, compiled, request, caller)
    return await _answer(job, payload, request, parts, streams=payload.stream)


def plan_limits(settings: Settings) -> PlanLimits:
    return PlanLimits(settings.max_agents, settings.max_stages, settings.max_turns)


async def _answer(job: Job, payload: RunSpec, request: Request, parts: Parts, *, streams: bool) -> Response:
    runs = parts["supervisor"]
    run = await runs.start(job)
    reader = Reader(
        await runs.journal.tail(run.job_id),
        run.reader,
        include_output=payload.stream_options.include_output,
        coalesce_ms=payload.stream_options.coalesce_ms,
    )
    headers = {"Location": f"/v1/runs/{run.job_id}/stream"}
    if not streams:
        return RunDocument(reader, request_id=job.request_id, headers=headers)
    # `application/json` is not negotiated on: the official SDK always sends it, also for streams.
    framing = NDJSON if "application/x-ndjson" in request.headers.get("accept", "") else SSE
    return RunStream(reader, framing, heartbeat_seconds=parts["settings"].heartbeat_seconds, headers=headers)


def _agent_job(payload: AgentRequest, compiled: Compiled, request: Request, caller: str) -> Job:
    agent = payload.agent_config
    job = _job("agent", payload, compiled, request, caller, name=agent.agent_name, description=agent.description)
    return replace(job, temperature=agent.temperature)


def _swarm_job(payload: SwarmRequest, compiled: Compiled, request: Request, caller: str) -> Job:
    job = _job("swarm", payload, compiled, request, caller, name=payload.name, description=payload.description)
    return replace(job, number_of_agents=len(payload.agents), service_tier=payload.service_tier)


def _job(
    kind: RunKind,
    payload: RunSpec,
    compiled: Compiled,
    request: Request,
    caller: str,
    *,
    name: str | None,
    description: str | None,
) -> Job:
    """What a job of either kind takes from its request."""
    return Job(
        kind=kind,
        plan=compiled.plan,
        owner=caller,
        swarm_type=compiled.swarm_type,
        warnings=compiled.warnings,
        metadata=payload.metadata,
        on_disconnect=payload.on_disconnect,
        on_error=payload.on_error,
        timeout_seconds=payload.timeout,
        include_output=payload.stream_options.include_output,
        coalesce_ms=payload.stream_options.coalesce_ms,
        request_id=request.state.request_id,
        traceparent=_traceparent(request),
        name=name,
        description=description,
    )


def _traceparent(request: Request) -> str | None:
    given = request.headers.get("traceparent", "")
    return given if _TRACEPARENT.fullmatch(given) else None
