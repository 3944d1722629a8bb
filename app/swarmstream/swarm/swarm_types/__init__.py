"""The swarm types: one module each, and the table of all. A new static type is a module and a row here."""

from collections.abc import Mapping
from typing import Final

from swarmstream.swarm.swarm_types.base import SwarmType
from swarmstream.swarm.swarm_types.concurrent import CONCURRENT
from swarmstream.swarm.swarm_types.rearrange import REARRANGE
from swarmstream.swarm.swarm_types.sequential import SEQUENTIAL

SWARM_TYPES: Final[Mapping[str, SwarmType]] = {
    swarm_type.name: swarm_type for swarm_type in (SEQUENTIAL, REARRANGE, CONCURRENT)
}
"""All swarm types by the name that clients give, in the order in which they are listed."""
