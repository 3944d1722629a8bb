"""The definition of a swarm type."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from swarmstream.swarm.payloads import SwarmRequest
from swarmstream.swarm.plan import Agent, Hears, Stage

Arrange: TypeAlias = Callable[[SwarmRequest, Mapping[str, Agent]], tuple[Stage, ...]]
"""Arrange a swarm's agents, which come by name in the payload's order, into stages. Raises `AppError` for a payload
from which it cannot."""


@dataclass(frozen=True, slots=True)
class SwarmType:
    """A way to arrange the agents of a swarm."""

    name: str
    """As clients write it in `swarm_type`."""
    description: str
    """For `GET /v1/swarms/available`."""
    arrange: Arrange
    hears: Hears = "everything"
