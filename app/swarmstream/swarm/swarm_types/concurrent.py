"""ConcurrentWorkflow: all agents at once."""

from collections.abc import Mapping

from swarmstream.swarm.payloads import SwarmRequest
from swarmstream.swarm.plan import Agent, Stage
from swarmstream.swarm.swarm_types.base import SwarmType


def _arrange(_: SwarmRequest, agents: Mapping[str, Agent]) -> tuple[Stage, ...]:
    return (Stage(tuple(agents.values())),)


CONCURRENT = SwarmType(
    "ConcurrentWorkflow",
    "All agents work on the task at once, none hearing the others.",
    _arrange,
    hears="previous_loop",
)
