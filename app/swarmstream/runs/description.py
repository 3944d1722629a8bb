"""A job in the journal: the run's record, and its first event."""

import secrets

from swarmstream.clock import Clock, utc
from swarmstream.events import RunDescribed
from swarmstream.journal.records import RunRecord
from swarmstream.runs.job import Job


def new_record(job: Job, clock: Clock) -> RunRecord:
    """Return the record of a run that begins now, with a new id of 128 random bits (docs/wire.md, section 1)."""
    return RunRecord(
        job_id=f"{'swarms' if job.kind == 'swarm' else 'agent'}-{secrets.token_hex(16)}",
        owner=job.owner,
        kind=job.kind,
        created_at=utc(clock),
        include_output=job.include_output,
        coalesce_ms=job.coalesce_ms,
        request_id=job.request_id,
        traceparent=job.traceparent,
        on_disconnect=job.on_disconnect,
        body=job.body,
        idempotency_key=job.idempotency_key,
    )


def describe_run(record: RunRecord, job: Job, max_calls: int) -> RunDescribed:
    """Return the run's first event, the `metadata` of its stream."""
    return RunDescribed(
        t_ms=0,
        job_id=record.job_id,
        kind=job.kind,
        name=job.name,
        description=job.description,
        swarm_type=job.swarm_type,
        number_of_agents=job.number_of_agents,
        service_tier=job.service_tier,
        temperature=job.temperature,
        created_at=record.created_at,
        warnings=job.warnings,
        metadata=job.metadata,
        max_calls=max_calls,
    )
