"""The names of a request's agents: those that the client gave, else names by position."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

from swarmstream.errors import Location, quote
from swarmstream.swarm.payloads import AgentSpec


@dataclass(frozen=True, slots=True)
class AgentNames:
    """The names of all agents, of those to hand off to as well."""

    by_location: Mapping[Location, str]
    generated: tuple[Location, ...]
    """The locations of agents to which the client gave no name."""

    def warnings(self) -> list[str]:
        """Return the sentence, if any, that tells the client which names were generated."""
        named = [f"{'.'.join(map(str, at))} is called {quote(self.by_location[at])}" for at in self.generated]
        return [f"no agent_name: {', '.join(named)}"] if named else []


def name_agents(specs: Mapping[Location, AgentSpec]) -> AgentNames:
    """Name these agents and their handoffs.

    The third agent of a list is "Agent 3" if it has no name; where that is taken, it gets the next number that is free.
    """
    numbered = [(at, position, spec) for position, (at, spec) in enumerate(specs.items(), start=1)]
    for at, _, spec in numbered:  # the list grows while it is walked
        handoffs = enumerate(spec.handoffs or ())
        numbered += [((*at, "handoffs", index), index + 1, other) for index, other in handoffs]
    taken = {spec.agent_name for _, _, spec in numbered}
    names: dict[Location, str] = {}
    generated: list[Location] = []
    for at, position, spec in numbered:
        if spec.agent_name is None:
            names[at] = next(name for number in count(position) if (name := f"Agent {number}") not in taken)
            taken.add(names[at])
            generated.append(at)
        else:
            names[at] = spec.agent_name
    return AgentNames(names, tuple(generated))
