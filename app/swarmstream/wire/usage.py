"""Usage, in the shapes of answers and events; costs are USD."""

from typing import Any

from swarmstream.events import Usage, UsageTotalled
from swarmstream.wire.shapes.usage import AgentUsageRow, BillingInfo, CostBreakdown, TokenCounts, TurnUsage

_USD_DIGITS = 10


def turn_usage(usage: Usage) -> TurnUsage:
    """Return what one turn consumed."""
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
    """Return the fields of `AgentRunUsage`."""
    return {**_run_usage(totalled), "img_cost": 0, "total_cost": _usd(totalled.total.cost_usd)}


def swarm_usage(totalled: UsageTotalled) -> dict[str, Any]:
    """Return the fields of `SwarmRunUsage`."""
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


def _usd(cost: float) -> float:
    """Return the cost without the noise of binary fractions."""
    return round(cost, _USD_DIGITS)
