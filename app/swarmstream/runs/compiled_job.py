"""The jobs that compiled payloads become."""

from dataclasses import replace

from pydantic import ValidationError

from swarmstream.errors import InvalidRequest
from swarmstream.events import RunKind
from swarmstream.journal.records import RunRecord
from swarmstream.llm.model_ref import ModelRegistry
from swarmstream.runs.job import Job
from swarmstream.swarm.compile import Compiled, compile_agent, compile_swarm
from swarmstream.swarm.limits import PlanLimits
from swarmstream.swarm.payloads import AgentRequest, RunSpec, SwarmRequest
from swarmstream.tools.policy import AllowedTools

_ACCEPTED = {"strict": False}
"""Overrides for a payload that was accepted once: a field that this release no longer knows must not end its run."""


def agent_job(payload: AgentRequest, compiled: Compiled, *, owner: str) -> Job:
    """Return the job of a single agent, whose run belongs to this owner."""
    agent = compiled.plan.stages[0].agents[0]
    job = _job("agent", payload, compiled, owner)
    return replace(job, name=agent.name, description=agent.description, temperature=agent.sampling.temperature)


def swarm_job(payload: SwarmRequest, compiled: Compiled, *, owner: str) -> Job:
    """Return the job of a swarm, whose run belongs to this owner."""
    return replace(
        _job("swarm", payload, compiled, owner),
        name=payload.name,
        description=payload.description,
        number_of_agents=len(payload.agents),
        service_tier=payload.service_tier,
    )


def job_from_record(record: RunRecord, models: ModelRegistry, limits: PlanLimits, tools: AllowedTools) -> Job:
    """Return the job of a run that was begun by another process, compiled from its payload.

    Raises:
        AppError: this release, with these settings, cannot run it.
    """
    try:
        if record.kind == "agent":
            agent = AgentRequest.model_validate_json(record.body).model_copy(update=_ACCEPTED)
            job = agent_job(agent, compile_agent(agent, models, limits, tools), owner=record.owner)
        else:
            swarm = SwarmRequest.model_validate_json(record.body).model_copy(update=_ACCEPTED)
            job = swarm_job(swarm, compile_swarm(swarm, models, limits, tools), owner=record.owner)
    except ValidationError as error:
        raise InvalidRequest("this release does not take its payload any more") from error
    return replace(
        job,
        on_disconnect=record.on_disconnect,
        request_id=record.request_id,
        traceparent=record.traceparent,
        body=record.body,
    )


def _job(kind: RunKind, payload: RunSpec, compiled: Compiled, owner: str) -> Job:
    return Job(
        kind=kind,
        plan=compiled.plan,
        owner=owner,
        swarm_type=compiled.swarm_type,
        warnings=compiled.warnings,
        metadata=payload.metadata,
        on_disconnect=payload.on_disconnect,
        on_error=payload.on_error,
        timeout_seconds=payload.timeout,
        max_cost_usd=payload.max_cost_usd,
        max_total_tokens=payload.max_total_tokens,
        include_output=payload.stream_options.include_output,
        coalesce_ms=payload.stream_options.coalesce_ms,
        prompt_bytes=compiled.plan.prompt_bytes(),
    )
