"""A run as the JSON documents that clients know: answers of the completion routes, and of the routes of runs."""

from itertools import chain

from swarmstream.events import RunDescribed, RunEnded, UsageTotalled
from swarmstream.journal.records import RunStatus
from swarmstream.journal.summary import Summary
from swarmstream.wire.outputs import agent_outputs, swarm_outputs, timestamp
from swarmstream.wire.shapes.answers import AgentAnswer, RunSoFar, SwarmAnswer
from swarmstream.wire.shapes.runs import RunAnswer
from swarmstream.wire.shapes.usage import AgentRunUsage, SwarmRunUsage
from swarmstream.wire.usage import agent_usage, swarm_usage

MAX_WARNINGS = 20


def swarm_answer(summary: Summary) -> SwarmAnswer:
    """Return the JSON answer of a swarm whose run has ended."""
    described, totalled, ended = _events_of_ended(summary)
    return SwarmAnswer(
        job_id=described.job_id,
        status=ended.status,
        swarm_name=described.name,
        description=described.description,
        swarm_type=described.swarm_type or "",
        output=swarm_outputs(summary),
        number_of_agents=described.number_of_agents,
        service_tier=described.service_tier,
        execution_time=ended.duration_seconds,
        usage=SwarmRunUsage(**swarm_usage(totalled)),
        warnings=warnings(summary),
        metadata=described.metadata,
        failed_agents=list(ended.failed_agents),
    )


def agent_answer(summary: Summary) -> AgentAnswer:
    """Return the JSON answer of a single agent whose run has ended."""
    described, totalled, ended = _events_of_ended(summary)
    return AgentAnswer(
        job_id=described.job_id,
        success=ended.status == "success",
        name=described.name,
        description=described.description,
        temperature=described.temperature,
        outputs=agent_outputs(summary),
        usage=AgentRunUsage(**agent_usage(totalled)),
        timestamp=timestamp(described, ended.t_ms),
        warnings=warnings(summary),
        metadata=described.metadata,
        failed_agents=list(ended.failed_agents),
    )


def run_answer(summary: Summary, status: RunStatus, *, with_output: bool = True) -> RunAnswer:
    """Return a run that has begun, as it stands; `summary` has observed the events up to the status."""
    described, ended = summary.described, summary.ended
    assert described is not None
    usage = summary.usage or summary.total(0)
    is_swarm = described.kind == "swarm"
    answer = RunAnswer(
        job_id=described.job_id,
        object="run",
        kind=described.kind,
        name=described.name,
        swarm_type=described.swarm_type,
        status=status.state,
        created_at=timestamp(described, 0),
        started_at=timestamp(described, summary.started.t_ms) if summary.started else None,
        ended_at=timestamp(described, ended.t_ms) if ended else None,
        last_event_id=status.last_event_id,
        usage=SwarmRunUsage(**swarm_usage(usage)) if is_swarm else AgentRunUsage(**agent_usage(usage)),
        metadata=described.metadata,
    )
    if with_output:
        answer["output"] = swarm_outputs(summary) if is_swarm else agent_outputs(summary)
    return answer


def partial_answer(summary: Summary) -> RunSoFar:
    """Return what a run that failed had come to, for its error body."""
    described, totalled, _ = _events_of_ended(summary)
    is_swarm = described.kind == "swarm"
    return RunSoFar(
        job_id=described.job_id,
        output=swarm_outputs(summary) if is_swarm else agent_outputs(summary),
        usage=SwarmRunUsage(**swarm_usage(totalled)) if is_swarm else AgentRunUsage(**agent_usage(totalled)),
    )


def warnings(summary: Summary) -> list[str]:
    """Return the warnings of a run, each once, at most `MAX_WARNINGS`: those known from the start, then those of its
    turns in flow order."""
    described = summary.described
    assert described is not None
    found = [*described.warnings, *chain.from_iterable(turn.warnings for turn in summary.answers)]
    return list(dict.fromkeys(found))[:MAX_WARNINGS]


def _events_of_ended(summary: Summary) -> tuple[RunDescribed, UsageTotalled, RunEnded]:
    """Return the three events that every run has which ended."""
    assert summary.described is not None
    assert summary.usage is not None
    assert summary.ended is not None
    return summary.described, summary.usage, summary.ended
