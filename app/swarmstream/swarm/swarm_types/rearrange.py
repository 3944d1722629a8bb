"""AgentRearrange: stages as a flow such as `A, B -> C` gives them."""

from collections.abc import Mapping

from swarmstream.errors import InvalidRequest, UnknownAgent, quote
from swarmstream.swarm.flow import parse_flow
from swarmstream.swarm.payloads import SwarmRequest
from swarmstream.swarm.plan import Agent, Stage
from swarmstream.swarm.swarm_types.base import SwarmType


def _arrange(request: SwarmRequest, agents: Mapping[str, Agent]) -> tuple[Stage, ...]:
    if request.rearrange_flow is None:
        raise InvalidRequest('AgentRearrange needs a rearrange_flow such as "A, B -> C"', location=("rearrange_flow",))
    stages: list[Stage] = []
    for names in parse_flow(request.rearrange_flow):
        for name in names:
            if name.name not in agents:
                raise UnknownAgent(
                    f"the flow names {quote(name.name)}, which is none of the agents (column {name.column})",
                    location=("rearrange_flow",),
                )
        stages.append(Stage(tuple(agents[name.name] for name in names)))
    return tuple(stages)


REARRANGE = SwarmType(
    "AgentRearrange",
    'A flow says who speaks when: "A, B -> C" runs A and B side by side, then C, who reads both.',
    _arrange,
)
