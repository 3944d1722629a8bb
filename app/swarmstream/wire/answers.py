"""What a run came to, in the shapes that clients know: made from the same fold, streamed or not."""

from collections.abc import Iterable
from datetime import timedelta
from itertools import chain
from typing import Any

from swarmstream.events import RunDescribed, RunEnded, ToolCall, TurnEnded, Usage, UsageTotalled
from swarmstream.journal.records import RunStatus
from swarmstream.journal.summary import Summary
from swarmstream.wire.shapes.answers import AgentAnswer, RunSoFar, SwarmAnswer
from swarmstream.wire.shapes.outputs import AgentOutput, CallerToolCall, SwarmOutput, ToolCallFunction
from swarmstream.wire.shapes.runs import RunAnswer
from swarmstream.wire.shapes.usage import (
    AgentRunUsage,
    AgentUsageRow,
    BillingInfo,
    CostBreakdown,
    SwarmRunUsage,
    TokenCounts,
    TurnUsage,
)

MAX_WARNINGS = 20
_USD_DIGITS = 10


def swarm_answer(summary: Summary) -> SwarmAnswer:
    """The JSON answer of a swarm whose run has ended."""
    described, totalled, ended = _whole(summary)
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
    """The JSON answer of a single agent whose run has ended."""
    described, totalled, ended = _whole(summary)
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
    """A run that has begun, as it stands; `summary` has observed the events up to the status."""
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


def so_far(summary: Summary) -> RunSoFar:
    """What a failed run's error body says of what it had come to."""
    described, totalled, _ = _whole(summary)
    is_swarm = described.kind == "swarm"
    return RunSoFar(
        job_id=described.job_id,
        output=swarm_outputs(summary) if is_swarm else agent_outputs(summary),
        usage=SwarmRunUsage(**swarm_usage(totalled)) if is_swarm else AgentRunUsage(**agent_usage(totalled)),
    )


def warnings(summary: Summary) -> list[str]:
    """What a client has to know of a run: known from the start, then learnt by its turns, each once."""
    described = summary.described
    assert described is not None
    said = [*described.warnings, *chain.from_iterable(turn.warnings for turn in summary.answers)]
    return list(dict.fromkeys(said))[:MAX_WARNINGS]


def swarm_outputs(summary: Summary) -> list[SwarmOutput]:
    """One entry per turn that has ended, in flow order."""
    return [
        SwarmOutput(
            role=turn.agent,
            content=_content(turn),
            **_more(turn),
        )
        for turn in summary.answers
    ]


def agent_outputs(summary: Summary) -> list[AgentOutput]:
    """As `swarm_outputs`, in the agent route's shape."""
    described = summary.described
    assert described is not None
    return [
        AgentOutput(
            role=turn.agent,
            content=_content(turn),
            **_text(turn),
            timestamp=timestamp(described, turn.t_ms),
            message_id=f"{described.job_id}-{turn.turn}",
        )
        for turn in summary.answers
    ]


def _more(turn: TurnEnded) -> dict[str, Any]:
    return _text(turn) if turn.task_index is None else {**_text(turn), "task_index": turn.task_index}


def _text(turn: TurnEnded) -> dict[str, Any]:
    return {"text": turn.output} if turn.tool_calls and turn.output else {}


def tool_calls(calls: Iterable[ToolCall]) -> list[CallerToolCall]:
    """What the caller is to run, as OpenAI's API has it."""
    return [
        CallerToolCall(id=call.id, type="function", function=ToolCallFunction(name=call.name, arguments=call.arguments))
        for call in calls
    ]


def _content(turn: TurnEnded) -> str | list[CallerToolCall]:
    return tool_calls(turn.tool_calls) if turn.tool_calls else turn.output


def turn_usage(usage: Usage) -> TurnUsage:
    return TurnUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_usd=_usd(usage.cost_usd),
        priced=usage.priced,
        estimated=usage.estimated,
    )


def agent_usage(totalled: UsageTotalled) -> dict[str, Any]:
    """The fields of `AgentRunUsage`."""
    return {**_run_usage(totalled), "img_cost": 0, "total_cost": _usd(totalled.total.cost_usd)}


def swarm_usage(totalled: UsageTotalled) -> dict[str, Any]:
    """The fields of `SwarmRunUsage`."""
    total = totalled.total
    breakdown = CostBreakdown(
        agent_cost=0,
        input_token_cost=_usd(total.input_cost_usd),
        output_token_cost=_usd(total.output_cost_usd),
        token_counts=TokenCounts(
            total_input_tokens=total.input_tokens,
            total_output_tokens=total.output_tokens,
            total_tokens=total.total_tokens,
        ),
        num_agents=len(totalled.agents),
        night_time_discount_applied=False,
    )
    billing = BillingInfo(
        cost_breakdown=breakdown,
        total_cost=_usd(total.cost_usd),
        discount_active=False,
        discount_type="none",
        discount_percentage=0,
    )
    return {**_run_usage(totalled), "billing_info": billing}


def timestamp(described: RunDescribed, t_ms: int) -> str:
    """When something happened, as ISO 8601 in UTC."""
    return (described.created_at + timedelta(milliseconds=t_ms)).isoformat()


def _run_usage(totalled: UsageTotalled) -> dict[str, Any]:
    total = totalled.total
    rows = [
        AgentUsageRow(
            agent=row.agent,
            turns=row.turns,
            input_tokens=row.usage.input_tokens,
            output_tokens=row.usage.output_tokens,
            cached_input_tokens=row.usage.cached_input_tokens,
            reasoning_tokens=row.usage.reasoning_tokens,
            cost_usd=_usd(row.usage.cost_usd),
        )
        for row in totalled.agents
    ]
    return {
        "input_tokens": total.input_tokens,
        "output_tokens": total.output_tokens,
        "total_tokens": total.total_tokens,
        "agents": rows,
        "priced": total.priced,
        "estimated": total.estimated,
    }


def _whole(summary: Summary) -> tuple[RunDescribed, UsageTotalled, RunEnded]:
    """The three events that every ended run has."""
    assert summary.described is not None
    assert summary.usage is not None
    assert summary.ended is not None
    return summary.described, summary.usage, summary.ended


def _usd(cost: float) -> float:
    """Without the noise of binary fractions."""
    return round(cost, _USD_DIGITS)
