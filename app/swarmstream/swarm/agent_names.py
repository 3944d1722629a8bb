"""The names of a request's agents: those that the client gave them, else by their position."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

from swarmstream.errors import Location, quote
from swarmstream.swarm.payloads import AgentSpec


@dataclass(frozen=True, slots=True)
class AgentNames:
    """The name of every agent by its place in the payload, of those to hand off to as well."""

    of: Mapping[Location, str]
    made: tuple[Location, ...]
    """The places of agents to which the client gave none."""

    def notes(self) -> list[str]:
        """What the client is told of it."""
        told = [f"{'.'.join(map(str, place))} is called {quote(self.of[place])}" for place in self.made]
        return [f"no agent_name: {', '.join(told)}"] if told else []


def agent_names(specs: Mapping[Location, AgentSpec]) -> AgentNames:
    """The names of these agents. The third of a list is "Agent 3" if it has none; where another one has that name, it
    gets the next number that is free."""
    places = [(at, position, spec) for position, (at, spec) in enumerate(specs.items(), start=1)]
    for at, _, spec in places:  # which grows meanwhile
        others = enumerate(spec.handoffs or ())
        places += [((*at, "handoffs", index), index + 1, other) for index, other in others]
    taken = {spec.agent_name for _, _, spec in places}
    names: dict[Location, str] = {}
    made: list[Location] = []
    for at, position, spec in places:
        if spec.agent_name is None:
            names[at] = next(name for number in count(position) if (name := f"Agent {number}") not in taken)
            taken.add(names[at])
            made.append(at)
        else:
            names[at] = spec.agent_name
    return AgentNames(names, tuple(made))
