"""The size of a plan that the operator allows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swarmstream.errors import LimitExceeded, Location
from swarmstream.swarm.payloads import AgentSpec
from swarmstream.swarm.plan import Plan


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """Bounds on what a payload may ask for."""

    max_agents: int = 64
    """Of a request, those included that its agents may hand off to."""
    max_stages: int = 256
    max_turns: int = 1000
    """Invocations of all agents: agents × loops × tasks."""

    def check_agents(self, specs: Sequence[AgentSpec], at: Location) -> None:
        """Refuse too many agents before any of them is compiled.

        Raises:
            LimitExceeded: there are more than `max_agents`.
        """
        if _count_agents(specs, limit=self.max_agents) > self.max_agents:
            raise LimitExceeded(
                f"there are more agents, with those to hand off to, than this server's {self.max_agents} "
                "(SWARMSTREAM_MAX_AGENTS)",
                location=at,
            )

    def check_flow(self, flow: str) -> None:
        """Refuse a flow before it is parsed: one that fits the body could hold up the event loop.

        Raises:
            LimitExceeded: it has too many stages or too many names.
        """
        if flow.count("->") >= self.max_stages or flow.count(",") >= self.max_turns:
            raise LimitExceeded(
                f"the flow has more than this server's {self.max_stages} stages or {self.max_turns} turns",
                location=("rearrange_flow",),
            )

    def check_plan(self, plan: Plan) -> None:
        """Refuse a plan of too many stages or turns.

        Raises:
            LimitExceeded: it has them.
        """
        if len(plan.stages) > self.max_stages:
            raise LimitExceeded(
                f"{len(plan.stages)} stages are more than this server's {self.max_stages}",
                location=("rearrange_flow",),
            )
        if plan.turns > self.max_turns:
            raise LimitExceeded(
                f"agents × loops × tasks make {plan.turns} turns, more than this server's {self.max_turns}",
                location=("max_loops",),
            )


def _count_agents(specs: Iterable[AgentSpec], *, limit: int) -> int:
    """Count agents and their handoffs at every depth; counting ends soon after the limit."""
    count = 0
    pending = list(specs)
    while pending and count <= limit:
        count += 1
        pending += pending.pop().handoffs or ()
    return count
