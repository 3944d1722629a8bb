"""SequentialWorkflow: one agent after another."""

from collections.abc import Mapping

from swarmstream.swarm.payloads import SwarmRequest
from swarmstream.swarm.plan import Agent, Stage
from swarmstream.swarm.swarm_types.base import SwarmType


def _arrange(_: SwarmRequest, agents: Mapping[str, Agent]) -> tuple[Stage, ...]:
    return tuple(Stage((agent,)) for agent in agents.values())


SEQUENTIAL = SwarmType("SequentialWorkflow", "Agents speak one after another, each reading all before it.", _arrange)
